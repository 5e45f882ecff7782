"""Style, scripts and pictures: read once, compressed once, kept by browsers for ever under a hash of what they hold.

The address in a page carries the hash, and so does that in a script which imports another. Under any other address,
an old page's or a newer version's, browsers ask anew each time: they never keep one content under another's hash.

A name such as `css/base.css+comparisons.css` stands for both files of the folder, one after the other, in one request.
"""

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.settings import ROOT

FOLDER = ROOT / "static"
KEPT_FOR_EVER = "public, max-age=31536000, immutable"
ASKED_ANEW = "no-cache"
LEAST_COMPRESSED = 500
"""Bytes; for less it is not worth it."""

_IMPORT = re.compile(r'(from\s*|import\s*\(?\s*)"\./([\w./-]+\.js)"')


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent. `version` is the hash of `content`, in which imports name the versions of others."""

    content: bytes
    compressed: bytes | None
    media_type: str
    version: str


async def serve_static(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI app behind `/static`."""
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        raise HTTPException(405)
    try:
        file = static_file(scope["path"].removeprefix(scope["root_path"]).lstrip("/"))
    except (OSError, ValueError):
        raise HTTPException(404) from None
    await _response(scope, file)(scope, receive, send)


def _response(scope: Scope, file: StaticFile) -> Response:
    asked = Headers(scope=scope)
    version = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("v")
    headers = {
        "ETag": f'"{file.version}"',
        "Cache-Control": KEPT_FOR_EVER if version == [file.version] else ASKED_ANEW,
        "Vary": "Accept-Encoding",
    }
    if f'"{file.version}"' in asked.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.compressed is not None and "gzip" in asked.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(file.compressed, headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)


def static_path(name: str) -> str:
    """Address of a static file with the hash of its content."""
    return f"/static/{name}?v={static_file(name).version}"


@lru_cache(maxsize=512)
def static_file(name: str) -> StaticFile:
    """A file of the folder by its path there; raises OSError or ValueError where there is none."""
    folder, _, files = name.rpartition("/")
    content = b"".join(_content(f"{folder}/{file}") for file in files.split("+"))
    if name.endswith(".js"):
        content = _IMPORT.sub(lambda found: _versioned(name, found), content.decode()).encode()
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    compressed = gzip.compress(content, 9, mtime=0) if _shrinks(media_type, len(content)) else None
    return StaticFile(content, compressed, media_type, hashlib.sha256(content).hexdigest()[:12])


def _content(name: str) -> bytes:
    path = (FOLDER / name.lstrip("/")).resolve()
    if not path.is_relative_to(FOLDER.resolve()):
        raise ValueError("outside of the folder")
    return path.read_bytes()


def _versioned(importer: str, found: "re.Match[str]") -> str:
    """An import with the version of what it imports; two that import each other would never end."""
    folder, _, _ = importer.rpartition("/")
    return f'{found[1]}"{static_path(f"{folder}/{found[2]}".lstrip("/"))}"'


def _shrinks(media_type: str, size: int) -> bool:
    is_text = media_type.startswith("text/") or media_type in {"image/svg+xml", "application/json"}
    return is_text and size >= LEAST_COMPRESSED
