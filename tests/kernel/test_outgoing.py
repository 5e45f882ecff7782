"""Requests that admins' addresses cause go to public addresses over https, or to what the settings list, and nowhere
else: whatever a name is given meanwhile, and whatever the other side answers.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from app.outgoing import (
    AddressRefused,
    AnswerTooLarge,
    AnswerTooSlow,
    checked_url,
    is_public,
    outgoing,
    outgoing_stream,
    permitted,
    read_bounded,
)
from tests.factories.foreign import Answer, Foreign, foreign_server


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    """A server within the machine."""
    with foreign_server() as server:
        server.reply = lambda _body: Answer(body={"here": True})
        yield server


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.1.2", "0.0.0.0", "10.1.2.3",  # noqa: S104
        "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1",
        "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
        "2001:db8::1",
    ],
)  # fmt: skip
def test_what_is_not_out_in_the_internet_is_told(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_is_out_in_the_internet_is_told(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_one_private_address_among_public_ones_is_enough_to_refuse_a_name() -> None:
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.7"):
        permitted(["8.8.8.8", "10.0.0.7"], host="mixed.example", may_be_private=False)
    assert permitted(["10.0.0.7"], host="listed.example", may_be_private=True) == ["10.0.0.7"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://models.example.org", "full address"),
        ("models.example.org/v1", "full address"),
        ("https://", "full address"),
        ("https://models.example.org:99999/v1", "full address"),
        ("https://a b.example.org", "full address"),
        ("https://[::1", "full address"),
        ("file:///etc/passwd", "full address"),
        ("https://key@models.example.org/v1", "Leave name and password out"),
        ("https://models.example.org/v1?key=1", "without"),
        ("http://models.example.org/v1", "Use https"),
    ],
)
def test_an_address_that_will_not_do_is_refused_with_what_to_do(address: str, said: str) -> None:
    with pytest.raises(AddressRefused, match=said):
        checked_url(address, listed=[])


def test_a_listed_origin_needs_no_https_and_its_port_may_be_written_either_way() -> None:
    assert checked_url("http://inside.example/v1/", listed=["http://inside.example:80"]) == "http://inside.example/v1"
    with pytest.raises(AddressRefused):
        checked_url("http://inside.example:81/v1", listed=["http://inside.example"])
    with pytest.raises(AddressRefused):
        checked_url("http://inside.example.evil.example/v1", listed=["http://inside.example"])


def test_whatever_is_private_is_refused_before_anything_is_sent(foreign: Foreign) -> None:
    with outgoing(listed=[]) as client:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            with pytest.raises((AddressRefused, httpx.InvalidURL, httpx.ConnectError)):
                client.post(f"https://{host}:{foreign.port}/v1", json={})
    assert foreign.asked == []


def test_a_listed_origin_is_asked_and_its_name_stays_in_the_request(foreign: Foreign) -> None:
    with outgoing(listed=[f"http://localhost:{foreign.port}"]) as client:
        assert client.post(f"http://localhost:{foreign.port}/v1", json={}).json() == {"here": True}
        with pytest.raises(AddressRefused):
            client.post(f"http://127.0.0.1:{foreign.port}/v1", json={})
    assert [headers["host"] for headers in foreign.headers] == [f"localhost:{foreign.port}"]


def test_a_name_that_changes_its_address_after_the_check_leads_nowhere(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, every later one points into the machine."""
    resolved: list[str] = []
    connected: list[str] = []
    real_connect = socket.socket.connect

    def rebinding(host: str, port: int, *args: object, **given: object) -> list[tuple[object, ...]]:
        ip = host if host[0].isdigit() else ("127.0.0.1" if "rebinding.example" in resolved else "203.0.114.9")
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        if address[0] == "203.0.114.9":
            raise ConnectionRefusedError("nobody is there")
        real_connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with outgoing(listed=[]) as client:
        with pytest.raises(httpx.ConnectError):
            client.post(f"https://rebinding.example:{foreign.port}/v1", json={})
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
            client.post(f"https://rebinding.example:{foreign.port}/v1", json={})
    assert connected == ["203.0.114.9"]
    assert foreign.asked == []


def test_a_redirect_is_not_followed(foreign: Foreign) -> None:
    foreign.reply = lambda _body: Answer(302, b"", headers={"Location": f"{foreign.origin}/elsewhere"})
    with outgoing(listed=[foreign.origin]) as client:
        assert client.post(foreign.base_url, json={}).status_code == 302
    assert len(foreign.asked) == 1


def test_a_stream_is_held_to_the_same(foreign: Foreign) -> None:
    async def asked(listed: list[str]) -> int:
        async with outgoing_stream(listed=listed) as client:
            return (await client.post(foreign.base_url, json={})).status_code

    assert asyncio.run(asked([foreign.origin])) == 200
    with pytest.raises(AddressRefused):
        asyncio.run(asked([]))


def body_of(foreign: Foreign, *, most_bytes: int, seconds: float = 5.0) -> bytes:
    """What is read of an answer."""
    with (
        outgoing(listed=[foreign.origin]) as client,
        client.stream("POST", foreign.base_url, json={}) as response,
    ):
        return read_bounded(response, most_bytes=most_bytes, until=time.monotonic() + seconds)


def test_an_answer_is_read_up_to_a_size_and_no_further(foreign: Foreign) -> None:
    foreign.reply = lambda _body: Answer(pieces=[b"x" * 1000] * 1000)
    assert len(body_of(foreign, most_bytes=2_000_000)) == 1_000_000
    with pytest.raises(AnswerTooLarge):
        body_of(foreign, most_bytes=10_000)


def test_an_answer_that_drips_ends_at_its_time(foreign: Foreign) -> None:
    foreign.reply = lambda _body: Answer(pieces=[b"."] * 100, pause_seconds=0.05)
    begun = time.monotonic()
    with pytest.raises(AnswerTooSlow):
        body_of(foreign, most_bytes=1000, seconds=0.3)
    assert time.monotonic() - begun < 3


def test_an_answer_that_comes_packed_is_not_unpacked(foreign: Foreign) -> None:
    foreign.reply = lambda _body: Answer(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    with pytest.raises(AnswerTooLarge, match="packed"):
        body_of(foreign, most_bytes=1000)
    assert foreign.headers[0]["accept-encoding"] == "identity"
