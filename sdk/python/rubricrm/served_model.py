"""Which model on which server, as commands are told it and hand it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack

if TYPE_CHECKING:
    from rubricrm.remote.connect_options import ConnectKeywords
    from rubricrm.text_model import TextModel

_Model = TypeVar("_Model", bound="TextModel")


@dataclass(frozen=True)
class ServedModel:
    """A model on a server, to which nothing is connected yet. It can be pickled.

    Attributes:
        url: The server's address.
        prompt: The model's prompt directory, or a bundle of it.
        model: Its name there; None: the only one.
        dialect: The server's kind; None: as it says of itself.
        api_key: The server's key; None: it needs none.
    """

    url: str
    prompt: Path
    model: str | None = None
    dialect: str | None = None
    api_key: str | None = field(default=None, repr=False)

    def connect(self, kind: type[_Model], **options: Unpack[ConnectKeywords]) -> _Model:
        """Connect to it. Errors as `RubricModel.connect`.

        Args:
            kind: `RubricModel` or `JudgeModel`.
            **options: What else `RubricModel.connect` takes.
        """
        told: ConnectKeywords = {"model": self.model, "dialect": self.dialect, "api_key": self.api_key}
        told.update(options)
        return kind.connect(self.url, prompt=self.prompt, **told)
