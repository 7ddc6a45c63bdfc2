"""Rewrites that leave fewer operators: for models whose operators cost more than their work.

A small model spends most of its time on what every operator costs, however little it does; about
half of a small network's operators only change how elements are counted. Some rules keep every
element (`views`, `sinking`, `products`, `splits`, `lookups`); nothing is rounded otherwise than
before, but for products whose sums a library takes in another order. Others compute the same of
real numbers in other steps (`affine`, `gates`, `means`, `slopes`, `rows`, `gelu`, `narrow`,
`shallow`): answers differ by rounding, which whoever uses the result compares with the original.

Before all of them, channels that are computed twice are merged (`channels`).

Only tensors of fixed shapes are touched. Branches are rewritten as models of their own; bodies of
loops stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from onnx import ModelProto

from planner.graph import container, infer, names, store
from planner.graph.bind import Shapes
from planner.graph.bodies import simplify_branches
from planner.graph.rewrite.affine import absorb_after, absorb_before, swap
from planner.graph.rewrite.channels import merge_channels
from planner.graph.rewrite.fills import store_fill
from planner.graph.rewrite.gates import gate
from planner.graph.rewrite.gelu import respell
from planner.graph.rewrite.lookups import look_up, one_hot_cost
from planner.graph.rewrite.means import is_pooling, pool
from planner.graph.rewrite.narrow import fill, tile_of
from planner.graph.rewrite.net import BLOCK, LEAST_OPSET, Net, Node
from planner.graph.rewrite.products import flatten
from planner.graph.rewrite.rows import postpone, postponed_cost
from planner.graph.rewrite.shallow import deepen, wide_product
from planner.graph.rewrite.sinking import hoist, sink, sink_all
from planner.graph.rewrite.slopes import bent, straighten
from planner.graph.rewrite.splits import split
from planner.graph.rewrite.views import merge

Rule = Callable[[Net, Node], bool]
_FOLDING: tuple[Rule, ...] = (
    store_fill,
    look_up,
    respell,
    gate,
    absorb_after,
    absorb_before,
    swap,
    pool,
    straighten,
    postpone,
    deepen,
    fill,
)
_ALL: tuple[Rule, ...] = (*_FOLDING, merge, split, flatten, sink, hoist)
_CHOICES: tuple[tuple[Rule, ...], ...] = (
    _ALL,
    (*_FOLDING, merge, split, sink, hoist),
    (*_FOLDING, merge, split, sink_all),
)
"""Views may pile up where they do not meet: the set of rules that leaves the least is taken."""
_LAST: tuple[Rule, ...] = (fill,)
"""Hides a convolution from what would fold into it, so all others have their turn first."""
_PASSES = 50
_VECTOR_SURCHARGE = 5
"""A product of a vector of 50 with a matrix took 12 us, of a matrix of one row 2 us (ONNX Runtime
1.27, one thread)."""
_SLOPES_SURCHARGE = 4
"""A PRelu between convolutions takes longer than the four operators that replace it, on images of
four pixels and upwards (`slopes`)."""
_NARROW_SURCHARGE = 6
"""A convolution that would be faster as one of tiles, which is up to five operators."""
_SHALLOW_SURCHARGE = 3
"""Passes over a wide result that a bias costs: its copy, and that of an output counted anew."""


def rewrite(
    path: Path, out_path: Path, inputs: Shapes = MappingProxyType({}), block: int = BLOCK
) -> int:
    """Writes the model at `path` with fewer operators and channels; how many fewer, and in how many
    branches (0: nothing written). Picklable, for a process of its own.

    Args:
        inputs: shapes that inputs will have even where the file leaves them open.
        block: channels that ONNX Runtime's convolutions compute together.

    Raises:
        ModelError: the file cannot be read.
    """
    before = container.parse(path)
    merged = merge_channels(before, block)
    best = _fewest(before, block)
    infer.annotate(best)
    saved = merged + _cost(before, block) - _cost(best, block)
    saved += simplify_branches(best, partial(_alone, block=block), inputs, out_path.parent)
    if saved > 0:
        store.save(best, out_path)
    return saved


def _fewest(model: ModelProto, block: int) -> ModelProto:
    """The model itself or, if that costs less, a rewritten copy."""
    found = [model]
    for rules in _CHOICES:
        copy = ModelProto()
        copy.CopyFrom(model)
        rewrite_in_place(copy, rules, block)
        found.append(copy)
    return min(found, key=partial(_cost, block=block))


def _alone(branch: ModelProto, block: int) -> ModelProto:
    infer.annotate(branch)
    return _fewest(branch, block)


def rewrite_in_place(model: ModelProto, rules: Sequence[Rule] = _ALL, block: int = BLOCK) -> None:
    """Applies the rules until none applies; shapes must have been inferred."""
    net = Net(model, block)
    if net.opset < LEAST_OPSET:
        return
    _settle(net, [rule for rule in rules if rule not in _LAST])
    _settle(net, rules)
    net.finish()
    names.rename(model.graph)


def _settle(net: Net, rules: Sequence[Rule]) -> None:
    for _ in range(_PASSES):
        changes = [_apply(net, node, rules) for node in net]
        if not any(changes):
            break


def _apply(net: Net, node: Node, rules: Sequence[Rule]) -> bool:
    return any(node in net and rule(net, node) for rule in rules)


def _cost(model: ModelProto, block: int) -> int:
    """Operators, in units of what a small one costs in ONNX Runtime."""
    net = Net(model, block)
    return len(net) + sum(_surcharge(net, node) for node in net)


def _surcharge(net: Net, node: Node) -> int:
    """What an operator costs beyond one. The mean of an image takes a change of layout, and pooling
    may take a view; so does a learnt slope. Factors of rows pass over all that a product is about
    to sum."""
    if is_pooling(net, node):
        return 2
    if bent(net, node) is not None:
        return _SLOPES_SURCHARGE
    if tile_of(net, node) is not None:
        return _NARROW_SURCHARGE
    if wide_product(net, node) is not None:
        return _SHALLOW_SURCHARGE
    if node.kind != "MatMul":
        return postponed_cost(net, node)
    return one_hot_cost(net, node) or _product_surcharge(net, node)


def _product_surcharge(net: Net, node: Node) -> int:
    """The product of a bare vector is slow. A bias is fused with a product of two dimensions; with
    one of more, behind two reshapes."""
    left, right = (net.shape(name) or () for name in node.inputs)
    if 1 in (len(left), len(right)):
        return _VECTOR_SURCHARGE
    if len(right) != 2 or not _has_bias(net, node.outputs[0]):
        return 0
    return 1 if len(left) > 2 else -1


def _has_bias(net: Net, name: str) -> bool:
    reader = net.only_reader(name)
    if reader is None or reader.kind != "Add":
        return False
    return any(len(net.shape(one) or ()) == 1 for one in reader.inputs if one in net.constants)


__all__ = ["rewrite", "rewrite_in_place"]
