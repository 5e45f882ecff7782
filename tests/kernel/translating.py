"""Which messages a translation holds, and keeping its file in step with the code.

`python -m tests.kernel.translating` brings every file up to date, and begins those of the languages that it is given.
"""

import re
import sys
import tempfile
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

from app.languages import FOLDER, FOR_ANNOTATORS
from tests.kernel.pseudo import extracted

ANNOTATORS_SOURCES = (
    "app/errors.py",
    "app/forms.py",
    "app/routing.py",
    "app/templating.py",
    "app/*/access.py",
    "app/accounts/browsers.py",
    "app/accounts/credentials.py",
    "app/accounts/models.py",
    "app/accounts/schemas.py",
    "app/accounts/service/joining.py",
    "app/accounts/service/links.py",
    "app/accounts/service/passwords.py",
    "app/accounts/service/people.py",
    "app/accounts/service/throttling.py",
    "app/accounts/views/account.py",
    "app/accounts/views/joining.py",
    "app/accounts/views/signing_in.py",
    "app/campaigns/service/leaving.py",
    "app/comparisons/*",
    "templates/base.html",
    "templates/_*",
    "templates/errors/*",
    "templates/forms/*",
    "templates/accounts/_password.html",
    "templates/accounts/_said.html",
    "templates/accounts/link.html",
    "templates/accounts/settings.html",
    "templates/accounts/sign_in.html",
    "templates/campaigns/_guidance.html",
    "templates/campaigns/_state.html",
    "templates/comparisons/*",
)
"""Where everything stands that annotators may see. A star stands for folders too."""

OTHERS_SOURCES = (
    "app/comparisons/browsing.py",
    "app/comparisons/changing.py",
    "app/comparisons/filters.py",
    "app/comparisons/jobs.py",
    "app/comparisons/models.py",
    "app/comparisons/previewing.py",
    "app/comparisons/service/queueing.py",
    "app/comparisons/service/rejecting.py",
    "app/comparisons/service/storing.py",
    "templates/comparisons/_change.html",
    "templates/comparisons/_found*.html",
    "templates/comparisons/_preview.html",
    "templates/comparisons/_seen_*.html",
    "templates/comparisons/browse.html",
    "templates/comparisons/campaign_work.html",
    "templates/comparisons/change.html",
    "templates/comparisons/confirm_change.html",
    "templates/comparisons/show.html",
)
"""What among them is for managers and researchers alone."""

FORGOTTEN = re.compile(r'"(Project-Id|Report-Msgid|POT-|PO-|Last-|Language-Team|Generated-By).*\n')
"""Lines of a file's head that say of what it is, and who wrote it when, with what; the repository knows."""


def is_for_annotators(source: str) -> bool:
    """Whether annotators see what stands in a file of the repository."""
    return _is_among(ANNOTATORS_SOURCES, source) and not _is_among(OTHERS_SOURCES, source)


def _is_among(patterns: tuple[str, ...], source: str) -> bool:
    return any(fnmatchcase(source, pattern) for pattern in patterns)


def messages_for(language: str, every: Catalog) -> Catalog:
    """What a translation into the language holds of every message: all, or those that annotators see."""
    wanted = Catalog(fuzzy=False)
    for message in every:
        sources = sorted({source for source, _line in message.locations})
        if language in FOR_ANNOTATORS:
            sources = list(filter(is_for_annotators, sources))
        if message.id and sources:
            wanted.add(message.id, flags=message.flags, locations=[(source, 0) for source in sources])
    return wanted


def translation(path: Path) -> Catalog:
    """What a file holds."""
    return read_po(BytesIO(path.read_bytes()), locale=path.parts[-3], domain="palate")


def up_to_date(path: Path, every: Catalog) -> str:
    """The file as it should be: every message once, in a set order, and nothing that is no longer said."""
    language = path.parts[-3]
    if path.exists():
        held = translation(path)
    else:
        held = Catalog(locale=language, header_comment=f"# Palate in {language}", fuzzy=False)
    held.update(messages_for(language, every), no_fuzzy_matching=True, update_header_comment=False)
    held.obsolete.clear()
    written = BytesIO()
    write_po(written, held, width=0, sort_by_file=True, include_lineno=False, omit_header=False)
    return FORGOTTEN.sub("", written.getvalue().decode())


def is_translated(message: Message) -> bool:
    """Whether a message is said in the language, in each of its forms."""
    forms = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
    return all(forms) and not message.fuzzy


def main(begun: list[str]) -> None:
    """Bring all files up to date, and say what is left to do in each."""
    with tempfile.TemporaryDirectory() as folder:
        every = extracted(Path(folder))
    files = {*FOLDER.glob("*/LC_MESSAGES/palate.po"), *(FOLDER / each / "LC_MESSAGES" / "palate.po" for each in begun)}
    for path in sorted(files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(up_to_date(path, every))
        left = sum(not is_translated(message) for message in translation(path) if message.id)
        print(f"{path}: {left} messages to be translated")


if __name__ == "__main__":
    main(sys.argv[1:])
