"""Constraints that lie beside a model: `gpt.yaml` next to `gpt.onnx`, if it says it is for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from planner.spec.yaml_source import MAX_SIZE_BYTES, YamlSource, load

_ENDINGS = (".yaml", ".yml")


def beside(model: str | None) -> YamlSource | None:
    """The constraints file of a model that was named alone, or None.

    A file counts only if its `model` key names this very model: any other file that happens to
    bear the same name decides nothing.

    Raises:
        SpecError: there is one, and it cannot be read.
    """
    if not model:
        return None
    path = Path(model)
    found = (path.with_suffix(ending) for ending in _ENDINGS)
    sources = (load(each) for each in found if each != path and _names(each, path.name))
    return next((s for s in sources if _is_for(s.data, s.path, path)), None)


def _names(file: Path, model: str) -> bool:
    """Whether a file says the model's name at all: others need not be YAML of ours, nor YAML."""
    try:
        is_small = file.is_file() and file.stat().st_size <= MAX_SIZE_BYTES
        return is_small and model.encode() in file.read_bytes()
    except OSError:
        return False


def _is_for(data: Mapping[str, object], file: Path, model: Path) -> bool:
    named = data.get("model")
    return isinstance(named, str) and (file.parent / named).resolve() == model.resolve()
