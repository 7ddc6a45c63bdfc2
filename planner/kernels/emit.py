"""Tiles evaluated on demand: the one function behind every kernel.

`Emitter.value(expr)` returns the tile of an expression: a load from memory, or what an internal
nest computes at that index. Values carry only the tile axes they depend on; axes are added where
values meet. Everything is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from planner.kernels.expressions import FLOAT_TEXT, WHOLE_TEXT
from planner.kernels.guards import ALIGNMENT_BYTES, MAX_INNER_DEPTH, protecting
from planner.kernels.scope import Scopes, Value
from planner.kernels.stage import Config
from planner.kernels.text import (
    HELPER_WORDS,
    ITEM_SIZE_BYTES,
    NARROW,
    TRITON_TYPE,
    known,
    other_text,
    term,
    whole_type,
)
from planner.ops import index
from planner.ops.expr import Apply, Bound, Cast, Const, Expr, Index, Inside, Load
from planner.ops.functions import FUNCTIONS
from planner.ops.index import Affine, Datum, Mod, Var
from planner.ops.nest import Nest, Program


@dataclass(slots=True)
class Emitter:
    """Writes the body of one stage."""

    program: Program
    internal: Mapping[str, Nest]
    storage: Mapping[str, str]
    """Tensor in memory -> element type as stored."""
    product_type: str
    """Element type that products are computed in."""
    precision: str
    """Triton's input precision of float32 products."""
    config: Config
    anchor: str | None
    """The contraction the tile was laid out for."""
    reduce: Callable[[Emitter, Nest, Mapping[Var, Affine]], Value]
    """`planner.kernels.reduce.reduce`, which calls back."""
    added: Callable[[Emitter, Load, Load], Value | None] = lambda *_: None
    """`planner.kernels.products.added`: the sum of two products, where it is made as one."""
    siblings: Mapping[tuple[str, ...], tuple[Nest, Mapping[Var, Affine]]] = field(
        default_factory=dict
    )
    """Products that share the anchor's tile and configuration (the anchor among them), by nest and
    index."""
    joined: dict[tuple[str, ...], Value] = field(default_factory=dict)
    """Those that were made in the loop of another."""
    pointers: dict[tuple[str, int], str] = field(default_factory=dict)
    """(tensor in memory, first element) -> parameter name, in order of first use."""
    scopes: Scopes = field(default_factory=Scopes)
    variables: dict[Var, Value] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)
    """Tile axis -> elements."""
    order: list[str] = field(default_factory=list)
    """Tile axes, in the order of tensor dimensions."""
    full: dict[Var, tuple[str, ...]] = field(default_factory=dict)
    """Variables of which a tile holds every value -> the axes that hold them."""
    active: list[Var] = field(default_factory=list)
    """Summed variables of the products being written, outermost first."""
    overrun: dict[Var, str] = field(default_factory=dict)
    """Variables whose tile reaches past their extent -> key of the mask."""
    sums: dict[tuple[str, str, str], Var] = field(default_factory=dict)
    """(contraction, row axis, column axis) -> its summed variable, where a tile holds it whole."""
    helpers: set[str] = field(default_factory=set)
    _guards: tuple[Bound, ...] = ()
    _fresh: int = 0

    # ------------------------------------------------------------------ values
    def make(self, text: str, parts: Iterable[Value], dtype: str, key: str | None = None) -> Value:
        """A new value computed from parts, with the union of their axes."""
        listed = tuple(parts)
        axes = self.union(value.axes for value in listed)
        depth = max((value.depth for value in listed), default=0)
        early = all(value.early for value in listed)
        made = Value(self.scopes.fresh(), axes, dtype, early, depth)
        return self.scopes.define(key, text, made)

    def union(self, groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        """All axes of the groups, in tile order."""
        found = {axis for group in groups for axis in group}
        return tuple(axis for axis in self.order if axis in found)

    def over(self, value: Value, axes: tuple[str, ...]) -> str:
        """The text of a value with dimensions of size 1 for the axes it does not span."""
        if value.axes == axes or not value.axes:
            return value.name
        marks = ", ".join(":" if axis in value.axes else "None" for axis in axes)
        return f"{value.name}[{marks}]"

    def wide(self, value: Value) -> Value:
        """A floating-point value as float32."""
        if value.dtype not in NARROW:
            return value
        key = f"wide {value.name}"
        return self.scopes.find(key) or self.make(
            f"{value.name}.to(tl.float32)", (value,), "float32", key
        )

    # ------------------------------------------------------------------ expressions
    def value(self, expr: Expr) -> Value:
        """The tile of an expression."""
        key = expr.text + self._conditions(expr.variables())
        found = self.scopes.find(key)
        if found is not None:
            return found
        made = self._compute(expr)
        self.scopes.open[made.depth].made[key] = made
        return made

    def _conditions(self, used: frozenset[Var]) -> str:
        """The guards in force that concern these variables: part of what a value depends on."""
        concerned = [g for g in self._guards if index.variables(g.value) & used]
        return "".join(f" if {guard.text}" for guard in concerned)

    def _compute(self, expr: Expr) -> Value:
        if isinstance(expr, Const):
            return self._constant(expr)
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Index):
            return self.position(expr.value)
        if isinstance(expr, Inside):
            return self.mask(expr.guards) or self._constant(Const(1, "int32"))
        if isinstance(expr, Cast):
            return self._cast(self.value(expr.value), expr.dtype)
        assert isinstance(expr, Apply)
        return self._apply(expr)

    def _constant(self, expr: Const) -> Value:
        if "float" in expr.dtype:
            number = repr(float(expr.value))
            text = number if number[-1].isdigit() else f'float("{number}")'
            return Value(text, (), "float32", early=True, depth=0)
        dtype = "bool" if expr.dtype == "bool" else "int32"
        return Value(repr(int(expr.value)), (), dtype, early=True, depth=0)

    def _apply(self, expr: Apply) -> Value:
        if all(isinstance(arg, Const) for arg in expr.args):
            return self._constant(known(expr))
        if expr.fn == "add":
            first, second = expr.args
            if isinstance(first, Load) and isinstance(second, Load):
                together = self.added(self, first, second)
                if together is not None:
                    return together
        args = [self.value(arg) for arg in expr.args]
        picked = args[1:] if expr.fn == "where" else args
        is_float = any(value.is_float for value in picked) or (
            FUNCTIONS[expr.fn].returns == "float"
        )
        if is_float:
            args = [self.wide(value) for value in args]
        axes = self.union(value.axes for value in args)
        text = (FLOAT_TEXT if is_float else WHOLE_TEXT)[expr.fn]
        self.helpers.update(word for word in HELPER_WORDS if word + "(" in text)
        returns = FUNCTIONS[expr.fn].returns
        common = "float32" if is_float else whole_type(picked)
        dtype = "bool" if returns == "bool" else common
        return self.make(text.format(*(term(self.over(v, axes)) for v in args)), args, dtype)

    def _cast(self, value: Value, dtype: str) -> Value:
        if dtype == "bool":
            return self.make(f"{term(value.name)} != 0", (value,), "bool")
        if not value.axes and not value.name.isidentifier():
            return Value(value.name, (), dtype, early=True, depth=0)
        target = dtype if dtype != "float64" else "float32"
        return self.make(f"{value.name}.to({TRITON_TYPE[target]})", (value,), target)

    # ------------------------------------------------------------------ indices
    def position(self, value: Affine) -> Value:
        """The tile of an index expression."""
        key = f"index({value.text})"
        found = self.scopes.find(key)
        if found is not None:
            return found
        parts = [(self._atom(atom), factor) for atom, factor in value.terms]
        if len(parts) == 1 and parts[0][1] == 1 and not value.constant:
            return parts[0][0]
        if not parts:
            return Value(str(value.constant), (), "int32", early=True, depth=0)
        groups: dict[tuple[tuple[str, ...], int], list[tuple[Value, int]]] = {}
        for part, factor in parts:
            groups.setdefault((part.axes, part.depth), []).append((part, factor))
        sums = [self._sum_of(group) for group in groups.values()]
        axes = self.union(part.axes for part in sums)
        terms = [self.over(part, axes) for part in sums]
        if value.constant:
            terms.append(str(value.constant))
        return self.make(" + ".join(terms), sums, "int32", key)

    def _sum_of(self, group: list[tuple[Value, int]]) -> Value:
        """Terms over the same axes, added before they are spread over others."""
        if len(group) == 1 and group[0][1] == 1:
            return group[0][0]
        terms = [f"{part.name} * {factor}" if factor != 1 else part.name for part, factor in group]
        text = " + ".join(terms)
        key = f"terms {text}"
        found = self.scopes.find(key)
        return found or self.make(text, [part for part, _ in group], "int32", key)

    def _atom(self, atom: index.Atom) -> Value:
        if isinstance(atom, Var):
            return self.variables[atom]
        key = f"atom {atom.text}{self._conditions(index.variables(Affine(0, ((atom, 1),))))}"
        found = self.scopes.find(key)
        if found is not None:
            return found
        if isinstance(atom, Datum):
            assert isinstance(atom.value, Expr)
            raw = self.value(atom.value)
            text = f"tl.minimum(tl.maximum({raw.name}, 0), {atom.extent - 1}).to(tl.int32)"
            return self.make(text, (raw,), "int32", key)
        low, _ = index.bounds(atom.value)
        shift = -(low // atom.divisor) if low < 0 else 0
        inner = self.position(atom.value + shift * atom.divisor)
        if isinstance(atom, Mod):
            return self.make(f"{term(inner.name)} % {atom.divisor}", (inner,), "int32", key)
        text = f"{term(inner.name)} // {atom.divisor}" + (f" - {shift}" if shift else "")
        return self.make(text, (inner,), "int32", key)

    def mask(self, guards: Iterable[Bound], touched: Iterable[Var] = ()) -> Value | None:
        """Where all guards hold and no touched variable runs past its extent; None: everywhere."""
        parts = [self._guard(guard) for guard in guards]
        for var in sorted(touched, key=lambda var: var.name):
            if var in self.overrun:
                found = self.scopes.find(self.overrun[var])
                assert found is not None
                parts.append(found)
        if len(parts) < 2:
            return parts[0] if parts else None
        key = "mask " + " & ".join(sorted({part.name for part in parts}))
        found = self.scopes.find(key)
        if found is not None:
            return found
        axes = self.union(part.axes for part in parts)
        text = " & ".join(self.over(part, axes) for part in parts)
        return self.make(text, parts, "bool", key)

    def _guard(self, guard: Bound) -> Value:
        found = self.scopes.find(guard.text)
        if found is not None:
            return found
        value = self.position(guard.value)
        low, high = index.bounds(guard.value)
        tests = [f"({value.name} >= {guard.low})"] if low < guard.low else []
        tests += [f"({value.name} < {guard.high})"] if high >= guard.high else []
        return self.make(" & ".join(tests), (value,), "bool", guard.text)

    # ------------------------------------------------------------------ loads
    def _load(self, load: Load) -> Value:
        if load.tensor in self.internal:
            return self._inside(load)
        shape = self.program.types[load.tensor].shape
        pointer, offset = self.address(load.tensor, index.flatten(load.index, shape))
        guards = (*load.guards, *protecting(load, shape, self._guards))
        touched = set().union(*(index.variables(value) for value in load.index))
        mask = self.mask(dict.fromkeys(guards), touched)
        is_weight = load.tensor in self.program.constants
        stored = self.storage[load.tensor]
        parts = [offset] if mask is None else [offset, mask]
        axes = self.union(part.axes for part in parts)
        options = []
        if mask is not None:
            other = other_text(load.other if load.guards else 0.0, stored)
            options += [f"mask={self.over(mask, axes)}", f"other={other}"]
        if not is_weight:
            options.append('cache_modifier=".cg"')
        where = self.over(offset, axes)
        if mask is not None and mask.axes and offset.axes != axes:
            where = self._spread(offset, axes)
        made = Value(
            self.scopes.fresh("x"),
            axes,
            "int8" if stored == "bool" else stored,
            early=is_weight and all(part.early for part in parts),
            depth=max(part.depth for part in parts),
        )
        text = f"tl.load({pointer} + {where}{''.join(', ' + option for option in options)})"
        loaded = self.scopes.define(None, text, made)
        if stored == "bool":
            return self.make(f"{loaded.name} != 0", (loaded,), "bool")
        return loaded

    def address(self, tensor: str, position: Affine) -> tuple[str, Value]:
        """A parameter, and the offset from it.

        A constant part of the position moves the parameter where it keeps its alignment, so that
        steps that read at different places are the same kernel.
        """
        step = max(ALIGNMENT_BYTES // ITEM_SIZE_BYTES[self.storage[tensor]], 1)
        size = self.program.types[tensor].size
        start = max(min(position.constant, size - 1), 0) // step * step
        name = self.pointers.setdefault((tensor, start), f"p{len(self.pointers)}")
        return name, self.position(position - start)

    def _spread(self, value: Value, axes: tuple[str, ...]) -> str:
        """The text of a value over all of `axes` (addresses must have the shape of their mask)."""
        shape = ", ".join(str(self.blocks[axis]) for axis in axes)
        return f"({term(self.over(value, axes))} + tl.zeros(({shape},), tl.int32))"

    def _inside(self, load: Load) -> Value:
        """What an internal nest makes at this index; beyond a guard its own loads are masked."""
        nest = self.internal[load.tensor]
        binding = dict(zip(nest.axes, load.index, strict=True))
        used = load.variables().union(*(index.variables(g.value) for g in self._guards))
        depth = max((self.variables[var].depth for var in used), default=0)
        with self._guarded(load.guards), self._within(depth):
            made = self.nest(nest, binding)
            held = self.mask(load.guards)
        if held is None:
            return made
        made = self.wide(made)
        axes = self.union((made.axes, held.axes))
        other = other_text(load.other, made.dtype)
        text = f"tl.where({self.over(held, axes)}, {self.over(made, axes)}, {other})"
        return self.make(text, (made, held), made.dtype)

    def nest(self, nest: Nest, binding: Mapping[Var, Affine]) -> Value:
        """A nest evaluated at an index."""
        if nest.is_map:
            return self.value(nest.body.substitute(binding))
        return self.reduce(self, nest, binding)

    def depth_of(self, name: str) -> int:
        """How much of a contraction's sum is handled at once."""
        return self.config.depth if self._is_beside(name) else MAX_INNER_DEPTH

    def split_of(self, name: str) -> int:
        """Into how many parts a contraction's sum is split."""
        return self.config.split if self._is_beside(name) else 1

    def _is_beside(self, name: str) -> bool:
        return name == self.anchor or any(nest.name == name for nest, _ in self.siblings.values())

    @property
    def is_guarded(self) -> bool:
        """Whether what is written now is wanted only where a guard holds."""
        return bool(self._guards)

    @property
    def pipeline(self) -> int:
        """Stages of the software pipeline of loops."""
        return self.config.pipeline

    @contextmanager
    def _guarded(self, guards: tuple[Bound, ...]) -> Iterator[None]:
        before = self._guards
        self._guards = tuple(dict.fromkeys((*before, *guards)))
        yield
        self._guards = before

    @contextmanager
    def _within(self, depth: int) -> Iterator[None]:
        """Evaluate as far out as `depth`: loops opened meanwhile stand there."""
        inner = self.scopes.open[depth + 1 :]
        del self.scopes.open[depth + 1 :]
        yield
        self.scopes.open.extend(inner)

    # ------------------------------------------------------------------ axes
    def add_axis(self, axis: str, block: int, before: str | None = None) -> None:
        """A new tile axis, in front of another or last."""
        self.blocks[axis] = block
        place = self.order.index(before) if before is not None else len(self.order)
        self.order.insert(place, axis)

    def fresh_var(self, extent: int, base: str = "k") -> Var:
        """A loop variable nothing else uses."""
        self._fresh += 1
        return Var(f"{base}{self._fresh}", extent)

    def bind(self, var: Var, text: str, axes: tuple[str, ...], depth: int) -> Value:
        """Gives a variable its tile; notes where the tile runs past the variable's extent."""
        made = Value(self.scopes.fresh("i"), axes, "int32", early=True, depth=depth)
        self.scopes.define(None, text, made)
        self.variables[var] = made
        return made

    def note_overrun(self, var: Var) -> None:
        """Loads that use this variable are masked where it is past its extent."""
        value = self.variables[var]
        key = f"overrun {var.text}"
        self.make(f"{value.name} < {var.extent}", (value,), "bool", key)
        self.overrun[var] = key
