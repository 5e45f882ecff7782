"""Forms: what was sent, either as a valid value or as it was typed with what is wrong, field by field."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from app.errors import Invalid, plain_words

SchemaT = TypeVar("SchemaT", bound=BaseModel)

_CELL = re.compile(r"(?P<rows>[a-z_]+)-(?P<number>[0-9]{1,4})-(?P<field>[a-z_]+)")


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

    A field whose type is a list collects every value of that name; one of models collects rows, whose fields are named
    `examples-2-prompt`, in the order of their numbers, and what is wrong with one is found under that name. An empty
    text field counts as absent where the schema has a default. Checkboxes that are off are simply absent.
    """
    lists = {name for name, info in schema.model_fields.items() if _is_list(info.annotation)}
    rows = {name for name in lists if _holds_rows(schema.model_fields[name].annotation)}
    defaulted = {name for name, info in schema.model_fields.items() if not info.is_required()}

    async def read(request: Request) -> Submission[SchemaT]:
        form = await request.form()
        typed: dict[str, Any] = {}
        for name in form:
            values = [value for value in form.getlist(name) if not isinstance(value, UploadFile)]
            if values and name not in rows:
                typed[name] = values if name in lists else values[-1]
        typed.update(_gathered(typed, rows))
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


def _holds_rows(annotation: Any) -> bool:
    return any(isinstance(each, type) and issubclass(each, BaseModel) for each in get_args(annotation))


def _gathered(typed: dict[str, Any], rows: set[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each name, taken out of what was typed."""
    numbered: dict[str, dict[int, dict[str, Any]]] = {}
    for name in list(typed):
        found = _CELL.fullmatch(name)
        if found and found["rows"] in rows:
            numbered.setdefault(found["rows"], {}).setdefault(int(found["number"]), {})[found["field"]] = typed.pop(
                name
            )
    return {name: [cells for _number, cells in sorted(given.items())] for name, given in numbered.items()}


def _field(item: Any) -> str:
    """The name of the field that is wrong: `name`, or `rows-2-name` within the second of some rows."""
    match item["loc"]:
        case (str(rows), int(place), str(name)):
            return f"{rows}-{place + 1}-{name}"
        case (name, *_):
            return str(name)
    return "form"
