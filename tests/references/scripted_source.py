"""A model source for workers of Ray, whose outages a test makes with a file."""

from dataclasses import dataclass
from pathlib import Path

from rubricrm.errors import RubricrmError, ServerUnreachable
from scripted_model import ScriptedModel


@dataclass(frozen=True)
class ScriptedSource:
    """Opens a model that answers while there is a file `up`, and cannot be reached otherwise.

    Attributes:
        up: The file.
        answers: Where each answer leaves a line.
        last: After so many answers it is down for good, as long as `up` is not written again. None: never.
    """

    up: Path
    answers: Path
    last: int | None = None

    def identity(self) -> dict[str, str]:
        return {"name": "scripted"}

    def open(self) -> ScriptedModel:
        return ScriptedModel(self._fault)

    def _fault(self, request: str) -> RubricrmError | None:
        if not self.up.exists():
            return ServerUnreachable("nobody is there.")
        with self.answers.open("a") as file:
            file.write(request.replace("\n", " ") + "\n")
            if self.last is not None and file.tell() > 0 and self._num_answers() == self.last:
                self.up.unlink(missing_ok=True)
        return None

    def _num_answers(self) -> int:
        return len(self.answers.read_text().splitlines())
