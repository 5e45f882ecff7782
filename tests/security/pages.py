"""Reading a page as a browser would, and finding what does not belong there."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from tests.security.hostile import EVIL

Attributes = list[tuple[str, str | None]]
ADDRESSES = {"src", "srcset", "href", "action", "formaction", "data", "poster", "ping", "background"}
HERE = "http://palate.test/campaigns/1/judge"
REORDERING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


class Smuggled(HTMLParser):
    """Collects whatever in a page acts for somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.is_in_head = False

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        for name, value in attrs:
            if wrong := self._wrong(tag, name, value or ""):
                self.found.append(f"{wrong}: <{tag} {name}={value!r}>"[:300])
        if tag == "style" or (tag == "script" and not dict(attrs).get("src")):
            self.found.append(f"inline <{tag}>")
        self.is_in_head = tag == "head" or (self.is_in_head and tag != "body")
        if tag == "meta" and dict(attrs).get("http-equiv") and not self._looks_again(dict(attrs)):
            self.found.append("a <meta> that steers")

    def _looks_again(self, attrs: dict[str, str | None]) -> bool:
        """Whether a page that waits for something says in its head that it is to be loaded again, and nothing else."""
        return self.is_in_head and (attrs.get("http-equiv"), attrs.get("content")) == ("refresh", "3")

    def _wrong(self, tag: str, name: str, value: str) -> str | None:
        if name.startswith("on") or name == "style":
            return "an attribute that runs"
        if name in ADDRESSES and not leads_nowhere_bad(value, is_link=(tag, name) == ("a", "href")):
            return "an address of somebody else's"
        if EVIL in value and (name.startswith(("hx-", "data-hx-")) or name in {"id", "name", "class", "for"}):
            return "a hook of somebody else's"
        return None

    def handle_decl(self, decl: str) -> None:
        if EVIL in decl:
            self.found.append(f"a declaration: {decl!r}"[:200])

    def handle_comment(self, data: str) -> None:
        if EVIL in data:
            self.found.append(f"a comment: {data!r}"[:200])


def leads_nowhere_bad(address: str, *, is_link: bool) -> bool:
    """Whether an address is on our own site; a link, which people follow knowingly, may lead to another."""
    try:
        parts = urlsplit(urljoin(HERE, address.strip("".join(map(chr, range(33))))))
    except ValueError:
        return True  # no browser goes there
    return parts.hostname == "palate.test" or (is_link and parts.scheme in {"http", "https", "mailto"})


def smuggled_into(html: str) -> list[str]:
    """All that a page holds of somebody else's that acts, loads, steers, hides or reorders."""
    reader = Smuggled()
    reader.feed(html)
    reader.close()
    hidden = [f"reorders: U+{ord(character):04X}" for character in REORDERING if character in html]
    return reader.found + hidden
