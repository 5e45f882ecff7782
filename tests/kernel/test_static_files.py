"""Static files are kept for ever under the hash of what they hold, and under no other address."""

import gzip
import re

import pytest
from fastapi.testclient import TestClient

from app.settings import ROOT
from app.static_files import static_path

ADDRESS = re.compile(r'(?:href|src)="(/static/[^"]+)"')


def test_a_file_is_kept_for_ever_only_under_the_hash_of_its_content(visitor: TestClient) -> None:
    address = static_path("css/base.css")
    assert "immutable" in visitor.get(address).headers["cache-control"]
    for other in ("/static/css/base.css", "/static/css/base.css?v=abc", f"{address}x", f"{address}&v=abc"):
        answer = visitor.get(other)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache"), other


def test_every_file_that_a_page_links_has_its_hash(visitor: TestClient) -> None:
    addresses = ADDRESS.findall(visitor.get("/sign-in").text)
    assert len(addresses) >= 3
    for address in addresses:
        assert "immutable" in visitor.get(address).headers["cache-control"], address


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "static/js").glob("*.js")))
def test_a_script_imports_others_by_their_hash(visitor: TestClient, script: str) -> None:
    source = visitor.get(f"/static/js/{script}").text
    for imported in re.findall(r'(?:from\s*|import\s*\(?\s*)"([^"]+)"', source):
        assert "immutable" in visitor.get(imported).headers["cache-control"], imported


def test_the_judging_script_imports_the_outbox(visitor: TestClient) -> None:
    assert f'from "{static_path("js/outbox.js")}"' in visitor.get("/static/js/judging.js").text


def test_what_a_browser_has_is_not_sent_again(visitor: TestClient) -> None:
    first = visitor.get("/static/css/base.css")
    again = visitor.get("/static/css/base.css", headers={"If-None-Match": f"W/{first.headers['etag']}"})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])


def test_a_file_is_compressed_for_who_reads_that(visitor: TestClient) -> None:
    plain = visitor.get("/static/css/base.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = visitor.get("/static/css/base.css", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content == (ROOT / "static/css/base.css").read_bytes()
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content, 1))
    assert packed.headers["content-type"] == "text/css; charset=utf-8"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert visitor.head("/static/css/base.css").content == b""


@pytest.mark.parametrize(
    "path", ["", "css", "no.css", "../app/main.py", "..%2Fapp%2Fmain.py", "%2Fetc%2Fpasswd", "a%00b", "x" * 3000]
)
def test_there_is_nothing_beside_the_files(visitor: TestClient, path: str) -> None:
    answer = visitor.get(f"/static/{path}")
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_files_are_only_read(visitor: TestClient) -> None:
    assert visitor.post("/static/css/base.css").status_code == 405


def test_two_styles_come_in_one_request(visitor: TestClient) -> None:
    both = visitor.get(static_path("css/base.css+comparisons.css"))
    folder = ROOT / "static/css"
    assert both.content == (folder / "base.css").read_bytes() + (folder / "comparisons.css").read_bytes()
    assert both.headers["content-type"].startswith("text/css")
    for outside in ("css/base.css+../../pyproject.toml", "css/base.css+", "css/base.css+no.css"):
        assert visitor.get(f"/static/{outside}").status_code == 404
