"""FLOPs and bytes from shapes, against counts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from planner.ir.graph import Op, Tensor
from planner.ops.work import work_of

Shape = tuple[int, ...]


def tensor(name: str, shape: Shape | None, *, is_constant: bool = False) -> Tensor:
    count = 1
    for size in shape or ():
        count *= size
    return Tensor(name, "float32", shape, 4 * count if shape is not None else 0, is_constant)


def flops(kind: str, operands: list[Shape], result: Shape, **attributes: Any) -> int:
    names = [f"i{index}" for index in range(len(operands))]
    tensors = {n: tensor(n, shape) for n, shape in zip(names, operands, strict=True)}
    tensors["y"] = tensor("y", result)
    return work_of(Op("op", kind, "", tuple(names), ("y",)), tensors, attributes).flops


@pytest.mark.parametrize(
    ("kind", "operands", "result", "attributes", "expected"),
    [
        ("MatMul", [(8, 2, 3), (3, 5)], (8, 2, 5), {}, 2 * 8 * 2 * 3 * 5),
        ("MatMul", [(4,), (4,)], (), {}, 8),
        ("Gemm", [(3, 2), (3, 5), (5,)], (2, 5), {"transA": 1}, 2 * 2 * 3 * 5 + 10),
        ("Gemm", [(2, 3), (5, 3)], (2, 5), {"transB": 1}, 60),
        # 3 output channels, 2 groups of 4 inputs, kernel 3 x 3, 5 x 5 pixels made
        ("Conv", [(1, 8, 7, 7), (3, 4, 3, 3)], (1, 3, 5, 5), {"group": 2}, 2 * 75 * 36),
        ("ConvTranspose", [(1, 8, 5, 5), (8, 3, 2, 2)], (1, 3, 10, 10), {}, 2 * 200 * 12),
        ("MaxPool", [(1, 2, 4, 4)], (1, 2, 2, 2), {"kernel_shape": (2, 2)}, 32),
        # one direction: 7 steps, batch 2, W 4h x n and R 4h x h with n = 3, h = 5
        ("LSTM", [(7, 2, 3), (1, 20, 3), (1, 20, 5)], (7, 1, 2, 5), {}, 2 * 14 * (60 + 100)),
        ("Einsum", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {"equation": "bij,bjk->bik"}, 240),
        ("Einsum", [(6, 3, 4), (4, 5)], (6, 3, 5), {"equation": "...ij, jk -> ...ik"}, 720),
        ("Attention", [(1, 2, 3, 4)] + [(1, 2, 5, 4)] * 2, (1, 2, 3, 4), {}, 6 * 5 * 21),
        ("Softmax", [(2, 8)], (2, 8), {}, 80),
        ("ReduceSum", [(2, 8)], (2, 1), {}, 16),
        ("Add", [(2, 8), (8,)], (2, 8), {}, 16),
        ("Transpose", [(2, 8)], (8, 2), {}, 0),
        ("Reshape", [(2, 8), (1,)], (16,), {}, 0),
    ],
)
def test_flops(
    kind: str, operands: list[Shape], result: Shape, attributes: dict[str, Any], expected: int
) -> None:
    assert flops(kind, operands, result, **attributes) == expected


def test_attention_in_three_dimensions_counts_the_same() -> None:
    four = flops("Attention", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)], (1, 2, 3, 4))
    counts = {"q_num_heads": 2, "kv_num_heads": 2}
    assert flops("Attention", [(1, 3, 8), (1, 5, 8), (1, 5, 8)], (1, 3, 8), **counts) == four


def test_bytes_tell_weights_from_activations() -> None:
    tensors = {
        "x": tensor("x", (2, 3)),
        "W": tensor("W", (3, 5), is_constant=True),
        "y": tensor("y", (2, 5)),
    }
    work = work_of(Op("op", "MatMul", "", ("x", "W"), ("y",)), tensors)
    assert (work.read_size_bytes, work.weight_size_bytes, work.write_size_bytes) == (84, 60, 40)
    assert work.size_bytes == 124


def test_a_gather_reads_what_it_returns_and_a_view_nothing() -> None:
    tensors = {
        "W": tensor("W", (1000, 4), is_constant=True),
        "i": tensor("i", (3,)),
        "y": tensor("y", (3, 4)),
    }
    work = work_of(Op("op", "Gather", "", ("W", "i"), ("y",)), tensors)
    assert (work.read_size_bytes, work.weight_size_bytes) == (12 + 48, 48 + 12)
    assert work_of(Op("op", "Reshape", "", ("W", "i"), ("y",)), tensors).size_bytes == 0


def test_an_operand_read_twice_moves_once() -> None:
    tensors = {"x": tensor("x", (2, 3)), "y": tensor("y", (2, 3))}
    assert work_of(Op("op", "Mul", "", ("x", "x"), ("y",)), tensors).read_size_bytes == 24


def test_unknown_shapes_are_said() -> None:
    tensors = {"x": tensor("x", None), "y": tensor("y", (2, 3))}
    work = work_of(Op("op", "Relu", "", ("x",), ("y",)), tensors)
    assert (work.is_known, work.flops, work.write_size_bytes) == (False, 0, 24)
