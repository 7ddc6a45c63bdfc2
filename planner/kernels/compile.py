"""Ahead-of-time compilation by Triton: no GPU, no torch.

Launch parameters of a compiled kernel are its tensors in order, then two scratch pointers (global
and profile scratch) that are passed as 0. Block size: `.reqntid` in the PTX. Cooperative and
dependent launches are properties of the launch, not of the cubin.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.kernels.cubin import Resources, read_resources
from planner.kernels.source import Kernel
from planner.kernels.workers import Workers

ARCHITECTURES = (80, 89, 90)
"""Compute capabilities an engine is compiled for when nothing else is asked."""
_SHARED_LIMIT_BYTES = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448}
"""Dynamic shared memory a block may ask for (CUDA programming guide, technical specifications)."""
_AHEAD_FROM = 90
"""First capability with dependent launch."""
_LITTLE = 1
"""Of zlib's levels: a fifth of the text in a millisecond."""
_KILLED = re.compile(r"error code (?:-\d+|137)\b")
"""The assembler ended by a signal: for want of memory, not because of the kernel."""
_POINTER = {
    "float16": "*fp16",
    "bfloat16": "*bf16",
    "float32": "*fp32",
    "float64": "*fp64",
    "int8": "*i8",
    "int16": "*i16",
    "int32": "*i32",
    "int64": "*i64",
    "uint8": "*u8",
    "uint16": "*u16",
    "bool": "*i8",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel for one architecture."""

    name: str
    architecture: int
    cubin: bytes
    entry: str
    threads: int
    shared_size_bytes: int
    """Dynamic shared memory to ask for at launch."""
    resources: Resources
    waits: bool
    """Whether it waits for the kernel in front of it (dependent launch)."""
    ptx: bytes = b""
    """What it was assembled from, by zlib; empty where nobody kept it."""


Compile = Callable[[Sequence[Kernel]], Mapping[str, Compiled]]
"""Kernels -> those that compile, by name."""


def compile_kernel(kernel: Kernel, architecture: int) -> Compiled:
    """One kernel, in this process.

    Raises:
        EnvironmentMismatchError: Triton is not installed.
        InfoptError: the compiler refuses.
    """
    triton = _triton()
    compiler = importlib.import_module("triton.compiler")
    backend = importlib.import_module("triton.backends.compiler")
    ahead = architecture >= _AHEAD_FROM
    signature = {f"q{i}": _POINTER[kind] for i, kind in enumerate(kernel.types)}
    with tempfile.TemporaryDirectory(prefix="infopt-kernel-") as scratch:
        function = _load(kernel, Path(scratch))
        source = compiler.ASTSource(
            fn=function,
            signature={**signature, "AHEAD": "constexpr"},
            constexprs={"AHEAD": _ahead(kernel, ahead)},
            attrs={(i,): [["tt.divisibility", 16]] for i in range(len(kernel.types))},
        )
        options = {"num_warps": kernel.warps, "num_stages": kernel.pipeline}
        if ahead and kernel.steps == 1:
            options["launch_pdl"] = True
        try:
            made = triton.compile(
                source, target=backend.GPUTarget("cuda", architecture, 32), options=options
            )
        except (OSError, MemoryError) as error:
            raise EnvironmentMismatchError(f"the compiler does not run here: {error}") from None
        except Exception as error:  # noqa: BLE001 - the compiler raises anything
            text = f"{type(error).__name__}: {error}"
            if _KILLED.search(text):
                raise EnvironmentMismatchError(
                    f"the assembler was killed while it made {kernel.name}",
                    fix="fewer at once (--workers), or more memory",
                ) from None
            raise InfoptError(
                f"kernel {kernel.name} does not compile for sm_{architecture}: {text[:2000]}"
            ) from None
    ptx = made.asm["ptx"]
    entry, threads = _entry(ptx)
    expected = len(kernel.types) + 2
    if _parameters(ptx) != expected:
        raise InfoptError(
            f"kernel {kernel.name} takes {_parameters(ptx)} parameters, expected {expected}"
        )
    shared_limit_bytes = _SHARED_LIMIT_BYTES.get(architecture, _SHARED_LIMIT_BYTES[80])
    if int(made.metadata.shared) > shared_limit_bytes:
        raise InfoptError(
            f"kernel {kernel.name} needs {made.metadata.shared} bytes of shared memory, sm_"
            f"{architecture} has {shared_limit_bytes}"
        )
    cubin = bytes(made.asm["cubin"])
    return Compiled(
        kernel.name,
        architecture,
        cubin,
        entry,
        threads,
        int(made.metadata.shared),
        read_resources(cubin, entry),
        "griddepcontrol.wait" in ptx,
        zlib.compress(ptx.encode(), _LITTLE),
    )


def _ahead(kernel: Kernel, has_dependent_launch: bool) -> int:
    """0: waits for nothing; 1 and 2: see `planner.kernels.source`, `planner.kernels.rolled`."""
    if kernel.steps > 1:
        return 1
    return (2 if kernel.lets_go_early else 1) if has_dependent_launch else 0


def compile_all(
    kernels: Iterable[Kernel], architectures: Iterable[int], *, workers: int = 1
) -> dict[tuple[str, int], Compiled]:
    """Every distinct kernel for every architecture, in worker processes where more than one."""
    distinct = {item.name: item for item in kernels}
    jobs = [(item, arch) for item in distinct.values() for arch in architectures]
    if workers == 1:
        return {(item.name, arch): compile_kernel(item, arch) for item, arch in jobs}
    with closing(Workers(workers)) as pool:
        made = pool.map(_job, jobs)
    return {(item.name, arch): one for (item, arch), one in zip(jobs, made, strict=True)}


class Compilers:
    """Worker processes that stay: for whoever compiles candidates again and again."""

    def __init__(self, architecture: int, workers: int) -> None:
        self._architecture = architecture
        self._pool = Workers(workers)
        self._made: dict[str, Compiled | None] = {}

    def __call__(self, kernels: Iterable[Kernel]) -> dict[str, Compiled]:
        """What compiles, by kernel name: candidates may ask for more registers than there are."""
        distinct = {item.name: item for item in kernels}
        missing = [item for name, item in distinct.items() if name not in self._made]
        jobs = [(item, self._architecture) for item in missing]
        for item, one in zip(missing, self._pool.map(_attempt, jobs), strict=True):
            self._made[item.name] = one
        found = {name: self._made[name] for name in distinct}
        return {name: one for name, one in found.items() if one is not None}

    def close(self) -> None:
        """Ends the workers."""
        self._pool.close()


def compile_each(
    kernels: Iterable[Kernel], architecture: int, *, workers: int = 1
) -> dict[str, Compiled]:
    """What compiles, by kernel name: candidates may ask for more registers than there are."""
    with closing(Compilers(architecture, workers)) as compilers:
        return compilers(kernels)


def _job(job: tuple[Kernel, int]) -> Compiled:
    return compile_kernel(*job)


def _attempt(job: tuple[Kernel, int]) -> Compiled | None:
    try:
        return compile_kernel(*job)
    except EnvironmentMismatchError:
        raise  # this machine's fault, not the kernel's
    except InfoptError:
        return None


@functools.cache
def _triton() -> Any:
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    try:
        triton = importlib.import_module("triton")
    except ModuleNotFoundError:
        raise EnvironmentMismatchError(
            "compiling kernels needs triton", fix='pip install "infopt[fused]"'
        ) from None
    triton.knobs.compilation.disable_line_info = True
    return triton


def version() -> str:
    """The compiler's version, part of what identifies a compiled kernel."""
    return str(_triton().__version__)


def _load(kernel: Kernel, folder: Path) -> Any:
    """Triton reads a kernel's source from its file, so the text must live in one."""
    path = folder / f"{kernel.name}.py"
    path.write_text(kernel.text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(kernel.name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop(kernel.name, None)
    return getattr(module, kernel.name)


def _entry(ptx: str) -> tuple[str, int]:
    name = re.search(r"\.entry (\w+)\(", ptx)
    threads = re.search(r"\.reqntid (\d+)", ptx)
    assert name is not None
    assert threads is not None
    return name[1], int(threads[1])


def _parameters(ptx: str) -> int:
    inside = re.search(r"\.entry \w+\((.*?)\)", ptx, re.DOTALL)
    assert inside is not None
    return inside[1].count(".param")
