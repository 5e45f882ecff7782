"""What a run is asked to do: its `request.json`, read and understood."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from trainer.contract.files import read_json
from trainer.contract.run import REQUEST_FILE, RunRequest
from trainer.errors import TrainerError
from trainer.snapshot import refuse_newer_format


def read_request(folder: Path) -> RunRequest:
    """The run's request. Raises TrainerError where it is missing, newer than this code, or not understood."""
    path = folder / REQUEST_FILE
    if not path.is_file():
        raise TrainerError(f"{folder} holds no {REQUEST_FILE}, so there is nothing to carry out.")
    try:
        refuse_newer_format(json.loads(path.read_bytes()), what=f"The request {path}")
        return read_json(path, RunRequest)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise TrainerError(f"{path} is not understood: {place}: {fault['msg']}.") from error
    except ValueError as error:
        raise TrainerError(f"{path} is not JSON: {error}.") from error
