"""Forms: what was sent, either as a valid value or as it was typed with what is wrong, field by field."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from app.errors import Invalid, plain_words

SchemaT = TypeVar("SchemaT", bound=BaseModel)


@dataclass(frozen=True)
class Submission(Generic[SchemaT]):
    """A submitted form. `typed` is what the person entered, to be shown again; `errors` is by field name."""

    typed: dict[str, Any]
    value: SchemaT | None = None
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        """Whether the form can be acted on."""
        return self.value is not None

    def checked(self) -> SchemaT:
        """The valid value; raises Invalid with the first message where there is none."""
        if self.value is None:
            raise Invalid("; ".join(f"{name}: {message}" for name, message in self.errors.items()))
        return self.value

    def refused(self, **errors: str) -> "Submission[SchemaT]":
        """The same form with what only the service could know to be wrong."""
        return Submission(typed=self.typed, value=None, errors={**self.errors, **errors})


def submitted(schema: type[SchemaT]) -> Any:
    """A dependency that reads a form into a `Submission` of `schema`.

    A field whose type is a list collects every value of that name; an empty text field counts as absent
    where the schema has a default. Checkboxes that are off are simply absent.
    """
    lists = {name for name, info in schema.model_fields.items() if _is_list(info.annotation)}
    defaulted = {name for name, info in schema.model_fields.items() if not info.is_required()}

    async def read(request: Request) -> Submission[SchemaT]:
        form = await request.form()
        typed: dict[str, Any] = {}
        for name in form:
            values = [value for value in form.getlist(name) if not isinstance(value, UploadFile)]
            if values:
                typed[name] = values if name in lists else values[-1]
        return validated(schema, typed, blank_is_absent=defaulted)

    dependency: Callable[[Request], Awaitable[Submission[SchemaT]]] = read
    dependency.schema = schema  # type: ignore[attr-defined]  # for whoever describes the routes
    return Depends(dependency)


def validated(
    schema: type[SchemaT], typed: dict[str, Any], *, blank_is_absent: set[str] | frozenset[str] = frozenset()
) -> Submission[SchemaT]:
    """Check what was typed against a schema, with messages for people."""
    given = {name: value for name, value in typed.items() if not (name in blank_is_absent and value == "")}
    try:
        return Submission(typed=typed, value=schema.model_validate(given))
    except ValidationError as error:
        return Submission(typed=typed, errors={_field(item): plain_words(item) for item in error.errors()})


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list


def _field(item: Any) -> str:
    return str(item["loc"][0]) if item["loc"] else "form"
