"""Forms of prompts."""

from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, Field, field_validator, model_validator

from app.generation.models import PromptState
from app.generation.prompt_lines import LONGEST_PROMPT, split_tags
from app.generation.service.prompts import PromptFilter
from app.wording import gettext as _

LONGEST_JSON = 10 * LONGEST_PROMPT


class PromptForm(BaseModel):
    """A prompt by hand: one user message, or a whole conversation as JSON."""

    text: Annotated[str, Field(max_length=LONGEST_PROMPT)] = ""
    conversation: Annotated[str, Field(max_length=LONGEST_JSON)] = ""
    tags: str = ""

    @field_validator("conversation")
    @classmethod
    def _is_json(cls, value: str) -> str:
        if value.strip():
            try:
                orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise ValueError(
                    _("This is not valid JSON: %(fault)s.", fault=str(error).partition(": line ")[0])
                ) from None
        return value

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if bool(self.text.strip()) == bool(self.conversation.strip()):
            raise ValueError(_("Write either the text of one message, or a conversation."))
        return self

    def messages(self) -> Any:
        """The messages as given; whether they can be a prompt is for the service to say."""
        if self.text.strip():
            return [{"role": "user", "content": self.text.strip()}]
        return orjson.loads(self.conversation)

    def tag_list(self) -> list[str]:
        """The tags, one by one."""
        return split_tags(self.tags)


class TagsForm(BaseModel):
    """The tags of a prompt as one text, separated by semicolons."""

    tags: str = ""


def read_filter(*, q: str, tag: str, state: str) -> PromptFilter:
    """Which prompts an address asks for; an unknown state narrows nothing."""
    known = state in {each.value for each in PromptState}
    return PromptFilter(search=q[:200].strip(), tag=tag[:200], state=PromptState(state) if known else None)
