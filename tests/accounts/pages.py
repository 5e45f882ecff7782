"""What tests of pages share: reading a form's hidden fields and sending it as a browser would."""

import re
from html import unescape
from typing import Any

from fastapi.testclient import TestClient
from httpx import Response

PASSWORD = "seven quiet herons"


def send_form(browser: TestClient, page: str, action: str | None = None, **fields: Any) -> Response:
    """Open a page, fill in its form and send it to `action` (the page itself where not given)."""
    opened = browser.get(page)
    return browser.post(action or page, data={"csrf_token": token_in(opened), **fields})


def sign_in(browser: TestClient, email: str, password: str = PASSWORD, **fields: Any) -> Response:
    """Sign in by the form."""
    return send_form(browser, "/sign-in", email=email, password=password, **fields)


def home(browser: TestClient) -> str:
    """Where people go who asked for nothing in particular."""
    return str(browser.app.url_path_for("home"))  # type: ignore[attr-defined]


def token_in(page: Response) -> str:
    """The CSRF token that a page hands to its forms."""
    found = re.search(r'name="csrf_token" value="([^"]*)"', page.text)
    assert found, f"no form on {page.request.url}: {page.status_code}"
    return found[1]


def field_error(page: Response, name: str) -> str:
    """What a page says is wrong with a field, or nothing."""
    found = re.search(rf'id="{name}-error">([^<]*)<', page.text)
    return unescape(found[1]) if found else ""
