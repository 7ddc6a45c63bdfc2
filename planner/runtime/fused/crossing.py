"""Inputs and outputs between pinned host memory and the arena, as nodes of the graph.

Up to 600 KB a kernel that reads or writes pinned memory takes half the time of a copy node (H200:
4 KB in and out 7.9 us against 18.1; `benchmarks/notes/gpu_constants.md`). The kernel is PTX, which
every driver compiles when it is loaded, so that it needs no cubin of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import Slot

KERNEL_LIMIT_BYTES = 600_000
ALIGNMENT_BYTES = 256
"""Of the slots of a block: see `planner.kernels.arena`."""
_WORD_BYTES = 16
_THREADS = 256
_MOST_PROGRAMS = 64
_COPY = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry copy(.param .u64 source, .param .u64 target, .param .u64 words)
{
    .reg .u64 %rd<8>;
    .reg .u32 %r<8>;
    .reg .pred %p;
    ld.param.u64 %rd1, [source];
    ld.param.u64 %rd2, [target];
    ld.param.u64 %rd3, [words];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.wide.u32 %rd4, %r1, %r2, 0;
    cvt.u64.u32 %rd5, %r3;
    add.u64 %rd4, %rd4, %rd5;
    mov.u32 %r1, %nctaid.x;
    mul.wide.u32 %rd5, %r1, %r2;
LOOP:
    setp.ge.u64 %p, %rd4, %rd3;
    @%p bra DONE;
    shl.b64 %rd6, %rd4, 4;
    add.u64 %rd7, %rd1, %rd6;
    ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd7];
    add.u64 %rd7, %rd2, %rd6;
    st.global.v4.u32 [%rd7], {%r4, %r5, %r6, %r7};
    add.u64 %rd4, %rd4, %rd5;
    bra LOOP;
DONE:
    ret;
}
\0"""


@dataclass(frozen=True, slots=True)
class Block:
    """Slots that lie side by side in the arena, and in staging in the same places."""

    slots: tuple[Slot, ...]
    start: int
    """Offset of the first byte in the arena."""
    size_bytes: int

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> Block:
        """The block of a bucket's inputs or outputs."""
        if not slots:
            return cls((), 0, 0)
        start = min(slot.offset for slot in slots)
        end = max(slot.offset + slot.size_bytes for slot in slots)
        padded = -(-(end - start) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        return cls(tuple(slots), start, padded)

    def place(self, slot: Slot) -> int:
        """Where the slot lies in staging."""
        return slot.offset - self.start


def copier(driver: Driver) -> Any:
    """The copying kernel, loaded."""
    return driver.load(_COPY, "copy", 0)


def queue_in(driver: Driver, copy: Any, staging: int, arena: int, block: Block) -> None:
    """Queues the copy of all inputs."""
    if 0 < block.size_bytes <= KERNEL_LIMIT_BYTES:
        _queue(driver, copy, staging, arena + block.start, block.size_bytes)
    elif block.size_bytes:
        driver.upload(arena + block.start, staging, block.size_bytes)


def queue_out(driver: Driver, copy: Any, staging: int, arena: int, block: Block) -> None:
    """Queues the copy of all outputs."""
    if 0 < block.size_bytes <= KERNEL_LIMIT_BYTES:
        _queue(driver, copy, arena + block.start, staging, block.size_bytes)
    elif block.size_bytes:
        driver.download(staging, arena + block.start, block.size_bytes)


def _queue(driver: Driver, copy: Any, source: int, target: int, size_bytes: int) -> None:
    words = size_bytes // _WORD_BYTES
    programs = min(max(-(-words // _THREADS), 1), _MOST_PROGRAMS)
    driver.launch(copy, programs, _THREADS, 0, [source, target, words], ahead=False)
