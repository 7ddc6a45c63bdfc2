"""A metric of the user's own: `module:function` or `file.py:function`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from planner.compress.base import Array
from planner.errors import UsageError

Run = Callable[[dict[str, Array]], Mapping[str, Any]]
"""One run of a model: named inputs to named outputs."""


def load_function(reference: str) -> Callable[[Run], float]:
    """`module:function` or `file.py:function`.

    Raises:
        UsageError: nothing there, or its import fails; says which file and name.
    """
    place, _, name = reference.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(
            f"{place} has no function {name!r}", where=getattr(module, "__file__", None) or place
        )
    return function  # type: ignore[no-any-return]


def function_digest(reference: str) -> str:
    """SHA-256 of the file a user's function stands in: an edited function is another metric.

    What the file imports or reads in turn is not seen.

    Raises:
        UsageError: nothing there, or its import fails; says which file and name.
    """
    function = inspect.unwrap(load_function(reference))
    try:
        source = inspect.getsourcefile(function)
    except TypeError:  # compiled, or an object that can be called: there is no file to look at
        source = None
    content = Path(source).read_bytes() if source and Path(source).is_file() else b""
    return hashlib.sha256(reference.encode() + b"\0" + content).hexdigest()


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        with _leaving_nothing():
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 a user's module may raise anything
        raise UsageError(
            f"cannot import the metric's module {name!r}: {type(error).__name__}: {error}",
            fix="run from the folder that holds it, or install it",
        ) from None
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError("no such file", where=str(path))
    spec = importlib.util.spec_from_file_location(f"infopt_metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError("not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    try:
        with _leaving_nothing():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 a user's file may raise anything
        raise UsageError(f"{type(error).__name__}: {error}", where=str(path)) from None
    return module


@contextlib.contextmanager
def _leaving_nothing() -> Iterator[None]:
    """Imports without writing compiled files into the user's folder."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
