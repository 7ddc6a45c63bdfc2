"""From kernels to an engine directory: cubins, packed weights, arena, launch schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from planner.kernels import compile as compiler
from planner.kernels.arena import Life, aligned, blocks, joined, place
from planner.kernels.compile import Compiled
from planner.kernels.patterns import is_long_sum
from planner.kernels.source import Kernel, Numbers, Part
from planner.kernels.steps import loop_of
from planner.ops.nest import Program
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.manifest import (
    Argument,
    Binary,
    Bucket,
    FileDigest,
    FusedManifest,
    Launch,
    Slot,
)

Array = np.ndarray[Any, Any]
MIN_NARROWED = 4096
"""Constants with fewer elements keep float32: biases and scales cost nothing and lose nothing."""


def numbers_for(program: Program, number_format: str, *, precision: str = "ieee") -> Numbers:
    """How each tensor is stored: float32 ones in the format, inputs and outputs as they are, long
    sums in float32."""
    kept = {*program.inputs, *program.outputs}
    sums = {nest.name for nest in program.nests if nest.name not in kept and is_long_sum(nest)}
    storage = {
        name: _stored(name, type_.dtype, type_.size, program, kept, number_format)
        for name, type_ in program.types.items()
    }
    storage.update(dict.fromkeys(sums, "float32"))
    return Numbers(storage, number_format, precision)


def _stored(
    name: str, dtype: str, size: int, program: Program, kept: set[str], number_format: str
) -> str:
    is_constant = name in program.constants
    if dtype == "float64" and name not in kept:
        dtype = "float32"
    if dtype == "int64" and is_constant and name not in kept:
        return "int32" if _fits(program.constants[name]) else dtype
    small = is_constant and size < MIN_NARROWED
    if dtype == "float32" and name not in kept and not small:
        return number_format
    return dtype


def _fits(value: Array) -> bool:
    """Whether whole numbers are the same in 32 bits."""
    limits = np.iinfo(np.int32)
    return bool(value.size == 0 or (value.min() >= limits.min and value.max() <= limits.max))


def storage_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type that holds a stored element; truth values take a byte."""
    return np.dtype("int8" if name == "bool" else name)


def lives(program: Program, kernels: Sequence[Kernel], numbers: Numbers) -> dict[str, Life]:
    """Lifetime of every tensor that is not a constant."""
    first: dict[str, int] = dict.fromkeys(program.inputs, -1)
    last: dict[str, int] = dict.fromkeys(program.outputs, len(kernels))
    for position, item in enumerate(kernels):
        for name in _touched(item):
            if name in program.constants:
                continue
            first.setdefault(name, position)
            last[name] = max(last.get(name, 0), position)
    return {
        name: Life(begin, last.get(name, begin), _size_bytes(program, numbers, name))
        for name, begin in first.items()
    }


def _touched(item: Kernel) -> Iterator[str]:
    """Tensors that a kernel reads or writes."""
    yield from (parameter.tensor for parameter in item.parameters)
    yield from (name for strip in item.strips for name in strip)


def arena_size_bytes(program: Program, kernels: Sequence[Kernel], numbers: Numbers) -> int:
    """Bytes that inputs, outputs and intermediates need when lifetimes share them."""
    return arena(program, kernels, numbers)[1]


def arena(
    program: Program, kernels: Sequence[Kernel], numbers: Numbers
) -> tuple[dict[str, int], int]:
    """(offset of each tensor, bytes in all). Inputs lie side by side, and so do outputs: each of
    the two is one copy. So do the tensors of a strip."""
    living = lives(program, kernels, numbers)
    found: dict[str, int] = {}
    inner = dict(living)
    offsets_of: dict[str, dict[str, int]] = {}
    strips = [(f"<strip {chain[0]}>", chain) for chain in chains(kernels)]
    for block, names in (("<in>", program.inputs), ("<out>", program.outputs), *strips):
        own = tuple(dict.fromkeys(name for name in names if name in inner))
        offsets, total = blocks({name: living[name].size_bytes for name in own})
        offsets_of[block] = offsets
        for name in own:
            del inner[name]
        if own:
            inner[block] = joined(living, own, total)
    placed, size_bytes = place(inner)
    for name, offset in placed.items():
        members = offsets_of.get(name)
        if members is None:
            found[name] = offset
        else:
            found.update({member: offset + start for member, start in members.items()})
    return found, size_bytes


def chains(kernels: Sequence[Kernel]) -> list[tuple[str, ...]]:
    """Strips of all kernels, those that share tensors as one."""
    following: dict[str, str] = {}
    for item in kernels:
        for strip in item.strips:
            following.update(pairwise(strip))
    found = []
    for start in sorted(following.keys() - set(following.values())):
        chain = [start]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        found.append(tuple(chain))
    return found


def _size_bytes(program: Program, numbers: Numbers, name: str) -> int:
    return program.types[name].size * storage_dtype(numbers.storage[name]).itemsize


@dataclass(frozen=True, slots=True)
class Sheet:
    """A program as launches: what one bucket of an engine is packed from."""

    name: str
    """Of the workload shape."""
    program: Program
    numbers: Numbers
    launches: Sequence[tuple[Sequence[Part], Kernel]]
    waiting: frozenset[str] = frozenset()
    """Kernels that start only when the launch in front of them has ended."""
    apart: Mapping[int, Sequence[tuple[Sequence[Part], Kernel]]] = field(default_factory=dict)
    """Launch that is a loop -> the launches it stands for."""
    architectures: tuple[int, ...] = ()
    """GPUs it is for; empty: all."""

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """In launch order; equal ones repeat."""
        return tuple(item for _, item in self.launches)


def pack_weights(sheets: Sequence[Sheet]) -> tuple[bytes, tuple[dict[str, int], ...]]:
    """Constants that kernels read, equal ones once whatever the bucket; offsets per sheet."""
    blob = bytearray()
    seen: dict[str, int] = {}
    placed = []
    for sheet in sheets:
        constants = sheet.program.constants
        used = dict.fromkeys(
            parameter.tensor
            for item in sheet.kernels
            for parameter in item.parameters
            if parameter.tensor in constants
        )
        offsets: dict[str, int] = {}
        for name in used:
            dtype = storage_dtype(sheet.numbers.storage[name])
            data = np.ascontiguousarray(constants[name].astype(dtype)).tobytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest not in seen:
                seen[digest] = len(blob)
                blob += data + b"\0" * (aligned(len(data)) - len(data))
            offsets[name] = seen[digest]
        placed.append(offsets)
    return bytes(blob), tuple(placed)


def write(
    directory: Path,
    sheets: Sequence[Sheet],
    compiled: Mapping[tuple[str, int], Compiled],
    refused: Mapping[str, Mapping[int, str]] = MappingProxyType({}),
) -> FusedManifest:
    """Writes the engine directory; the same input gives the same bytes.

    Args:
        refused: loop -> architectures that get its launches only, and why.
    """
    weights, in_weights = pack_weights(sheets)
    directory.mkdir(parents=True, exist_ok=True)
    written = [_write(directory, manifests.WEIGHTS, weights)]
    binaries = []
    for (name, architecture), item in sorted(compiled.items()):
        file = f"sm_{architecture}/{name}.cubin"
        written.append(_write(directory, file, item.cubin))
        binaries.append(_binary(file, item))
    manifest = FusedManifest(
        manifests.VERSION,
        f"triton {compiler.version()}",
        tuple(_bucket(sheet, own, refused) for sheet, own in zip(sheets, in_weights, strict=True)),
        len(weights),
        tuple(binaries),
        tuple(written),
    )
    (directory / manifests.FILE).write_text(manifest.text(), encoding="utf-8")
    return manifest


def _bucket(
    sheet: Sheet, in_weights: Mapping[str, int], refused: Mapping[str, Mapping[int, str]]
) -> Bucket:
    program, numbers = sheet.program, sheet.numbers
    in_arena, size_bytes = arena(program, sheet.kernels, numbers)

    def launches(listed: Sequence[tuple[Sequence[Part], Kernel]]) -> tuple[Launch, ...]:
        return tuple(
            _launch(parts, item, in_weights, in_arena, ahead=item.name not in sheet.waiting)
            for parts, item in listed
        )

    return Bucket(
        sheet.name,
        tuple(_slot(program, numbers, name, in_arena) for name in program.inputs),
        tuple(_slot(program, numbers, name, in_arena) for name in program.outputs),
        size_bytes,
        launches(sheet.launches),
        tuple(
            loop_of(at, launches(steps), refused.get(sheet.kernels[at].name, {}))
            for at, steps in sheet.apart.items()
        ),
        sheet.architectures,
    )


def _write(directory: Path, file: str, data: bytes) -> FileDigest:
    path = directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return FileDigest(file, len(data), hashlib.sha256(data).hexdigest())


def _binary(file: str, item: Compiled) -> Binary:
    return Binary(
        item.name,
        item.architecture,
        file,
        item.entry,
        item.threads,
        item.shared_size_bytes,
        item.resources.registers,
        item.resources.stack_size_bytes,
        item.resources.code_size_bytes,
        item.waits,
    )


def _slot(program: Program, numbers: Numbers, name: str, offsets: Mapping[str, int]) -> Slot:
    type_ = program.types[name]
    size_bytes = _size_bytes(program, numbers, name)
    return Slot(name, type_.dtype, type_.shape, offsets[name], size_bytes)


def _launch(
    parts: Sequence[Part],
    item: Kernel,
    in_weights: Mapping[str, int],
    in_arena: Mapping[str, int],
    *,
    ahead: bool,
) -> Launch:
    arguments = []
    for parameter, kind in zip(item.parameters, item.types, strict=True):
        space = "weights" if parameter.tensor in in_weights else "arena"
        start = (in_weights if space == "weights" else in_arena)[parameter.tensor]
        moved = start + parameter.offset * storage_dtype(kind).itemsize
        arguments.append(Argument(space, moved))
    made = tuple(name for part in parts for name in part.stage.makes)
    return Launch(item.name, item.programs, tuple(arguments), made, ahead, item.steps > 1)
