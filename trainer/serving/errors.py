"""What the model server refuses, in the shape that OpenAI clients read."""

from __future__ import annotations

from typing import Any


class ServingError(Exception):
    """A request that is not served: `message` says what happened and what to do now.

    `code` is stable and meant for programs; `parameter` names the field of the request that is at fault.
    """

    status = 400
    type = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, parameter: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter
        self.code = code or self.code


def error_body(message: str, *, type_: str, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as the OpenAI API writes it."""
    return {"error": {"message": message, "type": type_, "param": parameter, "code": code}}


class InvalidRequestError(ServingError):
    """A request that can never be served as it stands."""


class ContextLengthError(ServingError):
    """A prompt, or a prompt with the completion it asks for, that the model cannot read."""

    code = "context_length_exceeded"


class UnauthorizedError(ServingError):
    """A missing or wrong token."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PathNotAllowedError(ServingError):
    """A path outside the folders that models may be loaded from."""

    status = 403
    type = "permission_error"
    code = "path_not_allowed"


class ModelNotFoundError(ServingError):
    """A name that is neither a loaded version nor an alias."""

    status = 404
    code = "model_not_found"


class ModelRefusedError(ServingError):
    """A folder that is no model, is not the one meant, or does not run."""

    code = "model_refused"


class NameTakenError(ServingError):
    """A name that already means something else, or a version that an alias still needs."""

    status = 409
    type = "conflict_error"
    code = "name_taken"


class ModelMemoryError(ServingError):
    """A version for which there is no room beside those that are in use."""

    status = 409
    type = "conflict_error"
    code = "model_memory_exceeded"


class QueueFullError(ServingError):
    """More requests waiting than the server takes on; worth a retry in a moment."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests are waiting already. Try again in a moment.")


class StoppingError(ServingError):
    """A server that is being stopped; the next one will answer."""

    status = 503
    type = "server_error"
    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__("The model server is stopping. Try again in a moment.")


class BrokenModelError(ServingError):
    """A version that computes something other than numbers."""

    status = 500
    type = "server_error"
    code = "model_broken"

    def __init__(self) -> None:
        super().__init__("The model computes values that are not numbers; its weights are damaged.")


def body_of(error: Exception) -> dict[str, Any]:
    """The JSON answer to any error; of one that nobody foresaw it says no more than that."""
    if isinstance(error, ServingError):
        return error_body(error.message, type_=error.type, parameter=error.parameter, code=error.code)
    message = "Something went wrong in the model server; its log has the details."
    return error_body(message, type_="server_error", code="internal_error")
