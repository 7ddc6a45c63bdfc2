"""Replays of a bucket over a poisoned arena, each compared bit for bit on the device.

One graph: the arena is overwritten by an image of it (NaN patterns everywhere, inputs in their
places), the engine's launches follow, and a kernel counts the words in which the whole arena,
intermediates included, differs from what the first replay left. A missing wait shows as such a
word; before that a planted one must be seen, or the comparison itself would not count.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.small.exclusive import exclusive
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.inputs import fitting
from planner.runtime.fused.instance import Instance

_CHUNK = 2000
"""Replays between two looks at the count: a quarter of a second."""
_PROGRAMS, _THREADS = 132, 256
_WORD_SIZE_BYTES = 4
_DIFFER = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry differ(.param .u64 found, .param .u64 wanted, .param .u64 words, .param .u64 count)
{
    .reg .pred %p<3>;
    .reg .u32 %r<8>;
    .reg .u64 %rd<12>;
    ld.param.u64 %rd1, [found];
    ld.param.u64 %rd2, [wanted];
    ld.param.u64 %rd3, [words];
    ld.param.u64 %rd4, [count];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %nctaid.x;
    mul.wide.u32 %rd5, %r2, %r3;
    cvt.u64.u32 %rd6, %r1;
    add.u64 %rd5, %rd5, %rd6;
    mul.wide.u32 %rd7, %r3, %r4;
LOOP:
    setp.ge.u64 %p1, %rd5, %rd3;
    @%p1 bra DONE;
    shl.b64 %rd8, %rd5, 2;
    add.u64 %rd9, %rd1, %rd8;
    add.u64 %rd10, %rd2, %rd8;
    ld.global.u32 %r5, [%rd9];
    ld.global.u32 %r6, [%rd10];
    setp.ne.u32 %p2, %r5, %r6;
    @%p2 red.global.add.u64 [%rd4], 1;
    add.u64 %rd5, %rd5, %rd7;
    bra LOOP;
DONE:
    ret;
}
\0"""
"""Adds to `count` the number of 32-bit words in which `found` and `wanted` differ."""


class Stress:
    """The poisoned graph of one instance, and the count of what differed."""

    def __init__(self, instance: Instance, feeds: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Makes the image, replays once, and keeps what that leaves. Not while others run it."""
        self._instance, self._driver = instance, instance.driver
        driver, size = self._driver, instance.bucket.arena_size_bytes
        self.words = size // _WORD_SIZE_BYTES
        self._image, self._wanted = driver.allocate(size), driver.allocate(size)
        self._count = driver.allocate(8)
        function = driver.load(_DIFFER, "differ", 0)
        instance.poison()
        for slot in instance.bucket.inputs:
            value = fitting(slot, feeds)
            driver.upload(instance.address_of(slot), value.ctypes.data, slot.size_bytes)
        driver.copy(self._image, instance.arena_address, size)
        instance.replay()
        driver.copy(self._wanted, instance.arena_address, size)
        driver.fill(self._count, 0, 8)
        driver.synchronize()

        def once() -> None:
            driver.copy(instance.arena_address, self._image, size)
            instance.queue()
            addresses = [instance.arena_address, self._wanted, self.words, self._count]
            driver.launch(function, _PROGRAMS, _THREADS, 0, addresses, ahead=False)

        self._graph = driver.capture(once)

    def sees_a_planted_word(self) -> bool:
        """Whether one altered word is counted once, and none after it is mended."""
        driver, held = self._driver, np.zeros(1, np.uint32)
        begin = self.replay(1)
        driver.download(held.ctypes.data, self._wanted, _WORD_SIZE_BYTES)
        driver.synchronize()
        planted = held ^ np.uint32(1)
        driver.upload(self._wanted, planted.ctypes.data, _WORD_SIZE_BYTES)
        seen = self.replay(1)
        driver.upload(self._wanted, held.ctypes.data, _WORD_SIZE_BYTES)
        after = self.replay(1)
        return (begin, seen - begin, after - seen) == (0, 1, 0)

    def reset(self) -> None:
        """Counts from zero again."""
        self._driver.fill(self._count, 0, 8)

    def replay(self, replays: int) -> int:
        """Words that differed since the last reset, after so many more replays."""
        for _ in range(replays):
            self._driver.replay(self._graph)
        return _number(self._driver, self._count)


def _number(driver: Driver, address: int) -> int:
    held = ctypes.c_uint64()
    driver.download(ctypes.addressof(held), address, 8)
    driver.synchronize()
    return held.value


def stressed(
    instance: Instance, feeds: Mapping[str, np.ndarray[Any, Any]], replays: int
) -> dict[str, Any]:
    """The record of so many replays."""
    with exclusive():
        stress = Stress(instance, feeds)
        is_seen = stress.sees_a_planted_word()
    stress.reset()
    done = differing = 0
    taken_s = 0.0
    while done < replays:
        with exclusive():
            begin = time.perf_counter()
            chunk = min(_CHUNK, replays - done)
            differing = stress.replay(chunk)
            taken_s += time.perf_counter() - begin
        done += chunk
    return {
        "passed": is_seen and differing == 0,
        "replays": done,
        "differing_words": differing,
        "words_compared_each": stress.words,
        "a_planted_word_is_seen": is_seen,
        "us_each": round(taken_s / done * 1e6, 1),
    }
