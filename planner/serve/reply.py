"""An answer, from arrays to bytes: JSON, followed by the raw values of outputs wanted in binary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydantic_core

from planner.serve import datatypes
from planner.serve.datatypes import DATATYPES
from planner.serve.protocol import HEADER, Request
from planner.spec.manifest import TensorSpec

VERSION = "1"
JSON = "application/json"
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": JSON})


def refusal(status: int, message: str, **headers: str) -> Reply:
    """`{"error": message}`."""
    return Reply(
        status, pydantic_core.to_json({"error": message}), {"content-type": JSON, **headers}
    )


def answer(
    model: str, request: Request, values: Mapping[str, Any], outputs: Sequence[TensorSpec]
) -> Reply:
    """The outputs that were asked for.

    Raises:
        ClientFault: JSON was asked for where it cannot express the values.
    """
    kinds = {spec.name: spec.dtype for spec in outputs}
    described, tail = [], []
    for wanted in request.wanted:
        array, kind = np.asarray(values[wanted.name]), kinds[wanted.name]
        tensor: dict[str, Any] = {
            "name": wanted.name,
            "datatype": DATATYPES[kind],
            "shape": list(array.shape),
        }
        if wanted.is_binary:
            raw = datatypes.to_binary(array, kind)
            tensor["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            tensor["data"] = datatypes.to_json(array, kind, f"output {wanted.name!r}")
        described.append(tensor)
    document: dict[str, Any] = {"model_name": model, "model_version": VERSION}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = described
    head = pydantic_core.to_json(document)
    if not tail:
        return Reply(200, head)
    return Reply(200, b"".join((head, *tail)), {"content-type": BINARY, HEADER: str(len(head))})
