"""PTX read and its whole numbers computed: against what the instructions mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InfoptError
from planner.kernels.ptx.instructions import Kind, routine_of
from planner.kernels.ptx.values import Values, addressing

_KERNEL = """.version 8.0
.visible .entry one(.param .u64 one_param_0)
.reqntid 64
{
\t.reg .b32 %r<9>;
BODY
\tret;
}
"""
_WORD = st.integers(0, (1 << 32) - 1)


def kernel(*lines: str) -> str:
    """A kernel with these statements."""
    return _KERNEL.replace("BODY", "\n".join(f"\t{line};" for line in lines))


def signed(value: int) -> int:
    """32 bits with their sign."""
    return value - (1 << 32) if value >> 31 else value


def computed(*lines: str) -> int:
    """The last register written, of thread 5."""
    routine = routine_of(kernel(*lines))
    values = Values(routine.threads, 3)
    for one in routine.code[:-1]:
        values.run(one)
    found = values.get(routine.code[-2].writes[0])
    return int(np.broadcast_to(found, (64,))[5])


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("add.s32", lambda a, b: a + b),
        ("sub.s32", lambda a, b: a - b),
        ("mul.lo.s32", lambda a, b: a * b),
        ("mul.hi.u32", lambda a, b: a * b >> 32),
        ("mul.hi.s32", lambda a, b: signed(a) * signed(b) >> 32),
        ("mul.wide.u32", lambda a, b: a * b),
        ("and.b32", lambda a, b: a & b),
        ("or.b32", lambda a, b: a | b),
        ("xor.b32", lambda a, b: a ^ b),
        ("min.s32", lambda a, b: min(signed(a), signed(b))),
        ("max.u32", max),
        ("shl.b32", lambda a, b: a << b if b < 32 else 0),
        ("shr.u32", lambda a, b: a >> b if b < 32 else 0),
        ("shr.s32", lambda a, b: signed(a) >> min(b, 31)),
    ],
)
@given(first=_WORD, second=st.one_of(st.integers(0, 31), _WORD))
def test_arithmetic_is_that_of_the_machine(
    text: str, meaning: Callable[[int, int], int], first: int, second: int
) -> None:
    bits = 64 if ".wide" in text else 32
    found = computed(f"{text} %r1, {first}, {second}")
    assert found % (1 << bits) == meaning(first, second) % (1 << bits)


@given(value=_WORD, start=st.integers(0, 31), length=st.integers(1, 16))
def test_fields_are_cut_out(value: int, start: int, length: int) -> None:
    taken = (value >> start) & ((1 << length) - 1)
    assert computed(f"bfe.u32 %r1, {value}, {start}, {length}") == taken
    wanted = taken - (1 << length) if taken >> (length - 1) else taken
    if start + length <= 32:
        assert signed(computed(f"bfe.s32 %r1, {value}, {start}, {length}")) == wanted


@given(first=_WORD, second=_WORD)
def test_comparisons_mind_the_sign(first: int, second: int) -> None:
    assert computed(f"setp.lt.s32 %p1, {first}, {second}") == (signed(first) < signed(second))
    assert computed(f"setp.ge.u32 %p1, {first}, {second}") == (first >= second)


@given(value=_WORD)
def test_halves_are_taken_apart_and_put_together(value: int) -> None:
    apart = f"mov.b32 {{%rs1, %rs2}}, {value}"
    assert computed(f"mov.u32 %r2, {value}", apart, "mov.b32 %r3, {%rs1, %rs2}") == value
    turned = computed(apart, "mov.b32 %r3, {%rs2, %rs1}")
    assert turned == (value >> 16) | (value & 0xFFFF) << 16


def test_threads_and_blocks_have_their_numbers() -> None:
    assert computed("mov.u32 %r1, %tid.x") == 5
    assert computed("mov.u32 %r1, %ctaid.x") == 3


def test_what_is_not_known_stays_unknown() -> None:
    half = "cvt.rn.f16x2.f32 %r5, %r6, %r6"
    known = ("mov.u32 %r6, %tid.x", half, "setp.gt.f32 %p1, %r6, %r6")
    routine = routine_of(kernel(*known, "add.f32 %r1, %r2, %r3", "add.s32 %r4, %r1, 1"))
    values = Values(routine.threads, 0)
    for one in routine.code[:-1]:
        values.run(one)
    assert values.get("%r4") is None
    assert values.get("%r5") is None
    assert values.where("%p1", is_negated=False) is None


def test_instructions_are_told_apart() -> None:
    routine = routine_of(
        kernel(
            "@!%p1 ld.global.cg.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1 + 32]",
            "cp.async.cg.shared.global [%r5 + 0], [%rd2 + 0], 0x10, %r6",
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r1}, {%r2}, {%r3}, {%r1}",
            "div.full.f32 %r7, %r1, %r2",
            "cvt.u32.u16 %r8, %rs1",
        )
    )
    load, copy, product, division, narrow = routine.code[:-1]
    assert (load.kind, load.size_bytes, load.address) == (Kind.LOAD, 16, ("%rd1", 32))
    assert (load.guard, load.is_negated) == ("%p1", True)
    assert load.writes == ("%r1", "%r2", "%r3", "%r4")
    assert (copy.kind, copy.size_bytes, copy.address) == (Kind.COPY, 16, ("%rd2", 0))
    assert product.kind is Kind.PRODUCT
    assert division.kind is Kind.DIVISION
    assert narrow.kind is Kind.INTEGER


def test_only_what_addresses_are_made_of_is_followed() -> None:
    routine = routine_of(
        kernel(
            "mov.u32 %r1, %tid.x",
            "shl.b32 %r2, %r1, 2",
            "add.f32 %r3, %r4, %r5",
            "st.global.b32 [%r2 + 0], {%r3}",
        )
    )
    assert addressing(routine) == {"%r1", "%r2"}


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(InfoptError, match="no kernel"):
        routine_of("nothing")
