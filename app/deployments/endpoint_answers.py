"""What another server answered: a JSON object, or an error in whichever way servers write errors."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from app.deployments.model_server import ModelServerDown, ModelServerRefused
from app.wording import gettext as _

MOST_SAID = 300
"""Characters of a server's own words that people are shown."""
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504, 529}


class EndpointRefused(ModelServerRefused):
    """The server answers, and will not do this; trying again would not help."""


class RequestRefused(EndpointRefused):
    """The server takes a part of the request amiss; `parameter` and `code` are its own words for which."""

    def __init__(self, message: str, *, parameter: str = "", code: str = "") -> None:
        super().__init__(message)
        self.parameter, self.code = parameter, code


def read_object(content: bytes) -> dict[str, Any]:
    """The JSON object that an answer is. Raises EndpointRefused where it is none."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise EndpointRefused(
            _("It answered with something else than JSON: %(said)s", said=cut(content.decode(errors="replace")))
        ) from error
    if not isinstance(answer, dict):
        raise EndpointRefused(
            _(
                "It answered with something else than a JSON object: %(said)s",
                said=cut(content.decode(errors="replace")),
            )
        )
    return answer


def refuse_errors(response: httpx.Response, content: bytes) -> None:
    """Raise what an answer's status says, in the server's own words where it has any."""
    if response.is_success:
        return
    status, error = response.status_code, _error_in(content)
    said = (
        cut(str(error.get("message") or ""))
        or cut(content.decode(errors="replace"))
        or _("status %(status)s", status=status)
    )
    if response.is_redirect:
        to = cut(response.headers.get("location", ""))
        raise EndpointRefused(_("It sends us on to %(to)s, where we do not follow. Give that address.", to=to))
    if status in WORTH_ANOTHER_TRY:
        seconds = retry_after(response.headers.get("retry-after", ""), now=datetime.now(UTC))
        raise ModelServerDown(
            _("It could not write (%(status)s): %(said)s", status=status, said=said), retry_after_seconds=seconds
        )
    if status in {400, 413, 422}:
        parameter, code = str(error.get("param") or ""), str(error.get("code") or "")
        raise RequestRefused(said, parameter=parameter, code=code)
    if status in {401, 403}:
        raise EndpointRefused(_("It refuses our key (%(status)s): %(said)s", status=status, said=said))
    if status == 404:
        raise EndpointRefused(_("It knows no such address or model: %(said)s", said=said))
    raise EndpointRefused(_("It refused (%(status)s): %(said)s", status=status, said=said))


def _error_in(content: bytes) -> dict[str, Any]:
    """What the answer says of its error, whichever way servers write that."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error", answer.get("detail", answer))
    return error if isinstance(error, dict) else {"message": error}


def cut(text: str) -> str:
    """The beginning of what a server said, on one line, fit to be shown and stored."""
    text = " ".join(text[: 8 * MOST_SAID].replace("\x00", "�").split())
    return text if len(text) <= MOST_SAID else text[: MOST_SAID - 1] + "…"


def retry_after(value: str, *, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says nothing that we understand."""
    value = value.strip()
    if value.replace(".", "", 1).isdecimal() and value.isascii():
        return min(float(value), 86_400.0)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return 0.0
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return min(max(0.0, (at - now).total_seconds()), 86_400.0)
