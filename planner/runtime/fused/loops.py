"""Loops on the device that is here: one kernel where all its blocks are on it at once, else the
launches it stands for (`manifest.Loop`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import Argument, Binary, Bucket, FusedManifest, Launch, Loop


@dataclass(frozen=True, slots=True)
class Way:
    """How a loop runs here."""

    bucket: str
    kernel: str
    steps: int
    blocks: int
    refusal: str = ""
    """Why its steps are launches here; empty where it is a loop."""

    @property
    def text(self) -> str:
        """`100 steps as one loop of 80 blocks`."""
        if self.refusal:
            return f"{self.steps} steps as launches: {self.refusal}"
        return f"{self.steps} steps as one loop of {self.blocks} blocks"


@dataclass(frozen=True, slots=True)
class Fitted:
    """An engine as one device runs it."""

    manifest: FusedManifest
    """With launches only where they run."""
    functions: Mapping[str, Any]
    """Kernels by name, loaded."""
    ways: tuple[Way, ...]


def fitted(
    manifest: FusedManifest,
    binaries: Mapping[str, Binary],
    driver: Driver,
    loaded: Callable[[Binary], Any],
    apart: Mapping[str, str] = MappingProxyType({}),
) -> Fitted:
    """Chooses for each loop, and loads what then runs and nothing else.

    Args:
        loaded: makes a binary a kernel of the device.
        apart: kernels of loops that are to run as launches though they would fit, and why.
    """
    functions: dict[str, Any] = {}
    for name in sorted((manifest.loop_kernels & binaries.keys()) - apart.keys()):
        functions[name] = loaded(binaries[name])
    ways = tuple(_ways(manifest, binaries, driver, functions, apart))
    refused = {way.kernel for way in ways if way.refusal}
    made = replace(manifest, buckets=tuple(without(b, refused) for b in manifest.buckets))
    for name in dict.fromkeys(launch.kernel for launch in made.launches):
        if name not in functions:
            functions[name] = loaded(binaries[name])
    return Fitted(made, functions, ways)


def _ways(
    manifest: FusedManifest,
    binaries: Mapping[str, Binary],
    driver: Driver,
    functions: Mapping[str, Any],
    apart: Mapping[str, str],
) -> Iterator[Way]:
    for bucket in manifest.buckets:
        for loop in bucket.loops:
            launch = bucket.launches[loop.position]
            item = binaries.get(launch.kernel)
            if launch.kernel in apart:
                reason = apart[launch.kernel]
            elif item is None:
                reason = _built_without(loop, driver.architecture)
            else:
                reason = _too_large(driver, functions[launch.kernel], launch.programs, item)
            yield Way(bucket.name, launch.kernel, loop.steps, launch.programs, reason)


def _built_without(loop: Loop, architecture: int) -> str:
    """The architecture whose kernels run here is the closest one of the family from below."""
    reasons = {
        one.architecture: one.reason
        for one in loop.refused
        if one.architecture // 10 == architecture // 10 and one.architecture <= architecture
    }
    if not reasons:
        return "the engine holds no loop for this GPU"
    closest = max(reasons)
    return f"built so for sm_{closest}: {reasons[closest]}"


def _too_large(driver: Driver, function: Any, blocks: int, item: Binary) -> str:
    held = driver.blocks_at_once(function, item.threads, item.shared_size_bytes)
    if held is None:
        return "the GPU promises no blocks at once (no cooperative launch)"
    if blocks > held:
        return f"{blocks} blocks wait for each other, the GPU holds {held} at once"
    return ""


def described(manifest: FusedManifest) -> list[str]:
    """Of each loop: where it is one, and where its launches run instead, and why."""
    found = []
    for bucket in manifest.buckets:
        for loop in bucket.loops:
            kernel = bucket.launches[loop.position].kernel
            built = sorted(b.architecture for b in manifest.binaries if b.kernel == kernel)
            text = f"{loop.steps} steps from {loop.first.makes[0]} on: "
            if len({one.name for one in manifest.buckets}) > 1:
                text = f"{bucket.name}: {text}"
            if built:
                text += f"one loop on {', '.join(f'sm_{a}' for a in built)} where its "
                text += f"{bucket.launches[loop.position].programs} blocks fit, else launches"
            told = [f"launches on sm_{one.architecture} ({one.reason})" for one in loop.refused]
            found.append(text + "; " * bool(built and told) + "; ".join(told))
    return found


def without(bucket: Bucket, kernels: Set[str]) -> Bucket:
    """The bucket with those of its loops that run these kernels as launches."""
    apart = {
        loop.position: loop
        for loop in bucket.loops
        if bucket.launches[loop.position].kernel in kernels
    }
    launches: list[Launch] = []
    for position, launch in enumerate(bucket.launches):
        launches += steps_of(apart[position]) if position in apart else [launch]
    return replace(bucket, launches=tuple(launches), loops=()) if apart else bucket


def steps_of(loop: Loop) -> list[Launch]:
    """The launches that a loop stands for."""
    each = len(loop.first.makes) // loop.steps
    return [
        replace(
            loop.first,
            arguments=tuple(
                Argument(argument.space, argument.offset + step * stride)
                for argument, stride in zip(loop.first.arguments, loop.strides_bytes, strict=True)
            ),
            makes=loop.first.makes[step * each : (step + 1) * each],
        )
        for step in range(loop.steps)
    ]
