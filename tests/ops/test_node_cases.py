"""Every operator with a lowering, against ONNX's own node tests."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from planner.errors import InfoptError
from planner.graph.semantics import program_of
from planner.ops import reference
from planner.ops.builder import NotCovered
from planner.ops.lower import LOWERINGS

Array = np.ndarray[Any, Any]
ALL_INPUTS_COMPUTED = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "Where", "Min", "Max", "Pow", "Less", "Greater", "Equal"}
    | {"LessOrEqual", "GreaterOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Sum", "Clip"}
)
"""Operators whose integer inputs are data; elsewhere they say where and how much."""
NAMED_CONSTANTS = frozenset({"scales", "sizes", "roi", "axis", "shape", "depth", "values"})
NO_PROMISE = {
    "test_training_dropout_default": "random by design",
    "test_training_dropout": "random by design",
    "test_identity_sequence": "no tensor",
    "test_identity_opt": "no tensor",
    "test_einsum_scalar": "a declared shape of rank 0 that holds one element",
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime takes whole lengths too",
}


@functools.cache
def cases() -> dict[str, list[Any]]:
    """Cases by operator, of single-operator models that are covered."""
    from onnx.backend.test.loader import load_model_tests

    found = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases divides by zero on purpose
        for case in load_model_tests(kind="node"):
            nodes = case.model.graph.node if case.model is not None else []
            if len(nodes) == 1 and nodes[0].op_type in LOWERINGS:
                found[nodes[0].op_type].append(case)
    return dict(found)


def with_constants(case: Any) -> tuple[onnx.ModelProto, dict[str, Array], list[Array]]:
    """The model with its shapes, axes and the like built in; the other inputs; what is expected."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    kind = model.graph.node[0].op_type
    given, expected = case.data_sets[0]
    feeds: dict[str, Array] = {}
    for port, raw in zip(list(model.graph.input), given, strict=True):
        value = array(raw)
        counts = value.dtype.kind in "iu" and len(given) > 1 and kind not in ALL_INPUTS_COMPUTED
        is_data = port.name in ("indices", "data", "input", "x", "X") or kind == "OneHot"
        if port.name in NAMED_CONSTANTS or (counts and not is_data):
            model.graph.initializer.append(numpy_helper.from_array(value, port.name))
            model.graph.input.remove(port)
        else:
            feeds[port.name] = value
    return model, feeds, [array(item) for item in expected]


def array(value: Any) -> Array:
    return (
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    )


def wrong(case: Any) -> Iterator[str]:
    """What differs; nothing where the case is refused as not covered."""
    model, feeds, expected = with_constants(case)
    try:
        program = program_of(model)
    except NotCovered:
        return
    made = reference.run(program, feeds)
    for port, wanted in zip(model.graph.output, expected, strict=True):
        found = made[port.name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            yield f"{case.name}: {found.dtype} {found.shape}, not {wanted.dtype} {wanted.shape}"
        elif found.dtype.kind != "f":
            if not np.array_equal(found, wanted):
                yield f"{case.name}: {found} instead of {wanted}"
        else:
            limit = max(2e-3 if found.dtype == np.float16 else 1e-5, case.rtol)
            same = np.allclose(found, wanted, rtol=limit, atol=limit, equal_nan=True)
            if not same:
                yield f"{case.name}: off by {np.nanmax(np.abs(found - wanted))}"


@pytest.mark.parametrize("kind", sorted(kind for kind in LOWERINGS if "::" not in kind))
def test_an_operator_means_what_onnx_says(kind: str) -> None:
    found = [
        message
        for case in cases().get(kind, [])
        if case.name not in NO_PROMISE
        for message in wrong(case)
    ]
    assert found == []


def test_most_cases_are_covered() -> None:
    """A refusal is an answer (ONNX Runtime runs it), but most forms are answered here; half of
    the others are of types that no kernel reads (unsigned of 32 and 64 bits, narrow floats)."""
    covered = refused = 0
    for listed in cases().values():
        for case in listed:
            try:
                program_of(with_constants(case)[0])
                covered += 1
            except InfoptError:
                refused += 1
            except Exception:  # noqa: BLE001 - sequences, see NO_PROMISE
                assert case.name in NO_PROMISE
    assert covered >= 650
    assert refused <= 0.45 * covered
