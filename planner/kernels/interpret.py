"""Runs generated kernels on a CPU, through Triton's interpreter, in a process of its own.

The interpreter knows neither inline assembly nor dependent launches: `AHEAD` is off, and every
launch is run to its end before the next.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.kernels.source import Kernel

Array = np.ndarray[Any, Any]
_CHILD = Path(__file__).with_name("interpret_child.py")


def interpret(
    kernels: Sequence[Kernel],
    arrays: Mapping[str, Array],
    wanted: Sequence[str],
    *,
    python: str = sys.executable,
    timeout_s: float = 600,
) -> dict[str, Array]:
    """The wanted tensors after all launches, given every tensor (outputs zeroed) by name.

    Raises:
        EnvironmentMismatchError: Triton is not installed.
        InfoptError: a kernel failed.
    """
    keys = {name: f"t{position}" for position, name in enumerate(arrays)}
    with tempfile.TemporaryDirectory(prefix="infopt-interpret-") as scratch:
        folder = Path(scratch)
        for item in kernels:
            (folder / f"{item.name}.py").write_text(item.text, encoding="utf-8")
        given: dict[str, Any] = {keys[name]: value for name, value in arrays.items()}
        np.savez(folder / "in.npz", **given)
        launches = [
            {
                "kernel": item.name,
                "programs": item.programs,
                "arguments": [(keys[p.tensor], p.offset) for p in item.parameters],
            }
            for item in kernels
        ]
        plan = {"launches": launches, "wanted": [keys[name] for name in wanted]}
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run(
            [python, str(_CHILD), scratch],
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            _refuse(done.stderr)
        with np.load(folder / "out.npz") as found:
            return {name: found[keys[name]] for name in wanted}


def _refuse(text: str) -> None:
    if "ModuleNotFoundError" in text:
        raise EnvironmentMismatchError(
            "Triton's interpreter needs triton", fix='pip install "infopt[fused]"'
        )
    raise InfoptError(f"a kernel failed in the interpreter:\n{text[-2000:]}")
