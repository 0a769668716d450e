"""How the server takes requests: names, keys and limits."""

from __future__ import annotations

from dataclasses import dataclass

from rubricrm.errors import OptionInvalid


@dataclass(frozen=True)
class ServerOptions:
    """Options of one server, for all of its requests.

    Attributes:
        name: The model's id for clients; NAME-rubric is the id that takes a request and writes its rubric. None: the
            model's own name.
        max_concurrency: Most requests that the model computes together.
        max_waiting: Most requests that wait beside them; one more is refused with 503.
        timeout_s: Seconds after which a request is ended, waiting included.
        api_keys: A client must give one of them; none: everybody may ask.
        max_body: Most bytes of a request's body.
        body_timeout_s: Seconds in which a body must be there.
        header_timeout_s: Seconds in which a connection must have sent the headers of its request.
        stall_timeout_s: Seconds after which a client is cut off that takes nothing of its answer.
        keep_alive_s: Seconds for which an idle connection is kept after an answer.
        grace_s: Seconds that running requests have to end after SIGTERM.

    Raises:
        OptionInvalid: A value is out of range.
    """

    name: str | None = None
    max_concurrency: int = 8
    max_waiting: int = 1000
    timeout_s: float = 600.0
    api_keys: tuple[str, ...] = ()
    max_body: int = 1 << 20
    body_timeout_s: float = 30.0
    header_timeout_s: float = 10.0
    stall_timeout_s: float = 60.0
    keep_alive_s: float = 65.0
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.name is not None and not (self.name.isprintable() and self.name.strip() == self.name != ""):
            raise OptionInvalid(f"name must be printable characters, got {self.name!r:.80}.")
        for field in ("max_concurrency", "max_body"):
            if getattr(self, field) < 1:
                raise OptionInvalid(f"{field} must be at least 1, got {getattr(self, field)!r}.")
        if self.max_waiting < 0:
            raise OptionInvalid(f"max_waiting must be at least 0, got {self.max_waiting!r}.")
        for field in ("timeout_s", "body_timeout_s", "header_timeout_s", "stall_timeout_s", "keep_alive_s"):
            if not 0 < getattr(self, field) <= 86400:
                raise OptionInvalid(f"{field} must be in (0, 86400], got {getattr(self, field)!r}.")
        if not 0 <= self.grace_s <= 86400:
            raise OptionInvalid(f"grace_s must be in [0, 86400], got {self.grace_s!r}.")
