"""Runs engines on a target machine: sees spec and below only; needs neither solver nor onnx.

    from planner import runtime

    with runtime.load("engine/") as session:
        outputs = session.run({"image": image})

Names are resolved on first use, so that `planner.runtime.fingerprint` does not load ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.runtime.engine import Session, load

__all__ = ["Session", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from planner.runtime import engine

    return getattr(engine, name)
