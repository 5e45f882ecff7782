"""Requests to addresses that admins entered: to nowhere but where they were meant to go.

A name is resolved once, every address that it has is checked, and the connection goes to a checked one, so that a
name which is given other addresses meanwhile (DNS rebinding) leads nowhere. Private, loopback and link-local addresses,
and anything but https, take an origin that the settings list. Redirects are not followed, proxies of the machine not
used, and an answer ends at a stated size and time.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx

from app.errors import Invalid
from app.wording import gettext as _

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
DEFAULT_PORTS = {"http": 80, "https": 443}
CONNECT_SECONDS = 5.0


class AddressRefused(Invalid):
    """An address to which Palate sends nothing."""


class AnswerTooLarge(httpx.HTTPError):
    """An answer of more bytes than were allowed for."""


class AnswerTooSlow(httpx.TimeoutException):
    """An answer that was not whole in time, however steadily it dripped."""


def origin_of(url: str) -> str:
    """`https://host:port` of an address, with the port written out. Raises AddressRefused where it is no address."""
    parts = _parts(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].rpartition(':')[0]}:{parts.port}"


def checked_url(url: str, *, listed: Sequence[str]) -> str:
    """An address fit to be asked, without a slash at its end; `listed` are origins that need not be public or https.

    Nothing is resolved here: that is done at each request. Raises AddressRefused, saying what to do.
    """
    parts = _parts(url.strip())
    if parts.username or parts.password:
        raise AddressRefused(_("Leave name and password out of the address: keys come from the environment."))
    if parts.query or parts.fragment:
        raise AddressRefused(_("Give the address without ? and #."))
    if parts.scheme != "https" and not is_listed(url, listed):
        raise AddressRefused(
            _(
                "Use https, or have PALATE_ENDPOINT_ORIGINS list %(origin)s if it may be asked without.",
                origin=origin_of(url),
            )
        )
    return url.strip().rstrip("/")


def is_listed(url: str, listed: Sequence[str]) -> bool:
    """Whether the settings name the address's origin, whichever way its port is written."""
    return origin_of(url) in {origin_of(origin) for origin in listed}


def _parts(url: str) -> SplitResult:
    """The parts of an address, its port written out."""
    wrong = AddressRefused(_("Give a full address, such as https://models.example.org/v1."))
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        httpx.URL(url.strip())
    except (ValueError, httpx.InvalidURL) as error:
        raise wrong from error
    if parts.scheme not in DEFAULT_PORTS or not host or any(char.isspace() for char in url.strip()):
        raise wrong
    if port == 0:
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    credentials = parts.netloc.rpartition("@")
    netloc = f"{credentials[0]}{credentials[1]}{shown}:{port or DEFAULT_PORTS[parts.scheme]}"
    return parts._replace(netloc=netloc)


# --- Which addresses


def is_public(address: Address) -> bool:
    """Whether an address is out in the internet, an IPv4 address within an IPv6 one included."""
    if isinstance(address, ipaddress.IPv6Address):
        if (inner := _embedded(address)) is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    is_translated = address in _NAT64 or int(address) >> 32 == 0
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF) if is_translated and int(address) > 1 else None


def permitted(found: Sequence[str], *, host: str, may_be_private: bool) -> list[str]:
    """The addresses of a host, if every one of them may be asked. Raises AddressRefused for the first that may not."""
    addresses = list(dict.fromkeys(found))
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not may_be_private and not is_public(address):
            raise AddressRefused(
                _(
                    "%(host)s is %(address)s, which is not a public address. Have PALATE_ENDPOINT_ORIGINS list its "
                    "origin if it may be asked.",
                    host=host,
                    address=text,
                )
            )
    return addresses


# --- Connecting to the address that was checked


@dataclass(frozen=True)
class _Target:
    """A request's host and port, and whether its origin is listed."""

    host: str
    port: int
    may_be_private: bool

    @classmethod
    def of(cls, request: httpx.Request, listed: Sequence[str]) -> "_Target":
        """Where a request wants to go. Raises AddressRefused where that takes a listed origin."""
        url = str(request.url)
        checked_url(str(request.url.copy_with(query=None, fragment=None)), listed=listed)
        return cls(
            host=request.url.host,
            port=request.url.port or DEFAULT_PORTS[request.url.scheme],
            may_be_private=is_listed(url, listed),
        )

    def addresses(self, found: Sequence[tuple[object, ...]]) -> list[str]:
        """The checked addresses in what a resolver found."""
        texts = [str(entry[4][0]) for entry in found if isinstance(entry[4], tuple)]
        return permitted(texts, host=self.host, may_be_private=self.may_be_private)


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to one address; certificate and virtual host stay those of the name."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _unknown(target: _Target, request: httpx.Request) -> httpx.ConnectError:
    return httpx.ConnectError(_("There is no host called %(host)s.", host=target.host), request=request)


class CheckedTransport(httpx.BaseTransport):
    """Resolves, checks, and connects to what was checked; addresses of a name are tried one after the other."""

    def __init__(self, *, listed: Sequence[str]) -> None:
        self._listed = list(listed)
        self._inner = httpx.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        target = _Target.of(request, self._listed)
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _unknown(target, request) from error
        *others, last = target.addresses(found)
        for address in others:
            try:
                return self._inner.handle_request(_pinned(request, address))
            except httpx.ConnectError:
                continue
        return self._inner.handle_request(_pinned(request, last))

    def close(self) -> None:
        """Let go of connections."""
        self._inner.close()


class AsyncCheckedTransport(httpx.AsyncBaseTransport):
    """The same for what streams."""

    def __init__(self, *, listed: Sequence[str]) -> None:
        self._listed = list(listed)
        self._inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        target = _Target.of(request, self._listed)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _unknown(target, request) from error
        *others, last = target.addresses(found)
        for address in others:
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except httpx.ConnectError:
                continue
        return await self._inner.handle_async_request(_pinned(request, last))

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._inner.aclose()


@contextmanager
def outgoing(*, listed: Sequence[str]) -> Iterator[httpx.Client]:
    """A client that asks nobody but whom it may."""
    # Packed answers are not asked for: a few bytes could unfold into many before anybody counts them.
    headers = {"Accept-Encoding": "identity", "User-Agent": "Palate"}
    with httpx.Client(transport=CheckedTransport(listed=listed), headers=headers, trust_env=False) as client:
        yield client


@asynccontextmanager
async def outgoing_stream(*, listed: Sequence[str]) -> AsyncIterator[httpx.AsyncClient]:
    """The same for what streams."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "Palate"}
    transport = AsyncCheckedTransport(listed=listed)
    async with httpx.AsyncClient(transport=transport, headers=headers, trust_env=False) as client:
        yield client


def read_bounded(response: httpx.Response, *, most_bytes: int, until: float) -> bytes:
    """The body of a streamed response. Raises AnswerTooLarge, or AnswerTooSlow after `until` (time.monotonic)."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise AnswerTooLarge(_("It was sent packed, though nobody asked for that."))
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > most_bytes:
            raise AnswerTooLarge(_("It has more than %(most)s bytes.", most=f"{most_bytes:,}"))
        if time.monotonic() > until:
            raise AnswerTooSlow(_("It was not whole in time."))
    return bytes(body)
