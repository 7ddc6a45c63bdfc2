"""Groups whose chosen kernels the compiler refuses or spills, in configurations where it does not.

What a configuration takes of registers and shared memory is known only once it is compiled, and
only what is chosen is worth that. So the solver chooses, the choice is compiled, and a group whose
kernel does not exist stands for the cheapest configuration that does, at that one's price, before
the solver chooses again: constraints added lazily, as where there are too many to write down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planner.fuse.drafts import Draft
from planner.fuse.groups import Choice
from planner.fuse.schedule import plan_part
from planner.kernels.compile import Compile, Compiled
from planner.kernels.configs import candidates
from planner.kernels.estimate import Rates, launch_us
from planner.kernels.source import Kernel, Part, kernel
from planner.kernels.tiling import shape_of

MAX_TRIES = 12
"""Configurations of a group that are compiled before none is said to do."""
_Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Unsound:
    """A chosen group without a kernel, or with one that spills."""

    choice: Choice
    draft: Draft
    """Which it is part of."""
    is_refused: bool
    """Whether it does not compile at all."""


@dataclass(slots=True)
class Replaced:
    """What the compiler taught so far."""

    instead: dict[str, _Parts | None] = field(default_factory=dict)
    """Option -> the stages it stands for now; None: no configuration that was tried compiles."""
    _failed: dict[str, list[_Parts]] = field(default_factory=dict)
    _spilling: set[str] = field(default_factory=set)
    """Options of which every configuration spills: better than none."""

    def unsound(
        self,
        chosen: Mapping[str, Choice],
        drafts: Mapping[str, Draft],
        made: Mapping[str, Compiled],
    ) -> dict[str, Unsound]:
        """Options whose launches need another configuration; O(launches).

        Args:
            drafts: bucket -> the launches of all that was chosen there.
            made: what compiles of their kernels.
        """
        names = {(one.bucket, _roots(one.parts)): name for name, one in chosen.items()}
        found = {}
        for bucket, draft in drafts.items():
            for parts, item in draft.launches:
                name = names[bucket, _roots(parts)]
                is_refused = item.name not in made
                if is_refused or (_spills(made[item.name]) and name not in self._spilling):
                    found[name] = Unsound(chosen[name], draft, is_refused)
        return found

    def replace(self, unsound: Mapping[str, Unsound], rates: Rates, compile_each: Compile) -> None:
        """Finds each option the cheapest configuration that compiles without spilling; where all
        spill, what compiles stays. Compiles `MAX_TRIES` kernels an option at most, equal ones once.
        """
        ways = {}
        for name, one in unsound.items():
            self._failed.setdefault(name, []).append(one.choice.parts)
            ways[name] = _ways(one, self._failed[name], rates)
        spilling: dict[str, _Parts] = {}
        sound: dict[str, _Parts] = {}
        for attempt in range(MAX_TRIES):
            asked = {
                name: listed[attempt]
                for name, listed in ways.items()
                if name not in sound and attempt < len(listed)
            }
            if not asked:
                break
            made = compile_each([item for _, item in asked.values()])
            for name, (parts, item) in asked.items():
                if item.name in made:
                    (spilling if _spills(made[item.name]) else sound).setdefault(name, parts)
        self.instead.update(sound)
        for name in unsound.keys() - sound.keys():
            self._spilling.add(name)
            if unsound[name].is_refused:
                self.instead[name] = spilling.get(name)


def _ways(one: Unsound, failed: Sequence[_Parts], rates: Rates) -> list[tuple[_Parts, Kernel]]:
    """Other configurations of a group with their kernels, cheapest first, the generator's order
    where they cost the same."""
    program, numbers = one.draft.program, one.draft.numbers
    others = [parts for parts in _configured(one) if parts not in failed]
    others.sort(key=lambda parts: launch_us(program, parts, numbers, rates))
    return [(parts, kernel(program, parts, numbers)) for parts in others[:MAX_TRIES]]


def _configured(one: Unsound) -> Iterator[_Parts]:
    """Each stage in its next configuration, all of them together."""
    program, stages = one.draft.program, [part.stage for part in one.choice.parts]
    listed = [candidates(shape_of(program, stage), companions=len(stages)) for stage in stages]
    for place in range(max(len(configs) for configs in listed)):
        yield tuple(
            plan_part(program, stage, configs[min(place, len(configs) - 1)])
            for stage, configs in zip(stages, listed, strict=True)
        )


def _roots(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(part.stage.root for part in parts)


def _spills(made: Compiled) -> bool:
    return made.resources.stack_size_bytes > 0
