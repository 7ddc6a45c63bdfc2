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
_CHILD = """
import importlib.util, json, sys
import numpy as np, torch
folder = sys.argv[1]
plan = json.load(open(folder + "/plan.json"))
with np.load(folder + "/in.npz") as arrays:
    tensors = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
modules = {}
for launch in plan["launches"]:
    name = launch["kernel"]
    if name not in modules:
        spec = importlib.util.spec_from_file_location(name, f"{folder}/{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    arguments = [tensors[key] for key in launch["arguments"]]
    getattr(modules[name], name)[(launch["programs"],)](*arguments, False)
np.savez(folder + "/out.npz", **{key: tensors[key].numpy() for key in plan["wanted"]})
"""


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
        EnvironmentMismatchError: Triton or torch is not installed.
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
                "arguments": [keys[name] for name in item.parameters],
            }
            for item in kernels
        ]
        plan = {"launches": launches, "wanted": [keys[name] for name in wanted]}
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run(
            [python, "-c", _CHILD, scratch],
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
            "Triton's interpreter needs triton and torch", fix='pip install "infopt[fused]" torch'
        )
    raise InfoptError(f"a kernel failed in the interpreter:\n{text[-2000:]}")
