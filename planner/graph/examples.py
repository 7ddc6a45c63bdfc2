"""Shapes to start from, as options that can be pasted: suggestions for open dimensions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, MutableMapping, Sequence

from planner.graph import proto
from planner.graph.model import Dim, Port

_SIZE = 16
"""Of what nothing is known of; the first dimension of an input gets 1."""
_IMAGE_SIZE = 224
"""Height and width of an image: in smaller ones, networks that halve them five times run out of
pixels."""
_COLOURS = (1, 3)


def flags(ports: Sequence[Port], known: Mapping[str, int]) -> list[str]:
    """Options that bind everything open in these inputs; a named dimension has one size in all.

    Args:
        known: sizes of named dimensions that are bound already.
    """
    sizes = dict(known)
    return [flag(port.name, example(port, sizes)) for port in _binding(ports, known)]


def flag(name: str, shape: Sequence[int]) -> str:
    """`--shapes NAME:1x3`, safe in a shell."""
    return f"--shapes {shlex.quote(f'{proto.short(name)}:' + 'x'.join(map(str, shape)))}"


def example(port: Port, sizes: MutableMapping[str, int]) -> tuple[int, ...]:
    """A shape to start from: known sizes kept, 1 for the batch, something small elsewhere.

    Args:
        sizes: of named dimensions; new ones are added.
    """
    dims: tuple[Dim, ...] = port.dims if port.dims is not None else (None,)
    side = _IMAGE_SIZE if _is_image(dims) else _SIZE
    return tuple(_size(dim, side if axis else 1, sizes) for axis, dim in enumerate(dims))


def _size(dim: Dim, guess: int, sizes: MutableMapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    return guess if dim is None else sizes.setdefault(dim, guess)


def _is_image(dims: tuple[Dim, ...]) -> bool:
    """Four dimensions, colours second or last, and height and width open."""
    if len(dims) != 4:
        return False
    first, last = (dims[1], dims[2:]), (dims[3], dims[1:3])
    return any(
        colours in _COLOURS and not any(isinstance(side, int) for side in sides)
        for colours, sides in (first, last)
    )


def _binding(ports: Sequence[Port], symbols: Mapping[str, int]) -> list[Port]:
    """Inputs that are enough: one shape binds a named dimension for all that share it."""
    known, found = set(symbols), []
    for port in ports:
        dims = port.dims if port.dims is not None else (None,)
        new = {dim for dim in dims if isinstance(dim, str)} - known
        if new or None in dims:
            found.append(port)
            known |= new
    return found
