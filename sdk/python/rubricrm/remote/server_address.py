"""The address of a server, however it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from rubricrm.errors import OptionInvalid


@dataclass(frozen=True)
class ServerAddress:
    """Where a server is.

    Attributes:
        root: The address without `/v1` and without a slash at its end.
        shown: The same without a user's name and password, for messages and results.
    """

    root: str
    shown: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Read an address such as http://127.0.0.1:8000, with or without /v1.

        Raises:
            OptionInvalid: It is none.
        """
        try:
            parts = urlsplit(url)
            is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except (ValueError, AttributeError, TypeError):
            is_server = False
        if not is_server or parts.query or parts.fragment:
            raise OptionInvalid(f"{url!r:.200} is no server's address, expected one such as http://127.0.0.1:8000.")
        path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        host = parts.netloc.rpartition("@")[2]
        return cls(f"{parts.scheme}://{parts.netloc}{path}", f"{parts.scheme}://{host}{path}")
