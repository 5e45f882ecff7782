"""Completions drawn from other servers: `n` or not, patience, refusals, and the little that is believed."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from app.deployments import endpoint_client
from app.deployments.endpoint_answers import EndpointRefused, RequestRefused, retry_after
from app.deployments.endpoint_client import checked
from app.deployments.model_server import ModelServerDown
from app.deployments.models import Endpoint
from app.generation.completions_client import Drawn, PromptRefused, Sampling
from app.generation.elsewhere import draw_elsewhere
from app.settings import Settings
from tests.conftest import NOW
from tests.factories.deployments import make_endpoint
from tests.factories.foreign import Answer, Foreign, completion, foreign_server, refusal

SAMPLING = Sampling(temperature=0.9, top_p=0.95, max_tokens=32)
PROMPT = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    """Somebody else's server."""
    with foreign_server() as server:
        yield server


@pytest.fixture
def listening(settings: Settings, foreign: Foreign) -> Settings:
    """Settings under which that server may be asked, with a key for it."""
    keys = {"PALATE_KEY_THEIRS": SecretStr("sk-theirs")}
    return settings.model_copy(update={"endpoint_origins": [foreign.origin], "endpoint_keys": keys})


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can wait for."""
    monkeypatch.setattr(endpoint_client, "FIRST_WAIT_SECONDS", 0.02)


@pytest.fixture
def endpoint(session: Session, foreign: Foreign) -> Endpoint:
    """Its model as a version of ours."""
    return make_endpoint(session, base_url=foreign.base_url, model="their-model")


def drawn(listening: Settings, endpoint: Endpoint, count: int = 4) -> list[Drawn]:
    """Completions of one prompt."""
    return draw_elsewhere(listening, endpoint, messages=PROMPT, count=count, sampling=SAMPLING)


def test_a_server_that_gives_n_is_asked_once(foreign: Foreign, listening: Settings, endpoint: Endpoint) -> None:
    foreign.reply = lambda body: completion(*(f"Reason {n}" for n in range(body["n"])), usage={"completion_tokens": 9})
    texts = drawn(listening, endpoint)
    assert [each.text for each in texts] == [f"Reason {n}" for n in range(4)]
    assert foreign.asked == [
        {"model": "their-model", "messages": PROMPT, "temperature": 0.9, "top_p": 0.95, "max_tokens": 32, "n": 4}
    ]
    assert "authorization" not in foreign.headers[0]
    for each in texts:
        assert (each.seed, each.token_ids, each.tokenizer_sha256, each.chat_template_sha256) == (None,) * 4
        assert each.completion_tokens is None, "the count is of all four together"
        assert (each.finish_reason, each.latency_ms is not None) == ("stop", True)


def test_a_server_that_ignores_n_is_asked_for_the_rest_one_by_one_and_then_never_again_for_n(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    numbers = itertools.count()
    foreign.reply = lambda _body: completion(f"Reason {next(numbers)}", usage={"completion_tokens": 5})
    assert len({each.text for each in drawn(listening, endpoint)}) == 4
    assert [body.get("n") for body in foreign.asked] == [4, None, None, None]
    again = drawn(listening, endpoint)
    assert [body.get("n") for body in foreign.asked[4:]] == [None] * 4
    assert [each.completion_tokens for each in again] == [5] * 4


def test_a_server_that_refuses_n_is_asked_one_by_one(foreign: Foreign, listening: Settings, endpoint: Endpoint) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        return refusal(422, "n is not supported", param="n") if "n" in body else completion("Air scatters it.")

    foreign.reply = reply
    assert len(drawn(listening, endpoint)) == 4
    assert len(foreign.asked) == 5


def test_an_endpoint_said_to_give_no_n_is_never_asked_for_it(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    endpoint.gives_n = False
    foreign.reply = lambda _body: completion("Because.")
    drawn(listening, endpoint)
    assert [body.get("n") for body in foreign.asked] == [None] * 4


def test_no_more_requests_are_under_way_than_were_agreed(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    endpoint.gives_n, endpoint.concurrency = False, 2

    def slowly(_body: dict[str, Any]) -> Answer:
        time.sleep(0.1)
        return completion("Because.")

    foreign.reply = slowly
    jobs = [threading.Thread(target=drawn, args=(listening, endpoint)) for _job in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(foreign.asked) == 8
    assert foreign.most_at_once == 2


def test_the_key_is_sent_from_the_environment_and_a_missing_one_is_named(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    foreign.reply = lambda _body: completion("Yes.")
    endpoint.key_variable = "PALATE_KEY_THEIRS"
    drawn(listening, endpoint, 1)
    assert foreign.headers[0]["authorization"] == "Bearer sk-theirs"
    endpoint.key_variable = "PALATE_KEY_ABSENT"
    with pytest.raises(EndpointRefused, match="PALATE_KEY_ABSENT is not set"):
        drawn(listening, endpoint, 1)
    assert len(foreign.asked) == 1


def test_a_server_that_is_busy_is_asked_again_after_as_long_as_it_said(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    answers = iter([Answer(429, {"detail": "slow down"}, {"Retry-After": "1"}), completion("Now.")])
    foreign.reply = lambda _body: next(answers)
    begun = time.monotonic()
    assert drawn(listening, endpoint, 1)[0].text == "Now."
    assert 0.9 <= time.monotonic() - begun < 3


def test_a_server_that_wants_to_be_left_alone_for_long_is_and_by_every_job(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    foreign.reply = lambda _body: Answer(429, {"error": {"message": "Quota used up."}}, {"Retry-After": "120"})
    with pytest.raises(ModelServerDown, match="Quota used up") as error:
        drawn(listening, endpoint, 1)
    assert error.value.retry_after_seconds == 120
    with pytest.raises(ModelServerDown, match="left alone for 120 seconds") as error:
        drawn(listening, endpoint, 1)
    assert 119 < error.value.retry_after_seconds <= 120
    assert len(foreign.asked) == 1


def test_a_server_that_stumbles_is_tried_again_and_one_that_keeps_falling_is_given_up(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    answers = iter([Answer(503, b"starting"), Answer(502, b""), completion("Up.")])
    foreign.reply = lambda _body: next(answers)
    assert drawn(listening, endpoint, 1)[0].text == "Up."
    foreign.reply = lambda _body: Answer(500, b"<h1>broken</h1>")
    with pytest.raises(ModelServerDown, match="broken"):
        drawn(listening, endpoint, 1)
    assert len(foreign.asked) == 3 + endpoint_client.TRIES


def test_a_server_that_is_not_there_is_said_with_its_address(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    endpoint.base_url = "http://127.0.0.1:9/v1"
    gone = listening.model_copy(update={"endpoint_origins": ["http://127.0.0.1:9"]})
    with pytest.raises(ModelServerDown, match=r"127\.0\.0\.1:9/v1 does not answer"):
        drawn(gone, endpoint, 1)


def test_a_prompt_is_blamed_only_where_a_harmless_one_is_taken_with_the_same_settings(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    def too_long(body: dict[str, Any]) -> Answer:
        return refusal(400, "Too long by far.") if body["messages"] == PROMPT else completion("Hello.")

    foreign.reply = too_long
    with pytest.raises(PromptRefused, match="Too long by far"):
        drawn(listening, endpoint)
    foreign.reply = lambda _body: refusal(400, "temperature must be 1", param="temperature")
    with pytest.raises(RequestRefused, match="temperature must be 1"):
        drawn(listening, endpoint)


def test_a_server_that_wants_the_newer_name_of_the_limit_gets_it(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        if "max_tokens" in body:
            return refusal(400, "Use max_completion_tokens.", param="max_tokens", code="unsupported_parameter")
        return completion(*["Fine."] * body.get("n", 1))

    foreign.reply = reply
    assert len(drawn(listening, endpoint, 2)) == 2
    assert foreign.asked[-1]["max_completion_tokens"] == 32


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(200, b"<html>welcome</html>"), "something else than JSON"),
        (Answer(200, []), "something else than a JSON object"),
        (Answer(200, {"choices": []}), "no completion"),
        (Answer(200, {"choices": [{"message": {"content": {"a": 1}}}]}), "no text"),
        (Answer(200, {"choices": ["x"]}), "no text"),
        (Answer(200, b"x" * (16 * 2**20 + 1)), "more than 16,777,216 bytes"),
        (Answer(301, b"", {"Location": "http://169.254.169.254/"}), "where we do not follow"),
        (Answer(401, {"error": {"message": "Bad key."}}), r"refuses our key \(401\): Bad key"),
        (Answer(404, {"error": "no model x"}), "no model x"),
        (Answer(418, b"teapot"), r"refused \(418\): teapot"),
    ],
)
def test_an_answer_that_makes_no_sense_is_said_and_not_tried_again(
    *, foreign: Foreign, listening: Settings, endpoint: Endpoint, answer: Answer, said: str
) -> None:
    foreign.reply = lambda _body: answer
    with pytest.raises(EndpointRefused, match=said):
        drawn(listening, endpoint, 1)
    assert len(foreign.asked) == 1


def test_what_the_database_cannot_hold_is_replaced(foreign: Foreign, listening: Settings, endpoint: Endpoint) -> None:
    choice = {"message": {"content": "a\0b"}, "finish_reason": 7}
    foreign.reply = lambda _body: Answer(body={"choices": [choice], "usage": {"completion_tokens": -1}})
    (each,) = drawn(listening, endpoint, 1)
    assert each.text == "a�b"
    assert (each.finish_reason, each.completion_tokens) == (None, None)


def test_a_check_says_what_the_server_answered_or_what_is_wrong(
    foreign: Foreign, listening: Settings, endpoint: Endpoint
) -> None:
    foreign.reply = lambda _body: completion("Hello\n\nthere.")
    passed, message = checked(listening, endpoint)
    assert passed
    assert "theirs-1 wrote: “Hello there.”" in message
    foreign.reply = lambda _body: Answer(503, b"loading")
    assert checked(listening, endpoint) == (False, "It could not write (503): loading")
    unlisted = listening.model_copy(update={"endpoint_origins": []})
    passed, message = checked(unlisted, endpoint)
    assert not passed
    assert "Use https, or have PALATE_ENDPOINT_ORIGINS list" in message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3), ("0.5", 0.5), ("Mon, 23 Nov 2026 12:00:30 GMT", 30), ("Mon, 23 Nov 2020 12:00:30 GMT", 0), ("", 0),
     ("soon", 0), ("-4", 0), ("1e9", 0), ("999999999999", 86_400), ("²", 0)],
)  # fmt: skip
def test_retry_after_is_read_as_a_number_or_a_date(value: str, seconds: float) -> None:
    assert retry_after(value, now=NOW) == seconds
