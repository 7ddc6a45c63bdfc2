"""From parts, formats and a device to the problem, and back to launches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from planner.cost.predictor import Predictor
from planner.cost.rates import rates_of
from planner.errors import NoPlanInTimeError
from planner.fuse.ahead import brought
from planner.fuse.build import Draft, drafted
from planner.fuse.candidates import explore
from planner.fuse.groups import Bucket, Form, Groups, pose
from planner.fuse.roll import rolled_up
from planner.fuse.sound import Replaced
from planner.graph.segments import Cut, Segment
from planner.ir.solution import Solution, Status
from planner.kernels.estimate import Rates
from planner.kernels.pack import arena_size_bytes, numbers_for, storage_dtype
from planner.kernels.source import Numbers
from planner.ops.nest import Program
from planner.progress import Reporter
from planner.spec.constraints import Constraints
from planner.spec.profile import DeviceProfile
from planner.steps.choose import OBJECTIVES, limits
from planner.steps.conflict import conflict_error
from planner.steps.fused.compiling import Answer, Compilers, Existing, better, existing
from planner.steps.fused.forms import Rounding
from planner.steps.fused.prices import Prices, prices_of
from planner.steps.fused.tuning import Tuned, still_compiled, tuned_here

LIBRARY_OP_US = 3.9
"""One operator in a call of ONNX Runtime's CUDA provider (measured on an H200: 776 us for 200)."""
CROSSING_US = 15.0
"""From kernels to ONNX Runtime and back: a wait, copies, a call (estimate)."""
LOOSE_ERROR = 1e-2
"""NMSE allowed where nothing was asked: what narrow storage costs stays well below it, formats
that break a model do not."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the solver chose."""

    groups: Groups
    solution: Solution
    form: Rounding
    rates: Rates
    drafts: Mapping[str, Draft]
    """Bucket (`shape/segment`) -> its launches."""
    tuned: Mapping[str, Tuned]
    """Bucket -> what measuring made of it; empty where the device is not here."""
    existing: Existing
    """How far its kernels are known to compile."""
    prices: Prices
    """What its launches are said to take."""


def bucket_name(shape: str, segment: int) -> str:
    """How the problem calls a part under a workload shape."""
    return f"{shape}/{segment}"


def decide(
    constraints: Constraints,
    profile: DeviceProfile,
    shapes: Sequence[tuple[str, float]],
    cuts: Sequence[Cut],
    formats: Sequence[Rounding],
    reporter: Reporter,
    compilers: Compilers | None = None,
) -> Decided:
    """Solves the joint choice of groups and number format.

    Args:
        shapes: (name, share of all runs) per workload shape, as `cuts`.
        compilers: what the choice is compiled with before it is one; not at all where None.

    Raises:
        ConflictError: proved that no plan meets the limits.
        NoPlanInTimeError: the time limit ended first.
    """
    rates = rates_of(profile)
    usable = [form for form in formats if form.dtype in rates.flops_per_us] or list(formats[:1])
    numbers = {
        (bucket_name(shape, i), form.name): numbers_for(program, form.dtype)
        for (shape, _), found in zip(shapes, cuts, strict=True)
        for i, program in _programs(found)
        for form in usable
    }
    buckets = [
        _bucket(shape, number, i, program, usable, numbers)
        for number, ((shape, _), found) in enumerate(zip(shapes, cuts, strict=True))
        for i, program in _programs(found)
    ]
    overhead = tuple(_overhead_us(found, rates) for found in cuts)
    runtime = runtime_bytes(cuts, Predictor(profile))
    forms = [
        Form(f.name, f.error, _weights_size_bytes(cuts[0], f) + runtime, overhead) for f in usable
    ]
    allowed = limits(constraints)
    if allowed.error is None:
        allowed = replace(allowed, error=LOOSE_ERROR)
    shares = [share for _, share in shapes]
    objectives = OBJECTIVES[constraints.objective]
    left_s = constraints.solver.time_limit_s

    def answered(replaced: Replaced, earlier: Solution | None) -> Answer:
        nonlocal left_s
        groups = pose(buckets, forms, shares, rates, allowed, objectives, instead=replaced.instead)
        began = monotonic()
        solution = _solved(constraints, groups, left_s, earlier, reporter)
        left_s = max(left_s - (monotonic() - began), 0.0)
        form = _form(usable, solution)
        plain = {bucket.name: _draft(bucket, groups, solution, form) for bucket in buckets}
        drafts = {name: brought(one, rates) for name, one in plain.items()}
        return Answer(groups, solution, drafts)

    found = existing(answered, compilers, rates, reporter)
    groups, solution = found.answer.groups, found.answer.solution
    form = _form(usable, solution)
    plain = {bucket.name: _draft(bucket, groups, solution, form) for bucket in buckets}
    tuned = still_compiled(tuned_here(plain, profile, reporter), compilers, rates, reporter)
    drafts = {**found.answer.drafts, **{name: one.plan for name, one in tuned.items()}}
    prices = prices_of(drafts, compilers if found.is_compiled else None, rates)
    return Decided(groups, solution, form, rates, drafts, tuned, found, prices)


def _form(usable: Sequence[Rounding], solution: Solution) -> Rounding:
    return next(one for one in usable if one.name == solution.setting)


def runtime_bytes(cuts: Sequence[Cut], predictor: Predictor) -> int:
    """What is gone of the device before an engine holds anything: as in plans of library kernels
    where ONNX Runtime runs a part, else what the driver takes."""
    if all(segment.program is not None for found in cuts for segment in found.segments):
        return int(predictor.bare_context_bytes)
    return int(predictor.runtime_context_bytes + predictor.workspace_bytes)


def _programs(found: Cut) -> list[tuple[int, Program]]:
    return [(i, s.program) for i, s in enumerate(found.segments) if s.program is not None]


def _bucket(
    shape: str,
    number: int,
    segment: int,
    program: Program,
    formats: Sequence[Rounding],
    numbers: Mapping[tuple[str, str], Numbers],
) -> Bucket:
    name = bucket_name(shape, segment)
    own = {form.name: numbers[name, form.name] for form in formats}
    widest = own[formats[0].name]
    activations = sum(
        nest.type.size * storage_dtype(widest.storage[nest.name]).itemsize
        for nest in program.nests
        if nest.name in program.outputs
    )
    return Bucket(name, number, explore(program), own, activations)


def _overhead_us(found: Cut, rates: Rates) -> float:
    fused = sum(segment.program is not None for segment in found.segments)
    others = [segment for segment in found.segments if segment.program is None]
    return fused * rates.launch_us + sum(ort_us(segment) for segment in others)


def ort_us(segment: Segment) -> float:
    """A part that ONNX Runtime runs (estimate)."""
    return CROSSING_US + LIBRARY_OP_US * len(segment.nodes)


def _weights_size_bytes(found: Cut, form: Rounding) -> int:
    total = 0
    for _, program in _programs(found):
        storage = numbers_for(program, form.dtype).storage
        sizes = (v.size * storage_dtype(storage[n]).itemsize for n, v in program.constants.items())
        total += sum(sizes)
    return total


def _solved(
    constraints: Constraints,
    groups: Groups,
    time_limit_s: float,
    earlier: Solution | None,
    reporter: Reporter,
) -> Solution:
    """The best choice; the earlier one at its new prices where time ends before there is better."""
    from planner.solve.solve import solve

    reporter.stage("solve")
    solver = constraints.solver
    found = solve(
        groups.problem,
        time_limit_s=time_limit_s,
        gap=solver.gap,
        seed=solver.seed,
        reporter=lambda progress: (
            None
            if progress.incumbent is None
            else reporter.incumbent(progress.incumbent, progress.bound)
        ),
    )
    found = better(groups, found, earlier)
    if found.status is Status.INFEASIBLE:
        raise conflict_error(constraints, groups.problem)
    if found.status is Status.UNKNOWN:
        raise NoPlanInTimeError(
            f"no plan was found within {solver.time_limit_s:g} s",
            fix="raise solver.time_limit, or loosen a limit",
        )
    return found


def _draft(bucket: Bucket, groups: Groups, solution: Solution, form: Rounding) -> Draft:
    chosen = groups.chosen(solution.chosen, bucket.name)
    parts = [choice.parts for choice in chosen]
    return drafted(bucket.space.program, bucket.numbers[form.name], parts)


def arena_bytes(draft: Draft) -> int:
    """Bytes of a bucket's intermediates, inputs and outputs, planned by liveness."""
    made = rolled_up(draft)
    return arena_size_bytes(made.program, made.kernels, made.numbers)
