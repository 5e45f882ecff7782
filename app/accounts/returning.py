"""Where to go after signing in: an address from outside is only trusted to name a page of this site."""

from urllib.parse import urlsplit


def same_site_path(address: str) -> str | None:
    """The address if it is a plain path on this site, else None.

    Browsers read `//host`, `/\\host` and `/<tab>/host` as other sites, so none of these characters pass.
    """
    if not address.startswith("/") or address.startswith("//") or len(address) > 2000:
        return None
    if "\\" in address or any(ord(character) <= 0x20 or ord(character) == 0x7F for character in address):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else address
