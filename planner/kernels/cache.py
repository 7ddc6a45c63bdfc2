"""Compiled kernels kept between builds: the same source, compiler and device, the same cubin.

What a compiler refused (too much shared memory for a device) is kept too: it would refuse it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from planner.kernels import compile as compiler
from planner.kernels.compile import Compiled, compile_each
from planner.kernels.cubin import Resources
from planner.kernels.ptx.trace import FOLLOWED, Trace, trace_of
from planner.kernels.source import Kernel

LAYOUT = 1
"""Of the files below; another number is another folder."""
_RECIPE = hashlib.sha256(Path(compiler.__file__).read_bytes()).hexdigest()[:8]
"""How sources are compiled: another recipe, another cubin."""


class KernelCache:
    """A folder of cubins, each beside a line of what is known of it."""

    def __init__(self, folder: Path) -> None:
        """Opens (or will make) the folder of this compiler version."""
        self.folder = folder / f"kernels-{LAYOUT}-triton-{compiler.version()}-{_RECIPE}"

    def get(self, name: str, architecture: int) -> Compiled | None:
        """A kernel that was compiled before; None where it was not, or its file is damaged."""
        path = self._path(name, architecture)
        try:
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            cubin = path.read_bytes()
            resources = Resources(**facts.pop("resources"))
            if len(cubin) != facts.pop("cubin_size_bytes"):
                return None
            ptx = _read(path.with_suffix(".ptx.z"))
            return Compiled(cubin=cubin, resources=resources, ptx=ptx, **facts)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, made: Compiled) -> None:
        """Keeps a kernel; whoever reads meanwhile sees a whole one or none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(made.name, made.architecture)
        facts = {**asdict(made), "cubin_size_bytes": len(made.cubin)}
        del facts["cubin"], facts["ptx"]
        _replace(path, made.cubin)
        _replace(path.with_suffix(".ptx.z"), made.ptx)
        _replace(path.with_suffix(".json"), json.dumps(facts).encode())

    def refuse(self, name: str, architecture: int) -> None:
        """Keeps that a kernel does not compile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path(name, architecture).with_suffix(".refused").touch()

    def is_refused(self, name: str, architecture: int) -> bool:
        """Whether the compiler refused it before."""
        return self._path(name, architecture).with_suffix(".refused").exists()

    def compiled(
        self, kernels: Iterable[Kernel], architectures: Iterable[int], *, workers: int
    ) -> dict[tuple[str, int], Compiled]:
        """What compiles, by (kernel, architecture); new ones in worker processes."""
        distinct = {item.name: item for item in kernels}
        found: dict[tuple[str, int], Compiled] = {}
        for architecture in architectures:
            known = {name: self.get(name, architecture) for name in distinct}
            missing = [
                item
                for name, item in distinct.items()
                if known[name] is None and not self.is_refused(name, architecture)
            ]
            fresh: Mapping[str, Compiled] = (
                compile_each(missing, architecture, workers=min(workers, len(missing)))
                if missing
                else {}
            )
            for item in missing:
                if item.name in fresh:
                    self.put(fresh[item.name])
                else:
                    self.refuse(item.name, architecture)
            both = {**known, **fresh}
            found.update(
                ((name, architecture), made) for name, made in both.items() if made is not None
            )
        return found

    def trace(self, made: Compiled, parts: Sequence[int], units: int) -> Trace | None:
        """`planner.kernels.ptx.trace.trace_of`, kept beside the kernel.

        Args:
            parts: blocks of each part of its launch.
            units: multiprocessors of the device.
        """
        key = hashlib.sha256(f"{FOLLOWED} {units} {list(parts)}".encode()).hexdigest()[:8]
        path = self._path(made.name, made.architecture).with_suffix(f".{key}.trace")
        try:
            return Trace(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            found = trace_of(made, parts, units)
        if found is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(path, json.dumps(asdict(found)).encode())
        return found

    def _path(self, name: str, architecture: int) -> Path:
        return self.folder / f"{name}-sm{architecture}.cubin"


def _read(path: Path) -> bytes:
    """Nothing, where there is no such file."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _replace(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    scratch.write_bytes(data)
    scratch.replace(path)
