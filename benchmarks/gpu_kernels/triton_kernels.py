# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, N803
"""Triton kernels of gpu_constants.py (Triton reads a kernel's source from its file)."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def ptx_barrier(counter, target):
    """Grid barrier as inline PTX: thread 0 arrives and spins, the others wait at bar.sync."""
    tl.debug_barrier()
    tl.inline_asm_elementwise(
        """
{
 .reg .pred p, q; .reg .u32 t, v;
 mov.u32 t, %tid.x;
 setp.ne.u32 q, t, 0;
 @q bra DONE;
 red.release.gpu.global.add.u32 [$1], 1;
 WAIT:
 ld.acquire.gpu.global.u32 v, [$1];
 setp.lt.u32 p, v, $2;
 @p bra WAIT;
 DONE:
 mov.u32 $0, 0;
}""",
        "=r,l,r",
        [counter, target],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
    tl.debug_barrier()


@triton.jit
def atomic_barrier(counter, target):
    """Grid barrier with Triton's own atomics: every poll costs two block barriers."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
    seen = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    while seen < target:
        seen = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    tl.debug_barrier()


@triton.jit
def barrier_loop(counter, data, errors, rounds, exchange, PTX: tl.constexpr):
    """`rounds` grid barriers; with `exchange`, each hands 128 words to the next block."""
    n = tl.num_programs(0)
    pid = tl.program_id(0)
    lane = tl.arange(0, 128)
    neighbour = (pid + 1) % n
    wrong = tl.zeros((128,), tl.int32)
    for r in range(rounds):
        buffer = data + (r % 2) * n * 128
        if exchange != 0:
            tl.store(buffer + pid * 128 + lane, tl.zeros((128,), tl.int32) + r * 977 + pid)
        if PTX:
            ptx_barrier(counter, n * (r + 1))
        else:
            atomic_barrier(counter, n * (r + 1))
        if exchange != 0:
            seen = tl.load(buffer + neighbour * 128 + lane, cache_modifier=".cg")
            wrong += (seen != r * 977 + neighbour).to(tl.int32)
    tl.atomic_add(errors, tl.sum(wrong, 0))


@triton.jit
def gemm_stage(
    x, w, b, y, M, K: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BK: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """y = act(x @ w + b) for M <= BM rows; the tiles of N are dealt to the blocks."""
    rm = tl.arange(0, BM)
    rk = tl.arange(0, BK)
    rn = tl.arange(0, BN)
    rows = rm[:, None] < M
    for tile in range(tl.program_id(0), N // BN, tl.num_programs(0)):
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            left = tl.load(
                x + rm[:, None] * K + (k + rk)[None, :], mask=rows, other=0.0, cache_modifier=".cg"
            )
            right = tl.load(w + (k + rk)[:, None] * N + (tile * BN + rn)[None, :])
            acc = tl.dot(left, right, acc)
        acc += tl.load(b + tile * BN + rn)[None, :]
        if SILU:
            acc = acc * tl.sigmoid(acc)
        tl.store(y + rm[:, None] * N + (tile * BN + rn)[None, :], acc.to(tl.float16), mask=rows)


@triton.jit
def gemm_node(
    x, w, b, y, M, K: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BK: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One stage as a kernel of its own."""
    gemm_stage(x, w, b, y, M, K, N, BM, BN, BK, SILU)


@triton.jit
def gemm_chain(
    x, h, w, b, counter, M, layers, D: tl.constexpr, F: tl.constexpr, BM: tl.constexpr,
    BN1: tl.constexpr, BN2: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`layers` of x = silu(x @ W1 + b1) @ W2 + b2 in one kernel, two barriers a layer."""
    n = tl.num_programs(0)
    for i in range(layers):
        w1 = w + i * (2 * D * F)
        b1 = b + i * (D + F)
        gemm_stage(x, w1, b1, h, M, D, F, BM, BN1, BK, True)
        ptx_barrier(counter, n * (2 * i + 1))
        gemm_stage(h, w1 + D * F, b1 + F, x, M, F, D, BM, BN2, BK, False)
        ptx_barrier(counter, n * (2 * i + 2))


@triton.jit
def gemm_once(
    x, w, b, y, M, K: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    SPLIT: tl.constexpr, SILU: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One stage and one tile a block, the whole of K at once, split over SPLIT groups of warps.

    With PDL, the weights are fetched before the wait for the previous kernel.
    """
    if PDL:
        gdc_launch_dependents()
    rm = tl.arange(0, BM)
    rn = tl.program_id(0) * BN + tl.arange(0, BN)
    rk = tl.arange(0, SPLIT)[:, None] * (K // SPLIT) + tl.arange(0, K // SPLIT)[None, :]
    right = tl.load(w + rk[:, :, None] * N + rn[None, None, :])
    bias = tl.load(b + rn)
    if PDL:
        gdc_wait()
    rows = rm[None, :, None] < M
    left = tl.load(
        x + rm[None, :, None] * K + rk[:, None, :], mask=rows, other=0.0, cache_modifier=".cg"
    )
    acc = tl.sum(tl.dot(left, right), axis=0) + bias[None, :]
    if SILU:
        acc = acc * tl.sigmoid(acc)
    tl.store(y + rm[:, None] * N + rn[None, :], acc.to(tl.float16), mask=rm[:, None] < M)
