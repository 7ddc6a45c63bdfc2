"""A user's own functions, named in a request: looked up before anything takes time."""

from __future__ import annotations

from collections.abc import Iterator

from planner.compress.user_function import function_digest
from planner.errors import UsageError
from planner.graph.sandbox import Bounds, Sandbox
from planner.spec.budget import AccuracyBudget, is_function

FOREIGN_BYTES = 2**40
"""Address space where a user's function runs: what it imports may reserve any amount."""
_IMPORT = Bounds(wall_s=600.0, memory_size_bytes=FOREIGN_BYTES)


def refuse_absent_functions(accuracy: AccuracyBudget) -> None:
    """Imports every module that is named, in a process of its own.

    Raises:
        UsageError: a module that is not there or fails, or one without that function.
    """
    for key, reference in _functions(accuracy):
        sandbox = Sandbox(f"importing {reference}", key, _IMPORT)
        try:
            sandbox.call(function_digest, reference)
        except UsageError as error:
            raise UsageError(error.what, where=f"{key}: {reference}", fix=error.fix) from None


def _functions(accuracy: AccuracyBudget) -> Iterator[tuple[str, str]]:
    """(key of the constraints file, `module:function`)."""
    named = {"accuracy.metric": accuracy.metric, "accuracy.evaluation": accuracy.evaluation}
    for key, reference in named.items():
        if reference is not None and is_function(reference):
            yield key, reference
