"""Ports: whether one is free, and one that is."""

import ipaddress
import socket

from app.errors import Conflict, Invalid


def refuse_taken_port(host: str, port: int) -> None:
    """Raise Conflict, with what to do, where another program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"Port {port} on {host} is taken by another program ({error.strerror}). Choose another: "
                f"`palate up --port {port + 1}`, or set PALATE_PORT. If it is another Palate, stop that one first."
            ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_without_address(host: str, base_url: object | None) -> None:
    """Raise Invalid where others can reach the pages and nothing says by which address."""
    if base_url is None and not is_loopback(host):
        raise Invalid(
            f"{host} can be reached from other machines, so PALATE_BASE_URL must say by which address people do, such "
            "as https://palate.example.org: links and cookies hang on it."
        )


def free_port() -> int:
    """A port on loopback that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
