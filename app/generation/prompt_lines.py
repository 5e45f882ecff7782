"""What a line of a prompt file says: a prompt with tags and metadata, or why it cannot be one.

JSONL: a line is a text, or an object with `prompt` (a text, or a list of messages) or `messages`; `id`, `tags`
and `category` mean what they say, every other field is kept as metadata. CSV: the same by columns.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.generation.normalising import messages_sha256
from app.wording import gettext as _

ROLES = ("system", "user", "assistant")
LONGEST_PROMPT = 50_000
"""Characters of all messages together."""

MOST_MESSAGES = 200
MOST_TAGS = 50
LONGEST_TAG = 100
LONGEST_ID = 500

PROMPT_COLUMNS = ("prompt", "text", "question", "instruction", "input")
"""Headers under which a CSV file may hold its prompts; the first of these that occurs counts."""

ID_COLUMNS = ("id", "external_id", "prompt_id")
TAG_COLUMNS = ("tags", "tag", "category")
DELIMITERS = ",;\t"


NUL_FOUND = "holds a NUL character, which the database cannot store"


class BadLine(ValueError):
    """Why a line cannot be taken in, in words that complete "Line 7: …"."""


@dataclass(frozen=True)
class PromptDraft:
    """A prompt that may be stored: checked messages, their hash, and what came with them."""

    messages: list[dict[str, Any]]
    text_sha256: str
    tags: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    external_id: str | None = None


@dataclass(frozen=True)
class CsvHeader:
    """Where a CSV file holds what: places of columns by role, and the names of all the others."""

    delimiter: str
    prompt: int
    id: int | None
    tags: list[int]
    others: dict[int, str]
    width: int


def draft_from_json(line: bytes) -> PromptDraft:
    """The prompt that a line of JSON states; raises BadLine."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine(_json_problem(line, error)) from None
    if isinstance(value, str):
        return prompt_draft([{"role": "user", "content": value}])
    if not isinstance(value, dict):
        raise BadLine(_("neither a text nor an object with a prompt"))
    return _draft_from_object(value)


def _draft_from_object(value: dict[str, Any]) -> PromptDraft:
    given = [name for name in ("prompt", "messages") if value.get(name) is not None]
    if len(given) != 1:
        raise BadLine(_("has no prompt") if not given else _("has both prompt and messages; one of them is enough"))
    content = value[given[0]]
    if given == ["prompt"] and isinstance(content, str):
        content = [{"role": "user", "content": content}]
    known = {"prompt", "messages", "id", "tags", "category"}
    return prompt_draft(
        content,
        tags=[*_tags(value.get("tags"), "tags"), *_tags(value.get("category"), "category")],
        details={name: item for name, item in value.items() if name not in known},
        external_id=_external_id(value.get("id")),
    )


def read_csv_header(line: str) -> CsvHeader:
    """Where the columns are; the delimiter is the one that makes a prompt column appear. Raises BadLine."""
    for delimiter in DELIMITERS:
        names = [name.strip().strip('"').strip().casefold() for name in line.strip().split(delimiter)]
        prompt = next((names.index(name) for name in PROMPT_COLUMNS if name in names), None)
        if prompt is not None:
            return _header(names, delimiter=delimiter, prompt=prompt)
    raise BadLine(_("the header names no prompt column; call it one of: %(names)s", names=", ".join(PROMPT_COLUMNS)))


def _header(names: list[str], *, delimiter: str, prompt: int) -> CsvHeader:
    identity = next((names.index(name) for name in ID_COLUMNS if name in names), None)
    tags = [place for place, name in enumerate(names) if name in TAG_COLUMNS]
    taken = {prompt, identity, *tags}
    others = {
        place: name or _("column %(number)s", number=place + 1)
        for place, name in enumerate(names)
        if place not in taken
    }
    return CsvHeader(delimiter=delimiter, prompt=prompt, id=identity, tags=tags, others=others, width=len(names))


def draft_from_cells(header: CsvHeader, cells: list[str]) -> PromptDraft:
    """The prompt that a row of a CSV file states; raises BadLine."""
    if any(_is_undecodable(cell) for cell in cells):
        raise BadLine(_("not valid UTF-8"))
    if len(cells) > header.width:
        raise BadLine(
            _(
                "has %(len)s cells where the header has %(width)s; are its commas quoted?",
                len=len(cells),
                width=header.width,
            )
        )
    cells = cells + [""] * (header.width - len(cells))
    return prompt_draft(
        [{"role": "user", "content": cells[header.prompt]}],
        tags=[tag for place in header.tags for tag in split_tags(cells[place])],
        details={name: cells[place] for place, name in header.others.items() if cells[place].strip()},
        external_id=_external_id(cells[header.id] if header.id is not None else None),
    )


def prompt_draft(
    messages: Any, *, tags: Iterable[str] = (), details: dict[str, Any] | None = None, external_id: str | None = None
) -> PromptDraft:
    """A prompt of these messages, checked; raises BadLine with what is wrong."""
    checked = checked_messages(messages)
    if holds_nul(external_id):
        raise BadLine(NUL_FOUND)
    return PromptDraft(
        messages=checked,
        text_sha256=messages_sha256(checked),
        tags=tidy_tags(tags),
        details=_checked_details(details or {}),
        external_id=external_id,
    )


def checked_messages(value: Any) -> list[dict[str, Any]]:
    """Chat messages that may be a prompt: known roles, texts that say something, a user's turn at the end."""
    if not isinstance(value, list):
        raise BadLine(_("the prompt is neither a text nor a list of messages"))
    if not value:
        raise BadLine(_("the list of messages is empty"))
    if len(value) > MOST_MESSAGES:
        raise BadLine(
            _(
                "has %(len)s messages; at most %(most_messages)s are taken",
                len=f"{len(value):,}",
                most_messages=MOST_MESSAGES,
            )
        )
    messages = [_checked_message(item, place) for place, item in enumerate(value, 1)]
    if messages[-1]["role"] != "user":
        raise BadLine(_("ends with a turn of the %(role)s; a prompt ends with the user's", role=messages[-1]["role"]))
    length = sum(len(message["content"]) for message in messages)
    if length > LONGEST_PROMPT:
        raise BadLine(
            _(
                "has %(length)s characters; at most %(longest_prompt)s are taken",
                length=f"{length:,}",
                longest_prompt=f"{LONGEST_PROMPT:,}",
            )
        )
    return messages


def _checked_message(item: Any, place: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise BadLine(_("message %(place)s is not an object with role and content", place=place))
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise BadLine(_("message %(place)s has no role among %(roles)s", place=place, roles=", ".join(ROLES)))
    if not isinstance(content, str):
        raise BadLine(_("the content of message %(place)s is not a text", place=place))
    if not content.strip():
        raise BadLine(_("the prompt is empty") if role == "user" else _("message %(place)s is empty", place=place))
    if holds_nul(content):
        raise BadLine(NUL_FOUND)
    return {"role": role, "content": content.replace("\r\n", "\n")}


def _checked_details(details: dict[str, Any]) -> dict[str, Any]:
    try:
        written = orjson.dumps(details)
    except orjson.JSONEncodeError:
        raise BadLine(_("its metadata is nested too deeply")) from None
    if b"\\u0000" in written and holds_nul(details):
        raise BadLine(NUL_FOUND)
    return details


def split_tags(text: str) -> list[str]:
    """Tags written as one text, separated by semicolons."""
    return [tag for tag in text.split(";") if tag.strip()]


def tidy_tags(tags: Iterable[str]) -> list[str]:
    """Tags on one line each, without repeats, in the order given; raises BadLine for too many or too long ones."""
    tidied = list(dict.fromkeys(" ".join(tag.split()) for tag in tags if tag.strip()))
    if len(tidied) > MOST_TAGS:
        raise BadLine(_("has %(len)s tags; at most %(most_tags)s are taken", len=len(tidied), most_tags=MOST_TAGS))
    if any(len(tag) > LONGEST_TAG for tag in tidied):
        raise BadLine(_("has a tag of more than %(longest_tag)s characters", longest_tag=LONGEST_TAG))
    if holds_nul(tidied):
        raise BadLine(NUL_FOUND)
    return tidied


def _tags(value: Any, name: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return split_tags(value) if name == "tags" else [value]
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return value
    raise BadLine(_("%(name)s is neither a text nor a list of texts", name=name))


def _external_id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadLine(_("id is neither a text nor a number"))
    if len(str(value)) > LONGEST_ID:
        raise BadLine(_("has an id of more than %(longest_id)s characters", longest_id=LONGEST_ID))
    return str(value).strip() or None


def holds_nul(value: Any) -> bool:
    """Whether a NUL character, which PostgreSQL cannot store, is anywhere in a JSON value."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(holds_nul(item) for pair in value.items() for item in pair)
    return isinstance(value, list) and any(holds_nul(item) for item in value)


def _is_undecodable(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _json_problem(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return _("not valid UTF-8 at byte %(place)s", place=undecodable.start + 1)
    return _(
        "not valid JSON: %(fault)s at character %(place)s",
        fault=error.msg.partition(": line ")[0],
        place=error.pos + 1,
    )
