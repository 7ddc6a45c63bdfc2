"""Loads an ONNX file: checked, summarised, digested; its weights stay on disk."""

from __future__ import annotations

from pathlib import Path

from planner.errors import ModelError
from planner.graph import container
from planner.graph.inspection import inspect
from planner.graph.model import LoadedModel
from planner.graph.sandbox import Bounds, Sandbox


def load(path: Path, *, limits: Bounds | None = None) -> LoadedModel:
    """What a plan needs to know of the model at `path`.

    Raises:
        ModelError: whatever is wrong with it, where, and the nearest fix.
    """
    container.check_path(path)
    bounds = (limits or Bounds()).for_size(_nearby_size_bytes(path))
    sandbox = Sandbox("checking the model", str(path), bounds)
    try:
        return sandbox.call(inspect, path)
    except ModelError as error:
        raise type(error)(error.what, where=error.where or str(path), fix=error.fix) from None


def _nearby_size_bytes(path: Path) -> int:
    """Bytes of the files beside the model, itself included: what it refers to is not known yet."""
    try:
        return sum(entry.stat().st_size for entry in path.parent.iterdir() if entry.is_file())
    except OSError:  # files may be read in a folder that may not be listed
        return path.stat().st_size
