"""What each rank does in one run, in order: a list of steps that follows from the manifest alone.

Why ranks cannot wait for each other in a circle: every rank takes the stages in the manifest's
order, what a stage makes for others leaves right after it, and a rank takes it in before the next
stage of its own. So each send and receive has its place in one order that all ranks keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import VerificationError
from planner.spec.manifest import CollectiveSegment, FusedSegment, Manifest, OrtSegment, Stage


class _OfSegment:
    """A step that does what a segment of the manifest says."""

    __slots__ = ()
    segment: OrtSegment | CollectiveSegment

    @property
    def reads(self) -> tuple[str, ...]:
        return self.segment.inputs

    @property
    def makes(self) -> tuple[str, ...]:
        return self.segment.outputs


@dataclass(frozen=True, slots=True)
class Compute(_OfSegment):
    """Run an ONNX part."""

    segment: OrtSegment
    file: str
    """The own file of it."""
    dead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Together(_OfSegment):
    """Take part in a collective of the stage's ranks."""

    segment: CollectiveSegment
    ranks: tuple[int, ...]
    dead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a tensor to another rank."""

    tensor: str
    to: int
    dead: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.tensor,)

    @property
    def makes(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Receive:
    """Take a tensor from another rank."""

    tensor: str
    source: int
    dead: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    @property
    def makes(self) -> tuple[str, ...]:
        return (self.tensor,)


Step = Compute | Together | Send | Receive


@dataclass(frozen=True, slots=True)
class Program:
    """One rank's part in a run."""

    feeds: tuple[str, ...]
    """Inputs of the engine that it needs."""
    steps: tuple[Step, ...]
    returns: tuple[str, ...]
    """Outputs of the engine that it hands back."""


@dataclass(frozen=True, slots=True)
class _Crossing:
    """A tensor that leaves the ranks it is made on."""

    tensor: str
    made: int
    """Stage."""
    source: int
    """Rank."""
    to: int


def programs(manifest: Manifest) -> tuple[Program, ...]:
    """The program of each rank.

    Raises:
        VerificationError: a stage reads, or the engine returns, what nobody makes before.
    """
    made = _makers(manifest)
    crossings = list(_crossings(manifest.stages, made))
    return tuple(_program(manifest, rank, made, crossings) for rank in range(manifest.ranks))


def _makers(manifest: Manifest) -> dict[str, int]:
    """Tensor -> the stage that makes it; -1 for inputs of the engine."""
    made = {spec.name: -1 for spec in manifest.inputs}
    for index, stage in enumerate(manifest.stages):
        for segment in stage.segments:
            _refuse_unmade([name for name in segment.inputs if name not in made])
            made.update(dict.fromkeys(segment.outputs, index))
    _refuse_unmade([spec.name for spec in manifest.outputs if spec.name not in made])
    return made


def _refuse_unmade(names: Sequence[str]) -> None:
    if names:
        raise VerificationError(
            f"no segment makes {', '.join(map(repr, names))} before it is needed",
            where="manifest.json",
        )


def _crossings(stages: Sequence[Stage], made: dict[str, int]) -> Iterator[_Crossing]:
    """Each tensor once for each rank that lacks it, by maker, in the order of first use."""
    found: dict[tuple[str, int], _Crossing] = {}
    for stage in stages:
        for crossing in _arrivals(stage, stages, made):
            found.setdefault((crossing.tensor, crossing.to), crossing)
    yield from sorted(found.values(), key=lambda crossing: crossing.made)


def _arrivals(
    reader: Stage, stages: Sequence[Stage], made: Mapping[str, int]
) -> Iterator[_Crossing]:
    """What a stage reads and ranks of it lack; givers take turns."""
    for tensor in (name for segment in reader.segments for name in segment.inputs):
        maker = made[tensor]
        givers = stages[maker].ranks if maker >= 0 else reader.ranks
        for position, rank in enumerate(reader.ranks):
            if rank not in givers:
                yield _Crossing(tensor, maker, givers[position % len(givers)], rank)


def _program(
    manifest: Manifest, rank: int, made: dict[str, int], crossings: Sequence[_Crossing]
) -> Program:
    steps: list[Step] = []
    coming = [crossing for crossing in crossings if crossing.to == rank]
    for index, stage in enumerate(manifest.stages):
        if rank not in stage.ranks:
            continue
        steps += [Receive(one.tensor, one.source) for one in coming if one.made < index]
        coming = [one for one in coming if one.made >= index]
        steps += _own(stage, stage.ranks.index(rank))
        leaving = [one for one in crossings if one.source == rank and one.made == index]
        steps += [Send(one.tensor, one.to) for one in leaving]
    returns = tuple(
        spec.name
        for spec in manifest.outputs
        if made[spec.name] >= 0 and manifest.stages[made[spec.name]].ranks[0] == rank
    )
    inputs = {spec.name for spec in manifest.inputs}
    needed = {name for step in steps for name in step.reads if name in inputs}
    feeds = tuple(spec.name for spec in manifest.inputs if spec.name in needed)
    return Program(feeds, _with_deaths(steps, set(returns)), returns)


def _own(stage: Stage, position: int) -> Iterator[Step]:
    for segment in stage.segments:
        if isinstance(segment, CollectiveSegment):
            yield Together(segment, stage.ranks)
        else:
            part = segment.library if isinstance(segment, FusedSegment) else segment
            yield Compute(part, part.file_of(position))


def _with_deaths(steps: Sequence[Step], wanted: set[str]) -> tuple[Step, ...]:
    """Each step with the tensors that nobody on this rank reads after it."""
    found: list[Step] = []
    later = set(wanted)
    for step in reversed(steps):
        touched = {*step.reads, *step.makes}
        found.append(replace(step, dead=tuple(sorted(touched - later))))
        later |= set(step.reads)
    return tuple(reversed(found))
