"""The workload that lies beside a model: `gpt.yaml` next to `gpt.onnx`, if it says it is for it.

Only the workload, which is shapes and weights: whoever names a model alone has asked for nothing
else. Promises, functions to call and places to write to count only in a file given by `-c`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from os.path import realpath
from pathlib import Path

from planner.errors import SpecError
from planner.spec.yaml_source import MAX_SIZE_BYTES, YamlSource, load

_ENDINGS = (".yaml", ".yml")
_TAKEN = frozenset({"workload"})


def beside(model: str | None) -> YamlSource | None:
    """The workload of a model that was named alone, or None.

    A file counts only if its `model` key names this very model: any other file that happens to
    bear the same name, of whatever tool, decides nothing.
    """
    path = Path(model or "")
    if not path.name:
        return None
    found = (_read(path.with_suffix(ending), path) for ending in _ENDINGS)
    return next((source for source in found if source is not None), None)


def _read(file: Path, model: Path) -> YamlSource | None:
    if file == model or not _names(file, model.name):
        return None
    try:
        source = load(file)
    except SpecError:
        return None
    if not _is_for(source.data, file, model):
        return None
    taken = {key: value for key, value in source.data.items() if key in _TAKEN}
    return replace(source, data=taken) if taken else None


def _names(file: Path, model: str) -> bool:
    """Whether a file says the model's name at all: most that do not are not read as YAML."""
    try:
        is_small = file.is_file() and file.stat().st_size <= MAX_SIZE_BYTES
        return is_small and os.fsencode(model) in file.read_bytes()
    except OSError:
        return False


def _is_for(data: Mapping[str, object], file: Path, model: Path) -> bool:
    named = data.get("model")
    if not isinstance(named, str):
        return False
    try:
        return realpath(file.parent / named) == realpath(model)
    except ValueError:  # a NUL byte: no file's name
        return False
