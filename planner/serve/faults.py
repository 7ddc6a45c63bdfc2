"""What a client got wrong."""

from __future__ import annotations

import json


class ClientFault(Exception):  # noqa: N818 - a fault of the client, not an error of the server
    """Answered with this 4xx status; the message names the field."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


def shown(value: object) -> str:
    """A client's value in a message: in the client's own words (null, true), cut when long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
