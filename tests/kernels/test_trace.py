"""Kernels followed by their PTX: requests counted by brute force, times that move as they must."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.fuse.build import draft
from planner.graph.semantics import program_of
from planner.kernels.cache import KernelCache
from planner.kernels.compile import compile_kernel
from planner.kernels.estimate import H200
from planner.kernels.ptx import hopper
from planner.kernels.ptx.requests import requests_of, shared_cycles
from planner.kernels.ptx.trace import Trace, trace, trace_of
from planner.kernels.ptx.traced import as_row, from_row, traced_us
from tests.kernels.run import needs_triton
from tests.kernels.test_ptx import kernel
from tests.ops import models

_LOAD = ("mov.u32 %r1, %tid.x", "ld.param.b64 %rd1, [one_param_0]", "cvt.u64.u32 %rd2, %r1")
_STORE = "st.global.b32 [%rd1 + 0], {%r3}"
_PLAIN = Trace(4, 1000.0, 100.0, 1500.0, 2500.0, 4096.0, 1024.0)


def followed(*lines: str, held: int = 1) -> Trace:
    """A kernel of these statements."""
    found = trace(kernel(*lines), [1], held)
    assert found is not None
    return found


def strided(step: int) -> Trace:
    """Each of 64 threads loads 4 bytes, so many bytes from the next."""
    at = ("mul.lo.s64 %rd3, %rd2, STEP", "add.s64 %rd4, %rd1, %rd3")
    load = "ld.global.cg.b32 {%r3}, [%rd4 + 0]"
    return followed(*_LOAD, *(line.replace("STEP", str(step)) for line in at), load, _STORE)


@given(
    st.lists(st.integers(0, 200), min_size=64, max_size=64),
    st.lists(st.booleans(), min_size=64, max_size=64),
)
def test_requests_are_counted_a_warp_at_a_time(words: list[int], on: list[bool]) -> None:
    addresses = np.array(words) * 4
    found = requests_of(addresses, np.array(on), 4)
    warps = [
        {
            word * 4 // size
            for word, is_on in list(zip(words, on, strict=True))[at : at + 32]
            if is_on
        }
        for size in (32, 128)
        for at in (0, 32)
    ]
    assert found.sectors == len(warps[0]) + len(warps[1])
    assert found.lines == len(warps[2]) + len(warps[3])
    assert found.fresh == len(warps[0] | warps[1])
    banks = [set(words[at : at + 32]) for at in (0, 32)]
    worst = [max(sum(w % 32 == bank for w in own) for bank in range(32)) for own in banks]
    assert shared_cycles(addresses, np.ones(64, bool), 4) == sum(worst)


def test_what_lies_apart_is_asked_for_in_more_sectors() -> None:
    together, apart = strided(4), strided(64)
    assert together.loaded_bytes == 64 * 4
    assert apart.loaded_bytes == 64 * 32
    assert apart.alone_cycles > together.alone_cycles


def test_loads_overlap_but_for_what_waits_for_them() -> None:
    first = "ld.global.cg.b64 {%rd5}, [%rd1 + 0]"
    beside = followed(*_LOAD, first, "ld.global.cg.b32 {%r3}, [%rd1 + 64]", _STORE)
    behind = followed(*_LOAD, first, "ld.global.cg.b32 {%r3}, [%rd5 + 64]", _STORE)
    assert behind.alone_cycles - beside.alone_cycles > 0.9 * hopper.L2_CYCLES


def test_loops_are_gone_through_as_often_as_they_run() -> None:
    def looped(times: int) -> Trace:
        return followed(
            "mov.b32 %r1, 0", "$L1: add.s32 %r1, %r1, 1", "bar.sync 0",
            f"setp.lt.s32 %p1, %r1, {times}", "@%p1 bra $L1",
        )  # fmt: skip

    short, long = looped(10), looped(20)
    assert long.alone_cycles == pytest.approx(2 * short.alone_cycles, rel=0.1)


def test_an_endless_kernel_is_not_followed() -> None:
    assert trace(kernel("$L1: add.s32 %r1, %r1, 1", "bra $L1"), [1], 1) is None


def test_what_stands_before_the_wait_is_hidden_behind_the_kernel_in_front() -> None:
    weights = "ld.global.b32 {%r3}, [%rd1 + 0]"
    found = followed(*_LOAD, weights, "griddepcontrol.wait", _STORE)
    assert found.early_cycles > hopper.L2_CYCLES
    assert found.first_cycles < 20 < found.alone_cycles
    let_go = ("griddepcontrol.launch_dependents", weights, "griddepcontrol.wait")
    assert followed(*_LOAD, *let_go).early_cycles == 0


def test_values_behind_each_other_cost_their_latencies() -> None:
    def activation(values: int, divisor: str) -> Trace:
        made = [
            (f"ex2.approx.f32 %r{n}1, %r1", f"add.f32 %r{n}2, %r{n}1, 1.0", divisor.format(n))
            for n in range(1, values + 1)
        ]
        store = f"st.global.b32 [%rd1 + 0], {{%r{values}3}}"
        return followed(*(line for three in made for line in three), store)

    sigmoid = "div.full.f32 %r{0}3, %r1, %r{0}2"
    scaled = "div.full.f32 %r{0}3, %r{0}2, %r1"
    assert activation(40, sigmoid).alone_cycles > 35 * hopper.SERIAL_CYCLES
    assert activation(40, scaled).alone_cycles < 20 * hopper.SERIAL_CYCLES


@given(blocks=st.integers(1, 20_000), more=st.integers(1, 5_000))
def test_more_blocks_never_take_less(blocks: int, more: int) -> None:
    few, many = (traced_us(_PLAIN, [n], 1e6, H200) for n in (blocks, blocks + more))
    assert few <= many


def test_a_slower_clock_takes_longer_and_memory_counts_beyond_l2() -> None:
    slower = replace(H200, cycle_us=2 * H200.cycle_us)
    plain = traced_us(_PLAIN, [4000], 1e6, H200)
    assert traced_us(_PLAIN, [4000], 1e6, slower) == pytest.approx(2 * plain)
    large = replace(_PLAIN, loaded_bytes=65536.0)
    assert traced_us(large, [4000], 2e8, H200) > traced_us(large, [4000], 1e6, H200)


def test_rows_hold_traces() -> None:
    assert from_row(as_row(_PLAIN)) == _PLAIN


@needs_triton
def test_compiled_kernels_are_followed_and_their_traces_kept(tmp_path: Path) -> None:
    plan = draft(program_of(models.block()), "float16")
    parts, item = plan.launches[0]
    made = compile_kernel(item, 90)
    blocks = [part.tiling.programs for part in parts]
    cache = KernelCache(tmp_path)
    cache.put(made)
    again = cache.get(item.name, 90)
    assert again == made
    found = cache.trace(again, blocks, 132)
    assert found is not None
    assert found.loaded_bytes > 0
    assert found == trace_of(made, blocks, 132) == cache.trace(replace(made, ptx=b""), blocks, 132)
    assert trace_of(replace(made, ptx=b""), blocks, 132) is None
    strange = zlib.compress(kernel("bra $L9").encode())
    assert trace_of(replace(made, ptx=strange), blocks, 132) is None
    assert 0.5 < traced_us(found, blocks, 1e5, H200) < 50
