"""The forms of trying a model."""

from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from app.trying.conversation import LONGEST_TEXT, Turn, read_conversation
from app.wording import gettext as _

BIGGEST_ID = 2**31 - 1


class AskForm(BaseModel):
    """A prompt, what came before it, and how the reply is to be drawn."""

    prompt: Annotated[str, Field(max_length=LONGEST_TEXT)]
    system: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    conversation: str = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 256
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError(_("Write something first."))
        return prompt.strip()

    @field_validator("conversation")
    @classmethod
    def _is_ours(cls, text: str) -> str:
        try:
            read_conversation(text)
        except ValueError:
            raise ValueError(_("The conversation cannot be read. Start over.")) from None
        return text

    @property
    def turns(self) -> list[Turn]:
        """What came before."""
        return read_conversation(self.conversation)


class TryForm(AskForm):
    """The same, with whom to ask: a version, and perhaps another beside it."""

    left: Annotated[int, Field(ge=1, le=BIGGEST_ID)]
    right: Annotated[int, Field(ge=1, le=BIGGEST_ID)] | None = None


class ReplyForm(AskForm):
    """The same for one reply that streams; `place` is 0 on the left, 1 on the right."""

    place: Annotated[int, Field(ge=0, le=1)] = 0
