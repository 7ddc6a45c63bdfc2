"""fused.json: what a fused engine directory contains. Written by `planner.kernels.pack`.

Plain JSON read into frozen dataclasses: a target may lack pydantic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from planner.errors import VerificationError

FILE = "fused.json"
WEIGHTS = "weights.bin"
VERSION = 4
READABLE = (2, 3, 4)
"""In version 2 no launches lie beside a loop: such an engine runs where its loops fit. Up to
version 3 every bucket is for all architectures."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor the caller passes in or gets, and where it lies in the arena."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Argument:
    """A kernel parameter: an address in the weights or in the arena."""

    space: str
    """`weights` or `arena`."""
    offset: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One node of the graph."""

    kernel: str
    programs: int
    arguments: tuple[Argument, ...]
    makes: tuple[str, ...]
    """Root tensors, for people and for debugging."""
    ahead: bool = True
    """Whether it may start before what is in front of it has ended (dependent launch)."""
    together: bool = False
    """Whether its blocks wait for each other: all of them must be on the device at once."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An architecture that an engine holds no loop for."""

    architecture: int
    reason: str


@dataclass(frozen=True, slots=True)
class Loop:
    """What a launch whose blocks wait for each other stands for: the same steps as launches, for
    devices that do not hold all its blocks at once."""

    position: int
    """Of the launch in its bucket."""
    steps: int
    first: Launch
    """The first step as a launch of its own; it makes what all steps together make."""
    strides_bytes: tuple[int, ...]
    """By how much each argument moves from one step to the next."""
    refused: tuple[Refusal, ...] = ()
    """Architectures without a kernel for the loop, but with one for its steps."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A kernel for one architecture."""

    kernel: str
    architecture: int
    file: str
    entry: str
    threads: int
    shared_size_bytes: int
    registers: int
    stack_size_bytes: int
    code_size_bytes: int
    waits: bool
    """Launched before its predecessor ends; it waits by itself."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A file of the engine."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """The launches for one set of input shapes."""

    name: str
    """Of the workload shape."""
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    arena_size_bytes: int
    launches: tuple[Launch, ...]
    loops: tuple[Loop, ...] = ()
    architectures: tuple[int, ...] = ()
    """GPUs that it is for, by the closest architecture built for; empty: all of them. Where one of
    them refuses a kernel, the others keep it."""


@dataclass(frozen=True, slots=True)
class FusedManifest:
    """The table of contents of a fused engine: buckets share weights and kernels."""

    version: int
    compiler: str
    buckets: tuple[Bucket, ...]
    weights_size_bytes: int
    binaries: tuple[Binary, ...]
    files: tuple[FileDigest, ...]
    """Every file except this one."""

    def on(self, architecture: int) -> FusedManifest:
        """With those buckets only that are for such a device."""
        closest = self.closest(architecture)
        if not closest:
            return self
        own = tuple(b for b in self.buckets if not b.architectures or closest in b.architectures)
        return replace(self, buckets=own)

    def closest(self, architecture: int) -> int:
        """The architecture whose kernels run there: of the same major version, the latest that is
        not later; 0 where there is none."""
        built = {item.architecture for item in self.binaries}
        family = (a for a in built if a // 10 == architecture // 10 and a <= architecture)
        return max(family, default=0)

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Of all buckets, one after another."""
        return tuple(launch for bucket in self.buckets for launch in bucket.launches)

    @property
    def loop_kernels(self) -> frozenset[str]:
        """Kernels that an architecture may do without: their steps are there as launches."""
        return frozenset(
            bucket.launches[loop.position].kernel
            for bucket in self.buckets
            for loop in bucket.loops
        )

    @property
    def needed_kernels(self) -> frozenset[str]:
        """Kernels that every architecture needs."""
        steps = {loop.first.kernel for bucket in self.buckets for loop in bucket.loops}
        return frozenset({launch.kernel for launch in self.launches} | steps) - self.loop_kernels

    def text(self) -> str:
        """The same manifest is the same bytes."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def read(directory: Path) -> FusedManifest:
    """The manifest of an engine directory.

    Raises:
        VerificationError: absent, damaged, or of another version.
    """
    path = directory / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] not in READABLE:
            raise VerificationError(
                f"version {data['version']}, this infopt reads {VERSION}", where=str(path)
            )
        return _manifest(data)
    except FileNotFoundError:
        raise VerificationError("no such file", where=str(path)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"damaged: {error!r}", where=str(path)) from None


def _manifest(data: Mapping[str, Any]) -> FusedManifest:
    return FusedManifest(
        version=data["version"],
        compiler=data["compiler"],
        buckets=tuple(_bucket(item) for item in data["buckets"]),
        weights_size_bytes=int(data["weights_size_bytes"]),
        binaries=tuple(Binary(**item) for item in data["binaries"]),
        files=tuple(FileDigest(**item) for item in data["files"]),
    )


def _bucket(item: Mapping[str, Any]) -> Bucket:
    return Bucket(
        name=item["name"],
        inputs=tuple(_slot(slot) for slot in item["inputs"]),
        outputs=tuple(_slot(slot) for slot in item["outputs"]),
        arena_size_bytes=int(item["arena_size_bytes"]),
        launches=tuple(_launch(launch) for launch in item["launches"]),
        loops=tuple(_loop(loop, len(item["launches"])) for loop in item.get("loops", ())),
        architectures=tuple(int(one) for one in item.get("architectures", ())),
    )


def _slot(item: Mapping[str, Any]) -> Slot:
    return Slot(**{**item, "shape": tuple(item["shape"])})


def _launch(item: Mapping[str, Any]) -> Launch:
    arguments = tuple(Argument(**argument) for argument in item["arguments"])
    made, ahead = tuple(item["makes"]), bool(item.get("ahead", True))
    together = bool(item.get("together", False))
    return Launch(item["kernel"], item["programs"], arguments, made, ahead, together)


def _loop(item: Mapping[str, Any], launches: int) -> Loop:
    first, strides = _launch(item["first"]), tuple(int(one) for one in item["strides_bytes"])
    position, steps = int(item["position"]), int(item["steps"])
    if not 0 <= position < launches or steps < 1 or len(strides) != len(first.arguments):
        raise ValueError(f"a loop of {steps} steps at {position}")
    refused = tuple(Refusal(**one) for one in item["refused"])
    return Loop(position, steps, first, strides, refused)


def check_files(directory: Path, manifest: FusedManifest) -> None:
    """Every file is there, and its bytes are those that were built.

    Raises:
        VerificationError: a file is absent or altered.
    """
    for entry in manifest.files:
        path = directory / entry.path
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise VerificationError(f"cannot be read: {error}", where=str(path)) from None
        if found != entry.sha256:
            raise VerificationError(
                "its bytes are not those that were built", where=str(path), fix="build it again"
            )
