"""A conversation with one or two versions as its page carries it, and what each of them is sent of it."""

from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_TURNS = 100
LONGEST_TEXT = 100_000
"""Characters of one message."""
LONGEST_CONVERSATION = 2_000_000

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Messages = list[dict[str, str]]


class Reply(BaseModel):
    """What one version wrote, or why it could not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(max_length=100)] = ""
    text: Annotated[str, Field(max_length=1_000_000)] = ""
    error: Text = ""
    ended: Annotated[str, Field(max_length=64)] = ""
    """The server's finish reason; `length` is a reply that was cut."""


class Turn(BaseModel):
    """What was asked, and the replies to it, left and right."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Text
    replies: Annotated[list[Reply], Field(max_length=2)] = []


def read_conversation(text: str) -> list[Turn]:
    """The turns in a page's hidden field; raises ValueError for what no page of ours wrote."""
    if not text.strip():
        return []
    if len(text) > LONGEST_CONVERSATION:
        raise ValueError("too long")
    try:
        turns = orjson.loads(text)
        if not isinstance(turns, list) or len(turns) > MOST_TURNS:
            raise ValueError("not a list of turns")
        return [Turn.model_validate(turn) for turn in turns]
    except ValidationError as error:
        raise ValueError("not a turn") from error


def written_conversation(turns: list[Turn]) -> str:
    """The turns as the page's hidden field holds them."""
    return orjson.dumps([turn.model_dump() for turn in turns]).decode()


def messages_for(turns: list[Turn], *, place: int, system: str, prompt: str) -> Messages:
    """What the version at a place (0 left, 1 right) is sent: the turns that it answered, then the prompt."""
    messages: Messages = [{"role": "system", "content": system}] if system.strip() else []
    for turn in turns:
        reply = turn.replies[place] if place < len(turn.replies) else None
        if reply is not None and not reply.error:
            messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": reply.text}]
    return [*messages, {"role": "user", "content": prompt}]
