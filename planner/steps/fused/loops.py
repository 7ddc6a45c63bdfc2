"""Loops beside the launches they stand for, on the device that is here: answers first, then time.

What a plan chose by price is measured where the engine runs: the faster of the two is kept in
`verified.json`. A loop whose answers are not those of its launches, or move from run to run, does
not run at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import EngineHungError, EnvironmentMismatchError
from planner.runtime.engine import Session
from planner.runtime.fused.session import FusedSession, open_checked
from planner.runtime.segments import Bound
from planner.runtime.tensors import read_tensors
from planner.spec.manifest import Manifest
from planner.units import format_duration

RUNS = 20
"""Of a loop before it is timed, each over an arena without a number in it."""
_ROUNDS, _REPLAYS = 15, 20
_FAR = 0.1
"""Difference in units of the mean square of what is wanted that is no rounding."""
Feeds = Mapping[str, Any]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Raced:
    """A loop and its launches, by what the whole graph of the part takes with one or the other."""

    kernel: str
    steps: int
    loop_us: float
    launches_us: float
    remark: str = ""
    """Why nothing was timed."""
    is_wrong: bool = False

    @property
    def refusal(self) -> str:
        """Why its launches run from now on; empty where the loop does."""
        if self.is_wrong:
            return self.remark
        if self.remark or self.loop_us <= self.launches_us:
            return ""
        return f"{self._times} (measured here)"

    @property
    def text(self) -> str:
        """`a loop of 100 steps: 234 us with it, 310 us with its launches: the loop runs`."""
        which = "its launches run" if self.refusal else "the loop runs"
        return f"a loop of {self.steps} steps: {self.remark or self._times}: {which}"

    @property
    def _times(self) -> str:
        with_, without = format_duration(self.loop_us), format_duration(self.launches_us)
        return f"{with_} as one kernel, {without} as launches"


def apart_of(raced: Sequence[Raced]) -> dict[str, str]:
    """Kernels of loops whose launches run from now on, and why."""
    return {one.kernel: one.refusal for one in raced if one.refusal}


def reaching(kernels: Session, feeds: Feeds) -> Iterator[tuple[Bound, dict[str, Any]]]:
    """Each part of an engine with what really reaches it."""
    alive = dict(feeds)
    for part in kernels.parts:
        given = {name: alive[name] for name in part.inputs}
        yield part, given
        alive.update(part.call(given))


@contextmanager
def _telling(loops: Sequence[str]) -> Iterator[None]:
    """Where the GPU stops answering: which loops ran, since blocks that wait for each other are
    what may not end, and what runs without them.

    Raises:
        EngineHungError: it did.
    """
    try:
        yield
    except EngineHungError as error:
        if not loops:
            raise
        raise EngineHungError(
            f"{error.what}, running {'; '.join(loops)}",
            where=error.where,
            fix="restart the process and report the model; until then ONNX Runtime runs it: "
            'planner.runtime.load(engine, path="library")',
        ) from None


def golden_feeds(
    engine: Path, manifest: Manifest, kernels: Session
) -> dict[str, list[dict[str, Any]]]:
    """Part -> what reaches it with the golden inputs of each shape."""
    given: dict[str, list[dict[str, Any]]] = {}
    for golden in manifest.golden:
        for part, feeds in reaching(kernels, read_tensors(engine / golden.inputs)):
            given.setdefault(part.file, []).append(feeds)
    return given


def races(engine: Path, manifest: Manifest, kernels: Session) -> dict[str, list[Raced]]:
    """Part -> its loops that fit this device, raced on the golden inputs of all shapes."""
    with _telling(kernels.loops):
        given = golden_feeds(engine, manifest, kernels)
    return {
        part.file: raced
        for part in kernels.parts
        if part.kernels is not None
        and (raced := race(engine / part.file, part.kernels, given[part.file]))
    }


def race(folder: Path, loops: FusedSession, given: Sequence[Feeds]) -> list[Raced]:
    """Each loop in turn against its launches, the others as they were found to be better.

    Args:
        loops: the part with every loop that fits.
        given: inputs of each bucket that counts.
    """
    steps = {way.kernel: way.steps for way in loops.loops if not way.refusal}
    found: list[Raced] = []
    with ExitStack() as stack:
        best = loops
        for kernel in steps:
            apart = {**apart_of(found), kernel: "raced"}
            try:
                other = stack.enter_context(
                    open_checked(folder, apart=apart, shared_percent=loops.shared_percent)
                )
            except EnvironmentMismatchError as error:
                remark = f"not timed beside its launches ({error.what})"
                found.append(Raced(kernel, steps[kernel], 0.0, 0.0, remark))
                continue
            found.append(_raced(kernel, steps[kernel], best, other, given))
            best, slower = (other, best) if found[-1].refusal else (best, other)
            if slower is not loops:  # each holds all weights once more
                slower.close()
    return found


def _raced(
    kernel: str, steps: int, loop: FusedSession, launches: FusedSession, given: Sequence[Feeds]
) -> Raced:
    with _telling([f"a loop of {steps} steps ({kernel})"]):
        is_right = all(agree(loop, launches, feeds) for feeds in given)
    if not is_right:
        remark = "it answered otherwise than its launches here"
        return Raced(kernel, steps, 0.0, 0.0, remark, is_wrong=True)
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(_ROUNDS):
        for held, session in zip(taken, (loop, launches), strict=True):
            held.append(sum(session.replay_us(feeds, _REPLAYS) for feeds in given))
    return Raced(kernel, steps, statistics.median(taken[0]), statistics.median(taken[1]))


def agree(loop: FusedSession, launches: FusedSession, feeds: Feeds) -> bool:
    """Whether a loop answers as its launches do but for rounding, and the same in every run: where
    a block does not wait as it should, some runs are wrong and others are not."""
    wanted = launches.run(feeds)
    first: dict[str, bytes] = {}
    for _ in range(RUNS):
        loop.poison()
        found = loop.run(feeds)
        held = {name: value.tobytes() for name, value in found.items()}
        first = first or held
        if held != first or not all(_is_close(wanted[name], found[name]) for name in wanted):
            return False
    return True


def _is_close(wanted: Array, found: Array) -> bool:
    if wanted.tobytes() == found.tobytes():
        return True
    one, other = wanted.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)) or not finite.any():
        return False
    scale = float(np.sqrt(np.mean(np.square(one[finite]))))
    return float(np.abs(one - other)[finite].max()) <= _FAR * scale
