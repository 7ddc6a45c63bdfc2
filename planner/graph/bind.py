"""Fixes the shape of every input: what the user gave, checked against what the model declares.

Where a model serves several sets of shapes, what they agree on is fixed, the rest stays symbolic:

    x [batch, time, 64]   given [1, 16, 64] and [1, 128, 64]   ->   x [1, time, 64]
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.errors import ModelError
from planner.graph import proto
from planner.graph.examples import example, flag, flags
from planner.graph.model import BoundModel, Dim, LoadedModel, Port
from planner.graph.normal import Binding, normalise
from planner.graph.sandbox import Bounds, Sandbox

Shapes = Mapping[str, tuple[int, ...]]
_NAMED = 3
"""How many inputs an error message names."""


def bind(
    loaded: LoadedModel, given: Sequence[Shapes], out_path: Path, *, limits: Bounds | None = None
) -> BoundModel:
    """The model for these sets of input shapes, in normal form, written to `out_path`.

    Each set need only name inputs with dimensions that are not static; a scalar is `()`. A default
    input named here stays overridable, all others become constants.

    Raises:
        ModelError: an unknown input, a wrong rank, a contradiction, or dimensions left unbound.
    """
    where = str(loaded.path)
    try:
        shared = shared_shapes(loaded, given)
    except ModelError as error:
        raise ModelError(error.what, where=where, fix=error.fix) from None
    kept = frozenset(port.name for port in loaded.defaults if port.name in shared)
    bounds = (limits or Bounds()).for_size(loaded.size_bytes)
    sandbox = Sandbox("binding the model's shapes", where, bounds)
    try:
        return sandbox.call(normalise, loaded.path, Binding(shared, kept), out_path)
    except ModelError as error:
        raise ModelError(error.what, where=where, fix=error.fix) from None


def shared_shapes(loaded: LoadedModel, given: Sequence[Shapes]) -> dict[str, tuple[Dim, ...]]:
    """What several sets of shapes have in common: a size where they agree, a symbol elsewhere.

    Raises:
        ModelError: see `bind`; or the sets disagree on which inputs there are, or on a rank.
    """
    first, *others = [complete_shapes(loaded, shapes) for shapes in given]
    for other in others:
        _check_comparable(first, other)
    ports = {port.name: port for port in (*loaded.inputs, *loaded.defaults)}
    return {
        name: tuple(
            size if all(size == other[name][axis] for other in others) else _symbol(port, axis)
            for axis, size in enumerate(shape)
        )
        for name, shape in first.items()
        for port in (ports[name],)
    }


def _check_comparable(one: Shapes, other: Shapes) -> None:
    odd = min(one.keys() ^ other.keys(), default=None)
    if odd is not None:
        raise ModelError(
            f"input {proto.short(odd)!r} has a default, and only some sets of shapes name it",
            fix="name it in all of them, or in none",
        )
    for name, shape in one.items():
        if len(shape) != len(other[name]):
            raise ModelError(
                f"input {proto.short(name)!r} is {_text(shape)} in one set of shapes and"
                f" {_text(other[name])} in another",
                fix="give it the same number of dimensions in all of them",
            )


def _symbol(port: Port, axis: int) -> str:
    """The model's own name of a dimension, else one that is unique."""
    declared = port.dims[axis] if port.dims is not None else None
    return declared if isinstance(declared, str) else f"{port.name}.{axis}"


def complete_shapes(loaded: LoadedModel, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """A shape for every input, in the model's order.

    A symbolic dimension bound through one input is bound for all of them.

    Raises:
        ModelError: see `bind`.
    """
    _check_inputs_known(loaded, shapes)
    ports = (*loaded.inputs, *(port for port in loaded.defaults if port.name in shapes))
    tensors = [port for port in ports if port.is_tensor]
    symbols: dict[str, tuple[int, str]] = {}
    for port in tensors:
        if port.name in shapes:
            _check_fits(port, shapes[port.name])
            _collect_symbols(port, shapes[port.name], symbols)
    complete = {port.name: _shape_of(port, shapes, symbols) for port in tensors}
    unbound = [port for port in tensors if complete[port.name] is None]
    if unbound:
        raise _unbound(unbound, symbols)
    return {name: shape for name, shape in complete.items() if shape is not None}


def _check_inputs_known(loaded: LoadedModel, shapes: Shapes) -> None:
    known = [port.name for port in (*loaded.inputs, *loaded.defaults)]
    for name in shapes:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, 1, cutoff=0.4)
        listed = ", ".join(repr(proto.short(port.name)) for port in loaded.inputs[:10]) or "none"
        raise ModelError(
            f"the model has no input {proto.short(name)!r}",
            fix=f"did you mean {proto.short(near[0])!r}?" if near else f"its inputs: {listed}",
        )


def _check_fits(port: Port, shape: tuple[int, ...]) -> None:
    name = proto.short(port.name)
    if any(size < 0 for size in shape):
        raise ModelError(f"input {name!r}: {_text(shape)} has a negative dimension")
    if math.prod(shape) * 16 > proto.MAX_SIZE_BYTES:
        raise ModelError(f"input {name!r}: {_text(shape)} has more elements than can be counted")
    if port.dims is None:
        return
    if len(shape) != len(port.dims):
        raise ModelError(
            f"input {name!r} has {len(port.dims)} dimensions ({_declared(port)}), the given shape"
            f" {_text(shape)} has {len(shape)}",
            fix=flag(port.name, example(port, {})),
        )
    for axis, (dim, size) in enumerate(zip(port.dims, shape, strict=True)):
        if isinstance(dim, int) and dim != size:
            raise ModelError(
                f"input {name!r} is fixed at {dim} in dimension {axis} ({_declared(port)}), the"
                f" given shape {_text(shape)} says {size}",
                fix=flag(port.name, (*shape[:axis], dim, *shape[axis + 1 :])),
            )


def _collect_symbols(
    port: Port, shape: tuple[int, ...], symbols: dict[str, tuple[int, str]]
) -> None:
    for dim, size in zip(port.dims or (), shape, strict=False):
        if not isinstance(dim, str):
            continue
        bound, by = symbols.setdefault(dim, (size, port.name))
        if bound != size:
            raise ModelError(
                f"dimension {proto.short(dim)!r} is {bound} in input {proto.short(by)!r} and {size}"
                f" in input {proto.short(port.name)!r}",
                fix="give both inputs the same size there",
            )


def _shape_of(
    port: Port, shapes: Shapes, symbols: Mapping[str, tuple[int, str]]
) -> tuple[int, ...] | None:
    """The complete shape, or None while anything in it is unknown."""
    if port.name in shapes:
        return tuple(shapes[port.name])
    if port.dims is None:
        return None
    sizes = [
        symbols[dim][0] if isinstance(dim, str) and dim in symbols else dim for dim in port.dims
    ]
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if len(known) == len(sizes) else None


def _unbound(ports: list[Port], symbols: Mapping[str, tuple[int, str]]) -> ModelError:
    shown = [f"{proto.short(port.name)} ({_declared(port)})" for port in ports[:_NAMED]]
    more = f" and {len(ports) - _NAMED} more" if len(ports) > _NAMED else ""
    known = {name: size for name, (size, _) in symbols.items()}
    return ModelError(
        f"dimensions are not bound: {', '.join(shown)}{more}",
        fix=f"for example {' '.join(flags(ports, known))}",
    )


def _declared(port: Port) -> str:
    """Dimensions as the model declares them, `?` where it says nothing."""
    if port.dims is None:
        return "rank unknown"
    dims = ("?" if dim is None else proto.short(str(dim), 24) for dim in port.dims)
    return "x".join(dims) or "scalar"


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
