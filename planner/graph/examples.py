"""Shapes to start from, as options that can be pasted: suggestions for open dimensions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, MutableMapping, Sequence

from planner.graph import proto
from planner.graph.model import Dim, Port

_SIZE = 16
"""Of what nothing is known of."""
_SAMPLES = 16_000
"""Of sound: a second of speech. Spectra need more than a few samples."""
_SOUND = ("sample", "audio", "wave")
_IMAGE_SIZE = 224
"""Height and width of an image: in smaller ones, networks that halve them five times run out of
pixels. Where one of them is fixed, the other gets its size."""
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
    batch, side = _batch_axis(dims), _side(dims)
    return tuple(
        _size(dim, 1 if axis == batch else _guess(port.name, dim, side), sizes)
        for axis, dim in enumerate(dims)
    )


def _size(dim: Dim, guess: int, sizes: MutableMapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    return guess if dim is None else sizes.setdefault(dim, guess)


def _batch_axis(dims: tuple[Dim, ...]) -> int | None:
    """The first one, or what stands behind the layers of a recurrent state."""
    is_open = [not isinstance(dim, int) for dim in dims]
    if dims and dims[0] != 1 and True in is_open:
        return is_open.index(True)
    return None


def _guess(name: str, dim: Dim, side: int | None) -> int:
    """Of an open dimension that is no batch."""
    if side is not None:
        return side
    words = f"{name} {dim or ''}".lower()
    return _SAMPLES if any(word in words for word in _SOUND) else _SIZE


def _side(dims: tuple[Dim, ...]) -> int | None:
    """Of an image: four dimensions, colours second or last; None where it is none."""
    for colours, sides in ((1, (2, 3)), (3, (1, 2))):
        if len(dims) != 4 or dims[colours] not in _COLOURS:
            continue
        known = [size for size in (dims[axis] for axis in sides) if isinstance(size, int)]
        return known[0] if known else _IMAGE_SIZE
    return None


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
