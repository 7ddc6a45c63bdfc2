"""A drafted engine on the device, its kernels exchangeable: what a change is worth is what the
whole graph takes with it.

A kernel timed alone finds its inputs, its code and its weights where it left them; between its
neighbours it does not. So tuning replays all launches each time (`planner.fuse.tune`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from planner.fuse.build import Draft
from planner.kernels.compile import Compiled
from planner.kernels.pack import Sheet, arena, pack_weights, storage_dtype
from planner.kernels.source import Kernel
from planner.runtime.fused.driver import SHARED_PERCENT, Driver

Array = np.ndarray[Any, Any]
_SMALL_NUMBERS = 0x11
"""A byte that makes small normal numbers in every floating-point type, and small whole ones."""
_NO_NUMBER = 0xFF
"""A byte that makes what is not a number in every floating-point type."""
_REPEATS, _WARM_UPS = 15, 3
_FAR = 0.1
"""Difference of two kernels, in units of the mean square of what they make, that is no rounding."""


def noise(size_bytes: int, number_format: str) -> Array:
    """Bytes that are normal numbers in a format."""
    random = np.random.default_rng(1)
    dtype = np.dtype(np.float16 if number_format == "float16" else np.float32)
    made = random.standard_normal(-(-size_bytes // dtype.itemsize)) / 2
    return made.astype(dtype).view(np.uint8)[:size_bytes].copy()


def some(empty: Array) -> Array:
    """Random values of an array's type and shape: normal numbers, or zeros and ones."""
    random = np.random.default_rng(empty.size)
    made = random.standard_normal(empty.shape) / 2
    if empty.dtype.kind != "f":
        made = made > 0
    return np.asarray(made, empty.dtype)


def is_close(one: Array, other: Array) -> bool:
    """Whether two tensors differ by rounding alone; not a number agrees with itself."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not finite.any():
        return not finite.any() and not np.isfinite(b).any()
    scale = float(np.sqrt(np.mean(np.square(a[finite])))) + 1e-6
    return float(np.abs(a - b)[finite].max()) <= _FAR * scale


class Live:
    """Weights and arena of a draft on a device, and every kernel loaded once."""

    def __init__(self, driver: Driver, plan: Draft) -> None:
        self._driver, self._plan = driver, plan
        sheet = Sheet("tuned", plan.program, plan.numbers, plan.launches)
        weights, (self._in_weights,) = pack_weights([sheet])
        self._in_arena, size_bytes = arena(plan.program, plan.kernels, plan.numbers)
        self._size_bytes = max(size_bytes, 1)
        self._weights = driver.allocate(len(weights))
        self._arena = driver.allocate(size_bytes)
        held = np.frombuffer(weights or b"\0", np.uint8)
        driver.upload(self._weights, held.ctypes.data, held.nbytes)
        driver.fill(self._arena, _SMALL_NUMBERS, self._size_bytes)
        driver.synchronize()
        self._loaded: dict[str, tuple[Any, Compiled]] = {}
        events = [driver.api.cuEventCreate(0) for _ in range(2 * _REPEATS)]
        self._events = [event[1] for event in events]

    def load(self, compiled: Mapping[str, Compiled]) -> None:
        """Makes kernels known, by name."""
        for name, item in compiled.items():
            if name not in self._loaded:
                function = self._driver.load(item.cubin, item.entry, item.shared_size_bytes)
                self._loaded[name] = function, item

    def ask_for(self, shared_percent: int) -> None:
        """Lets every kernel ask for such a share of a multiprocessor's memory as shared memory
        (`planner.runtime.fused.driver.SHARED_PERCENT`), those loaded later too."""
        self._driver.shared_percent = shared_percent
        for function, _ in self._loaded.values():
            self._driver.ask_for(function, shared_percent)

    def knows(self, kernels: Iterable[Kernel]) -> bool:
        """Whether every kernel is loaded."""
        return all(item.name in self._loaded for item in kernels)

    def graph_us(self, kernels: Sequence[Kernel], waiting: frozenset[str] = frozenset()) -> float:
        """Median device time of a replay of these launches, hot.

        Args:
            waiting: kernels that start only when what is in front of them has ended.
        """
        driver, api = self._driver, self._driver.api
        graph = driver.capture(lambda: self._queue(kernels, waiting))
        for _ in range(_WARM_UPS):
            driver.replay(graph)
        for begin, end in zip(self._events[::2], self._events[1::2], strict=True):
            api.cuEventRecord(begin, driver.stream)
            driver.replay(graph)
            api.cuEventRecord(end, driver.stream)
        driver.synchronize()
        taken = [
            float(api.cuEventElapsedTime(begin, end)[1]) * 1e3
            for begin, end in zip(self._events[::2], self._events[1::2], strict=True)
        ]
        driver.release(graph)
        return statistics.median(taken)

    @property
    def units(self) -> int:
        """Multiprocessors of the device."""
        kinds = self._driver.api.CUdevice_attribute
        return self._driver.attribute(kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)

    @contextmanager
    def another(self, plan: Draft, compiled: Mapping[str, Compiled]) -> Iterator[Live]:
        """Another draft on the device, in memory of its own."""
        other = type(self)(self._driver, plan)
        try:
            other.load(compiled)
            yield other
        finally:
            other.close()

    def answers(
        self, kernels: Sequence[Kernel], waiting: frozenset[str], runs: int
    ) -> list[dict[str, Array]]:
        """Outputs of some runs on random inputs, the same in every run and for every draft of a
        program. Nothing else in the arena is a number when a run begins."""
        driver, numbers, types = self._driver, self._plan.numbers, self._plan.program.types

        def empty(name: str) -> Array:
            return np.empty(types[name].shape, storage_dtype(numbers.storage[name]))

        feeds = [(name, some(empty(name))) for name in self._plan.program.inputs]
        graph = driver.capture(lambda: self._queue(kernels, waiting))
        found = []
        for _ in range(runs):
            driver.fill(self._arena, _NO_NUMBER, self._size_bytes)
            for name, held in feeds:
                driver.upload(self._arena + self._in_arena[name], held.ctypes.data, held.nbytes)
            driver.replay(graph)
            made = {name: empty(name) for name in self._plan.program.outputs}
            for name, held in made.items():
                driver.download(held.ctypes.data, self._arena + self._in_arena[name], held.nbytes)
            driver.synchronize()
            found.append(made)
        driver.release(graph)
        driver.fill(self._arena, _SMALL_NUMBERS, self._size_bytes)
        return found

    def agrees(self, one: Kernel, other: Kernel) -> bool:
        """Whether two kernels of the same stages make the same of the same random memory.

        Compilers err: of 3,900 kernels tried on an H200 eight were wrong or wrote elsewhere.
        """
        made = [self._made_of(item) for item in (one, other)]
        return all(is_close(made[0][name], made[1][name]) for name in made[0])

    def _made_of(self, item: Kernel) -> dict[str, Array]:
        """The tensors that a kernel reads or writes, after it ran on random ones."""
        driver = self._driver
        held = noise(self._size_bytes, self._plan.numbers.product_type)
        driver.upload(self._arena, held.ctypes.data, self._size_bytes)
        self._queue([item], frozenset())
        driver.download(held.ctypes.data, self._arena, self._size_bytes)
        driver.synchronize()
        driver.fill(self._arena, _SMALL_NUMBERS, self._size_bytes)
        found = {}
        for name in {p.tensor for p in item.parameters} & self._in_arena.keys():
            dtype = storage_dtype(self._plan.numbers.storage[name])
            size = self._plan.program.types[name].size
            found[name] = np.frombuffer(held.data, dtype, size, self._in_arena[name])
        return found

    def _queue(self, kernels: Sequence[Kernel], waiting: frozenset[str]) -> None:
        for position, item in enumerate(kernels):
            function, made = self._loaded[item.name]
            self._driver.launch(
                function,
                item.programs,
                made.threads,
                made.shared_size_bytes,
                [*self._addresses(item), 0, 0],
                ahead=made.waits and position > 0 and item.name not in waiting,
                together=item.steps > 1,
            )

    def _addresses(self, item: Kernel) -> list[int]:
        found = []
        for parameter, kind in zip(item.parameters, item.types, strict=True):
            moved = parameter.offset * storage_dtype(kind).itemsize
            if parameter.tensor in self._in_weights:
                found.append(self._weights + self._in_weights[parameter.tensor] + moved)
            else:
                found.append(self._arena + self._in_arena[parameter.tensor] + moved)
        return found

    def close(self) -> None:
        """Gives the memory back."""
        self._driver.synchronize()
        self._driver.shared_percent = SHARED_PERCENT
        for event in self._events:
            self._driver.api.cuEventDestroy(event)
        self._driver.free(self._weights)
        self._driver.free(self._arena)
