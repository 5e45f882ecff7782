"""Ports: whether one is free, and one that is."""

import socket

from app.errors import Conflict


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


def free_port() -> int:
    """A port on loopback that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
