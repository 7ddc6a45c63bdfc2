"""LSTM, GRU and RNN, written out step by step.

Why unrolled: equal steps become equal kernels (one cubin), steps of different layers that do not
depend on each other share a launch, so that a stack of layers runs as a wave of `steps + layers`
levels without any rule for it.

What a step takes from the input is a product of its own for all steps at once, where the whole
input is known before the first step: not where it is another recurrence's sequence, or the wave
would stand still (`_whole_input`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.ops import index
from planner.ops.builder import Builder, Lower, Node, NotCovered, optional
from planner.ops.expr import Bound, Expr, Inside, Load, apply, number
from planner.ops.index import Affine
from planner.ops.nest import Reducer, TensorType

MAX_STEPS = 512
"""Steps written out at most."""
MIN_STEPS_AT_ONCE = 8
"""Steps from which one product for all inputs pays for the launch that it takes."""
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_FUNCTIONS: Mapping[str, Callable[[Expr], Expr]] = {
    "Sigmoid": lambda x: apply("sigmoid", x),
    "Tanh": lambda x: apply("tanh", x),
    "Relu": lambda x: apply("max", x, number(0.0)),
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_BIAS, _LENGTHS, _STATE, _CELL, _PEEPHOLES = 3, 4, 5, 6, 7


@dataclass(frozen=True, slots=True)
class _Layer:
    """One direction of one recurrent operator."""

    node: Node
    direction: int
    hidden: int
    kind: TensorType
    """Of a state: batch x hidden."""
    functions: tuple[Callable[[Expr], Expr], ...]
    inputs: str | None = None
    """x W of every step, where it is made at once: steps x batch x (gates hidden)."""

    def name(self, what: str) -> str:
        """A base for fresh tensor names."""
        return f"{self.node.outputs[0] or self.node.name}/{what}"


def _recurrent(builder: Builder, node: Node) -> None:
    _refuse_rare(builder, node)
    steps, batch, _ = builder.shape(node.inputs[0])
    hidden = int(node.attributes["hidden_size"])
    directions = {"bidirectional": (0, 1)}.get(node.attributes.get("direction", "forward"), (0,))
    reverse = node.attributes.get("direction", "forward") == "reverse"
    made: list[list[str]] = []
    cells: list[str | None] = []
    for direction in directions:
        order = range(steps)[::-1] if reverse or direction == 1 else range(steps)
        kind = TensorType(builder.dtype(node.inputs[0]), (batch, hidden))
        functions = _functions(node, direction)
        layer = _Layer(node, direction, hidden, kind, functions)
        if steps >= MIN_STEPS_AT_ONCE and not _is_wave(builder, node.inputs[0]):
            layer = replace(layer, inputs=_whole_input(builder, layer))
        states, cell = _run(builder, layer, list(order))
        made.append(states)
        cells.append(cell)
    lasts = [
        states[0] if reverse or position == 1 else states[-1]
        for position, states in enumerate(made)
    ]
    _outputs(builder, node, made, lasts, cells)
    if len(directions) == 1 and node.outputs[0]:
        builder.waves.add(node.outputs[0])


def _refuse_rare(builder: Builder, node: Node) -> None:
    """What no exporter writes is left to ONNX Runtime."""
    rare = [
        bool(optional(node, _LENGTHS)) and builder.constant(node.inputs[_LENGTHS]) is None,
        bool(optional(node, _PEEPHOLES)),
        bool(node.attributes.get("clip")),
        bool(node.attributes.get("layout", 0)),
        bool(node.attributes.get("input_forget", 0)),
        builder.shape(node.inputs[0])[0] > MAX_STEPS,
    ]
    lengths = builder.constant(node.inputs[_LENGTHS]) if optional(node, _LENGTHS) else None
    short = lengths is not None and bool((lengths != builder.shape(node.inputs[0])[0]).any())
    if any(rare) or short:
        raise NotCovered(f"{node.op_type} in this form", where=node.name)


def _functions(node: Node, direction: int) -> tuple[Callable[[Expr], Expr], ...]:
    defaults = _DEFAULTS[node.op_type]
    listed = list(node.attributes.get("activations") or defaults * 2)
    own = listed[direction * len(defaults) : (direction + 1) * len(defaults)]
    if any(name not in _FUNCTIONS for name in own):
        raise NotCovered(f"{node.op_type} with activations {own}", where=node.name)
    return tuple(_FUNCTIONS[name] for name in own)


def _run(builder: Builder, layer: _Layer, order: Sequence[int]) -> tuple[list[str], str | None]:
    """Every hidden state in the order of time, and the last cell state of an LSTM."""
    step = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[layer.node.op_type]
    state = _initial(builder, layer, _STATE)
    cell = _initial(builder, layer, _CELL) if layer.node.op_type == "LSTM" else None
    found: dict[int, str] = {}
    for at in order:
        state, cell = step(builder, layer, at, state, cell)
        found[at] = state
    return [found[at] for at in range(len(order))], cell


def _initial(builder: Builder, layer: _Layer, position: int) -> str | None:
    """The state before the first step as batch x hidden; None where it is zero."""
    name = optional(layer.node, position)
    known = builder.constant(name) if name else None
    if name is None or (known is not None and not known.any()):
        return None
    d = layer.direction
    return builder.map(
        builder.fresh(layer.name("initial")),
        lambda b, j: Load(name, (index.constant(d), b, j)),
        layer.kind,
    )


def _gates(
    builder: Builder, layer: _Layer, at: int, state: str | None, own: int | None = None
) -> tuple[str, str | None]:
    """x W for all gates: batch x (gates hidden); h R for the first `own` of them."""
    node, d = layer.node, index.constant(layer.direction)
    source, weight, recurrent = node.inputs[:3]
    batch, width = layer.kind.shape[0], _GATES[node.op_type] * layer.hidden
    kind = TensorType(layer.kind.dtype, (batch, width))
    time, inputs = index.constant(at), layer.inputs

    def inward(b: Affine, n: Affine, k: Affine) -> Expr:
        return apply("mul", Load(source, (time, b, k)), Load(weight, (d, n, k)))

    name = builder.fresh(layer.name("x"))
    if inputs is not None:
        x = builder.map(name, lambda b, n: Load(inputs, (time, b, n)), kind)
    else:
        depth = builder.shape(source)[2]
        x = builder.reduce(name, Reducer.SUM, (depth,), inward, kind)
    if state is None:
        return x, None

    def onward(b: Affine, n: Affine, k: Affine) -> Expr:
        return apply("mul", Load(state, (b, k)), Load(recurrent, (d, n, k)))

    if own is not None:
        kind = TensorType(kind.dtype, (batch, own * layer.hidden))
    h = builder.reduce(builder.fresh(layer.name("h")), Reducer.SUM, (layer.hidden,), onward, kind)
    return x, h


def _whole_input(builder: Builder, layer: _Layer) -> str:
    """x W for all gates of every step: steps x batch x (gates hidden)."""
    node, d = layer.node, index.constant(layer.direction)
    source, weight = node.inputs[:2]
    steps, batch, depth = builder.shape(source)
    kind = TensorType(layer.kind.dtype, (steps, batch, _GATES[node.op_type] * layer.hidden))

    def inward(t: Affine, b: Affine, n: Affine, k: Affine) -> Expr:
        return apply("mul", Load(source, (t, b, k)), Load(weight, (d, n, k)))

    return builder.reduce(builder.fresh(layer.name("xs")), Reducer.SUM, (depth,), inward, kind)


def _is_wave(builder: Builder, name: str) -> bool:
    """Whether a tensor follows from a recurrence's sequence by maps alone, element by element."""
    nests = {nest.name: nest for nest in builder.nests}
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        if current in builder.waves:
            return True
        nest = nests.get(current)
        if nest is None or not nest.is_map:
            continue
        pending += [other for other in nest.reads if other not in seen]
        seen.update(nest.reads)
    return False


def _bias(layer: _Layer, position: Affine, *, recurrent: bool) -> Expr | None:
    """Biases of the input (first half) or of the recurrence (second half)."""
    name = optional(layer.node, _BIAS)
    if name is None:
        return None
    shift = _GATES[layer.node.op_type] * layer.hidden if recurrent else 0
    return Load(name, (index.constant(layer.direction), position + shift))


def _sum(parts: Sequence[Expr | None]) -> Expr:
    given = [part for part in parts if part is not None]
    total = given[0]
    for part in given[1:]:
        total = apply("add", total, part)
    return total


def _gate(layer: _Layer, x: str, h: str | None, b: Affine, j: Affine, position: int) -> Expr:
    """x W + h R + biases of one gate."""
    n = j + position * layer.hidden
    onward = Load(h, (b, n)) if h is not None else None
    both = (_bias(layer, n, recurrent=False), _bias(layer, n, recurrent=True))
    return _sum((Load(x, (b, n)), onward, *both))


def _lstm(
    builder: Builder, layer: _Layer, at: int, state: str | None, cell: str | None
) -> tuple[str, str | None]:
    """c = f c + i g, h = o tanh(c); ONNX orders the gates i, o, f, c."""
    x, h = _gates(builder, layer, at, state)
    sigma, inner, outer = layer.functions

    def new_cell(b: Affine, j: Affine) -> Expr:
        entry = sigma(_gate(layer, x, h, b, j, 0))
        fresh = apply("mul", entry, inner(_gate(layer, x, h, b, j, 3)))
        if cell is None:
            return fresh
        forget = sigma(_gate(layer, x, h, b, j, 2))
        return apply("add", apply("mul", forget, Load(cell, (b, j))), fresh)

    c = builder.map(builder.fresh(layer.name("c")), new_cell, layer.kind)

    def new_state(b: Affine, j: Affine) -> Expr:
        gate = sigma(_gate(layer, x, h, b, j, 1))
        return apply("mul", gate, outer(Load(c, (b, j))))

    return builder.map(builder.fresh(layer.name("s")), new_state, layer.kind), c


def _gru(
    builder: Builder, layer: _Layer, at: int, state: str | None, cell: str | None
) -> tuple[str, str | None]:
    """h = (1 - z) n + z h; ONNX orders the gates z, r, h."""
    is_late = bool(layer.node.attributes.get("linear_before_reset", 0))
    x, h = _gates(builder, layer, at, state, own=3 if is_late else 2)
    sigma, inner = layer.functions
    early = None if is_late else _reset_state(builder, layer, x, h, state)

    def new_state(b: Affine, j: Affine) -> Expr:
        update = sigma(_gate(layer, x, h, b, j, 0))
        n = j + 2 * layer.hidden
        shift = _bias(layer, n, recurrent=True)
        fresh: list[Expr | None] = [Load(x, (b, n)), _bias(layer, n, recurrent=False)]
        if not is_late:
            fresh += [None if early is None else Load(early, (b, j)), shift]
        elif h is not None or shift is not None:
            onward = Load(h, (b, n)) if h is not None else None
            reset = sigma(_gate(layer, x, h, b, j, 1))
            fresh.append(apply("mul", reset, _sum((onward, shift))))
        made = apply("mul", apply("sub", number(1.0), update), inner(_sum(fresh)))
        if state is None:
            return made
        return apply("add", made, apply("mul", update, Load(state, (b, j))))

    return builder.map(builder.fresh(layer.name("s")), new_state, layer.kind), None


def _reset_state(
    builder: Builder, layer: _Layer, x: str, h: str | None, state: str | None
) -> str | None:
    """(r h) R of a GRU that resets before its product; None where h is zero."""
    if state is None:
        return None
    sigma, recurrent = layer.functions[0], layer.node.inputs[2]
    d, shift = index.constant(layer.direction), 2 * layer.hidden

    def held(b: Affine, j: Affine) -> Expr:
        return apply("mul", sigma(_gate(layer, x, h, b, j, 1)), Load(state, (b, j)))

    kept = builder.map(builder.fresh(layer.name("r")), held, layer.kind)

    def onward(b: Affine, n: Affine, k: Affine) -> Expr:
        return apply("mul", Load(kept, (b, k)), Load(recurrent, (d, n + shift, k)))

    name = builder.fresh(layer.name("n"))
    return builder.reduce(name, Reducer.SUM, (layer.hidden,), onward, layer.kind)


def _rnn(
    builder: Builder, layer: _Layer, at: int, state: str | None, cell: str | None
) -> tuple[str, str | None]:
    """h = f(x W + h R + b)."""
    x, h = _gates(builder, layer, at, state)
    made = builder.map(
        builder.fresh(layer.name("s")),
        lambda b, j: layer.functions[0](_gate(layer, x, h, b, j, 0)),
        layer.kind,
    )
    return made, None


def _outputs(
    builder: Builder,
    node: Node,
    made: Sequence[Sequence[str]],
    lasts: Sequence[str],
    cells: Sequence[str | None],
) -> None:
    """Y (steps, directions, batch, hidden), the last hidden and the last cell states."""
    names = [*node.outputs, "", ""][:3]
    if names[0]:
        flat = [name for states in made for name in states]
        steps = len(made[0])
        builder.map(names[0], lambda t, d, b, j: _chosen(flat, d * steps + t, (b, j)))
    if names[1]:
        builder.map(names[1], lambda d, b, j: _chosen(lasts, d, (b, j)))
    if names[2]:
        known = [cell for cell in cells if cell is not None]
        builder.map(names[2], lambda d, b, j: _chosen(known, d, (b, j)))


def _chosen(names: Sequence[str], which: Affine, at: tuple[Affine, ...]) -> Expr:
    """The tensor with this number: a concatenation along a new axis."""
    last = len(names) - 1
    value: Expr = Load(names[last], at)
    for position in range(last - 1, -1, -1):
        here = Inside((Bound(which, position, position + 1),))
        value = apply("where", here, Load(names[position], at), value)
    return value


FAMILY: Mapping[str, Lower] = {"LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent}
