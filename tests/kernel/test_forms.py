"""A form comes back as a value, or as it was typed with a message per field."""

from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from app.forms import validated


class Order(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    copies: Annotated[int, Field(ge=1, le=9)] = 2
    notes: list[str] = []

    @field_validator("name")
    @classmethod
    def _is_not_taken(cls, name: str) -> str:
        if name == "taken":
            raise ValueError("Choose another name; this one is taken.")
        return name


def test_a_valid_form_is_a_value() -> None:
    form = validated(Order, {"name": "a", "copies": "3"})
    assert form.is_valid
    assert form.checked() == Order(name="a", copies=3)


def test_a_wrong_field_has_a_message_and_keeps_what_was_typed() -> None:
    form = validated(Order, {"name": "", "copies": "99"})
    assert not form.is_valid
    assert form.typed == {"name": "", "copies": "99"}
    assert form.errors == {"name": "Please fill this in.", "copies": "Less than or equal to 9"}


def test_the_schema_may_speak_for_itself() -> None:
    assert validated(Order, {"name": "taken"}).errors == {"name": "Choose another name; this one is taken."}


def test_a_blank_optional_field_takes_its_default() -> None:
    assert validated(Order, {"name": "a", "copies": ""}, blank_is_absent={"copies"}).checked().copies == 2
