"""What the model server is started with: its command line, and tokens from the environment."""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.serving.prompts import Limits

ADMIN_TOKEN_VARIABLE = "PALATE_MODEL_SERVER_TOKEN"  # noqa: S105
API_KEY_VARIABLE = "PALATE_MODEL_SERVER_API_KEY"
MIN_TOKEN_CHARACTERS = 16
DEFAULT_PORT = 8471


class SettingsError(Exception):
    """Settings that the server does not start with; the message says what to change."""


@dataclass(frozen=True)
class ServerSettings:
    """How one model server runs."""

    host: str
    port: int
    """0 takes a free one, named in the first line of output."""
    allowed_roots: tuple[Path, ...]
    """Folders that models may be loaded from, links followed."""
    admin_token: str
    admin_token_was_drawn: bool
    """Whether the token is new and has to be shown to whoever started the server."""
    api_key: str | None
    """Asked of those who want completions; None: anyone who reaches the server may have them."""
    threads: int
    """CPU threads that the matrix products of a larger model are spread over."""
    device: str
    """`cpu`, `cuda`, or `auto` for a GPU where there is one."""
    max_model_bytes: int
    """What the weights of all loaded versions may take together."""
    max_choices: int
    """Completions decoded at once, and the largest `n` of a request."""
    max_waiting: int
    """Requests that may wait for their turn; more are refused with 429."""
    max_body_bytes: int
    """Size of a request's body; a larger one is refused with 413."""
    limits: Limits
    """How long prompts and completions may be."""
    models: tuple[tuple[str, str], ...] = ()
    """Versions to load before the first request: name and path."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Aliases to set before the first request: alias and version."""


def parse_settings(argv: Sequence[str] | None, environment: Mapping[str, str]) -> ServerSettings:
    """Settings from the command line and the two token variables. Raises SettingsError; `--help` exits."""
    options = _parser().parse_args(argv)
    token = environment.get(ADMIN_TOKEN_VARIABLE, "").strip()
    api_key = environment.get(API_KEY_VARIABLE, "").strip()
    if not is_loopback(options.host):
        _require_tokens(options.host, {ADMIN_TOKEN_VARIABLE: token, API_KEY_VARIABLE: api_key})
    return ServerSettings(
        host=options.host,
        port=options.port,
        allowed_roots=tuple(_root(path) for path in options.allowed_root),
        admin_token=token or secrets.token_urlsafe(32),
        admin_token_was_drawn=not token,
        api_key=api_key or None,
        threads=options.threads,
        device=options.device,
        max_model_bytes=options.max_model_bytes or default_model_bytes(),
        max_choices=options.max_choices,
        max_waiting=options.max_waiting,
        max_body_bytes=options.max_body_bytes,
        limits=Limits(options.max_prompt_tokens, options.max_tokens, options.default_max_tokens),
        models=tuple(options.model),
        aliases=tuple(options.alias),
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server listening on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_model_bytes() -> int:
    """Half of the memory that this process may use."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        available = min(available, int(text))
    return available // 2


def _require_tokens(host: str, tokens: Mapping[str, str]) -> None:
    for variable, value in tokens.items():
        if len(value) < MIN_TOKEN_CHARACTERS:
            raise SettingsError(
                f"{host} can be reached from other machines, so {variable} must hold a secret of at least "
                f"{MIN_TOKEN_CHARACTERS} characters. Set it, or listen on 127.0.0.1."
            )


def _root(path: str) -> Path:
    """A root may be made later, as the folder of runs is."""
    root = Path(path).resolve()
    if root.exists() and not root.is_dir():
        raise SettingsError(f"--allowed-root {path} is a file; name the folder that holds model folders.")
    return root


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer serve",
        description="Serve language models over an OpenAI-compatible API.",
        epilog=f"The admin token is read from {ADMIN_TOKEN_VARIABLE} (drawn and printed where it is not set), "
        f"the key for completions from {API_KEY_VARIABLE} (needed beyond loopback only).",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=DEFAULT_PORT, help="port to listen on; 0 takes a free one (%(default)s)")
    add("--allowed-root", action="append", required=True, metavar="PATH", help="folder that models may lie in")
    add("--model", action="append", default=[], type=_pair, metavar="NAME=PATH", help="load a model folder at start")
    add("--alias", action="append", default=[], type=_pair, metavar="ALIAS=NAME", help="point an alias at start")
    add("--threads", type=_positive, default=os.cpu_count() or 1, help="CPU threads for a larger model (%(default)s)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute (%(default)s)")
    add("--max-model-bytes", type=_positive, help="memory for all weights together (half of the machine's)")
    add("--max-choices", type=_positive, default=64, help="completions decoded at once (%(default)s)")
    add("--max-waiting", type=_positive, default=256, help="requests that may wait (%(default)s)")
    add("--max-body-bytes", type=_positive, default=8 * 1024 * 1024, help="size of a request's body (%(default)s)")
    add("--max-prompt-tokens", type=_positive, help="longest prompt (what the model's context holds)")
    add("--max-tokens", type=_positive, help="longest completion that may be asked for (what the context holds)")
    add("--default-max-tokens", type=_positive, default=1024, help="where a request names none (%(default)s)")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} lacks its two sides, as in NAME=VALUE")
    return name, value
