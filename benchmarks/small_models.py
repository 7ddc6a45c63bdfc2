"""Small models on a GPU: builds the suite, checks it, times it against other ways to run it.

    python benchmarks/small_models.py                  # compiles the flagship; no GPU needed
    python benchmarks/small_models.py --gpu-check      # its numbers, and hot and cold time
    python benchmarks/small_models.py --gpu-check --tune --peers all --json records.json

Records (`--json`): model, batch, peer, gpu_us (hot L2), shares_us (by share of shared memory),
gpu_cold_us, call_us (NumPy in, NumPy out), kernels, launches, bytes, max_error and nmse against
ONNX Runtime on the CPU in float32, coverage.
Needs onnx, onnxruntime, numpy and triton; with `--gpu-check` cuda-bindings; peers need torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnx

from benchmarks.small.exclusive import exclusive
from benchmarks.small.groups import ruled, solved
from benchmarks.small.suite import SUITE
from planner.errors import InfoptError
from planner.fuse import tune as tuning
from planner.fuse.build import Draft, build
from planner.fuse.live import Live
from planner.fuse.loops import saved_us
from planner.fuse.roll import rolled_up
from planner.fuse.saved import as_record, draft_of
from planner.fuse.schedule import chain
from planner.graph.build import read_graph
from planner.graph.levels import operators_in_a_row
from planner.graph.semantics import program_of
from planner.kernels.cache import KernelCache
from planner.kernels.compile import Compiled, Compilers
from planner.kernels.estimate import estimate
from planner.kernels.pack import numbers_for
from planner.kernels.source import Kernel
from planner.ops.nest import Program
from planner.runtime.fused.driver import SHARES, Driver
from planner.runtime.fused.session import FusedSession, load

Array = np.ndarray[Any, Any]
Record = dict[str, Any]
PEERS = (
    *("torch-eager", "torch-eager-replay", "torch-compile-replay", "torch-compile"),
    *("ort-cuda", "ort-cuda-graph"),
)
_LONG = ("plan", "tuning", "stages_table")
"""Parts of a record that are written, not printed."""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="conformer-chunk", help="a name, or `all`")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--batch", default="1", help="numbers separated by commas")
    parser.add_argument("--format", default="float16", choices=("float16", "float32"))
    parser.add_argument("--architecture", type=int, default=90, help="without a GPU: sm_NN")
    parser.add_argument("--gpu-check", action="store_true", help="run and time on this GPU")
    parser.add_argument(
        "--tune", action="store_true", help="measure configurations in the whole graph"
    )
    parser.add_argument("--tune-s", type=float, default=20, help="time for measuring, a model")
    parser.add_argument("--candidates", type=int, default=10, help="configurations, a stage")
    parser.add_argument("--stages", action="store_true", help="time each distinct kernel")
    parser.add_argument("--no-own", action="store_true", help="peers only")
    parser.add_argument("--compile-only", action="store_true", help="fill caches, time nothing")
    parser.add_argument("--kernels", type=Path, help="folder where compiled kernels are kept")
    parser.add_argument("--plans", type=Path, help="folder of drafts: read where there, else made")
    parser.add_argument("--peers", default="", help="`all`, or names separated by commas")
    parser.add_argument("--groups", default="solver", choices=("solver", "rules"))
    parser.add_argument("--as-written", action="store_true", help="no sums in parts, inputs kept")
    parser.add_argument("--no-loops", action="store_true", help="each step a launch of its own")
    parser.add_argument("--json", type=Path, help="write records here")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(SUITE))
        return
    records: list[Record] = []
    names = SUITE if arguments.model == "all" else arguments.model.split(",")
    for name, batch in ((n, int(b)) for n in names for b in arguments.batch.split(",")):
        for record in outcome(name, batch, arguments):
            records.append({"model": name, "batch": batch, **record})
            print(json.dumps({k: v for k, v in records[-1].items() if k not in _LONG}), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(records))


def outcome(name: str, batch: int, arguments: argparse.Namespace) -> Iterator[Record]:
    """All records of one model; what fails is said, and costs the others nothing."""
    try:
        yield from run(name, batch, arguments)
    except InfoptError as error:
        yield {"peer": "infopt", "error": error.text[:300]}


def run(name: str, batch: int, arguments: argparse.Namespace) -> Iterator[Record]:
    """All records of one model, each as soon as it is known."""
    model = SUITE[name](arguments.format, batch=batch)
    begin = time.perf_counter()
    program = program_of(model, as_written=arguments.as_written)
    if arguments.no_own:
        yield from against(model, program, arguments)
        return
    architecture = Driver().architecture if arguments.gpu_check else arguments.architecture
    compilers = Kept(Compilers(architecture, arguments.workers), architecture, arguments.kernels)
    plan = planned(f"{name}-{batch}", program, arguments, compilers)
    plan = replace(plan, loops=()) if arguments.no_loops else plan
    if arguments.compile_only:
        made = compilers(tuning.variants(plan, limit=arguments.candidates))
        yield {"peer": "infopt", "compiled": len(made), "s": time.perf_counter() - begin}
        compilers.close()
        return
    with tempfile.TemporaryDirectory(prefix="infopt-small-") as scratch:
        folder = Path(scratch)
        if not arguments.gpu_check:
            manifest = build(plan, folder, [arguments.architecture], workers=arguments.workers)
            built_s = round(time.perf_counter() - begin, 1)
            compilers.close()
            found = {"built_s": built_s, **described(plan, manifest), **levels(model, plan, folder)}
            yield {"peer": "infopt", **found}
            return
        yield from on_gpu(model, program, plan, folder, arguments, compilers)
        compilers.close()


def planned(label: str, program: Program, arguments: argparse.Namespace, compilers: Kept) -> Draft:
    """The draft kept under this label, or a new one, which is then kept."""
    if arguments.plans is None:
        return grouped(program, arguments, compilers)
    path = arguments.plans / f"{label}-{arguments.groups}.json"
    if path.exists():
        numbers = numbers_for(program, arguments.format)
        return draft_of(json.loads(path.read_text()), program, numbers)
    made = grouped(program, arguments, compilers)
    arguments.plans.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_record(made)))
    return made


class Kept:
    """Compilers beside a folder of what was compiled before; what fails is remembered too."""

    def __init__(self, compilers: Compilers, architecture: int, folder: Path | None) -> None:
        self._compilers, self._architecture = compilers, architecture
        self._cache = None if folder is None else KernelCache(folder)

    def __call__(self, kernels: Sequence[Kernel]) -> dict[str, Compiled]:
        """See `Compilers`."""
        if self._cache is None:
            return self._compilers(kernels)
        distinct = {item.name: item for item in kernels}
        known = {name: self._cache.get(name, self._architecture) for name in distinct}
        missing = [
            item
            for name, item in distinct.items()
            if known[name] is None and not self._cache.is_refused(name, self._architecture)
        ]
        fresh = self._compilers(missing)
        for item in missing:
            if item.name in fresh:
                self._cache.put(fresh[item.name])
            else:
                self._cache.refuse(item.name, self._architecture)
        both = {**known, **fresh}
        return {name: made for name, made in both.items() if made is not None}

    def close(self) -> None:
        """Ends the workers."""
        self._compilers.close()


def grouped(program: Program, arguments: argparse.Namespace, compilers: Kept) -> Draft:
    """The launches: as the solver chooses them, or by rule; of kernels that compile."""
    choose = ruled if arguments.groups == "rules" else solved
    return choose(program, arguments.format, compilers)


def levels(model: onnx.ModelProto, plan: Draft, folder: Path) -> Record:
    """What waits for each other, one after another: launches and steps of loops as they are queued,
    those that read what another one makes, and operators of the model."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return {
        "launches_in_a_row": len(plan.launches),
        "levels": max(chain(plan), default=-1) + 1,
        "operators_in_a_row": operators_in_a_row(read_graph(path, {})),
    }


def described(plan: Draft, manifest: Any) -> Record:
    """What is known without running it."""
    found = estimate(plan.program, [parts for parts, _ in plan.launches], plan.numbers)
    gained = sum(saved_us(plan, first) * (last - first + 1) for first, last in plan.loops)
    return {
        "predicted_us": round(found.predicted_us - gained, 1),
        "floor_us": round(found.floor_us, 1),
        "contractions_in_a_row": found.contractions_in_a_row,
        "launches": len(manifest.launches),
        "kernels": len({item.kernel for item in manifest.launches}),
        "stages": len(plan.stages),
        "weights_bytes": manifest.weights_size_bytes,
        "arena_bytes": sum(bucket.arena_size_bytes for bucket in manifest.buckets),
        "max_registers": max(item.registers for item in manifest.binaries),
        "spilling": [item.kernel for item in manifest.binaries if item.stack_size_bytes],
    }


# ---------------------------------------------------------------------- on the GPU
def on_gpu(
    model: onnx.ModelProto,
    program: Program,
    plan: Draft,
    folder: Path,
    arguments: argparse.Namespace,
    compilers: Kept,
) -> Iterator[Record]:
    """Builds for this GPU, checks the numbers, times, and compares."""
    driver = Driver()
    feeds = inputs_of(program)
    expected = reference_outputs(model, feeds)
    first = _measured("infopt", plan, folder / "first", feeds, expected, arguments, compilers)
    yield {**first, "groups": arguments.groups, "plan": as_record(plan)}
    if arguments.tune:
        found = tuned(plan, driver, arguments, compilers)
        where = folder / "tuned"
        record = _measured("infopt-tuned", found.plan, where, feeds, expected, arguments, compilers)
        yield {
            **record,
            "groups": arguments.groups,
            "plan": as_record(found.plan),
            "tuning": {
                "first_us": round(found.first_us, 1),
                "best_us": round(found.best_us, 1),
                "trials": found.trials,
                "waiting": len(found.waiting),
                "table": found.table,
                "chosen": {root: found.chosen[root].text for root in found.table},
            },
        }
    if arguments.peers:
        yield from against(model, program, arguments)


def against(
    model: onnx.ModelProto, program: Program, arguments: argparse.Namespace
) -> Iterator[Record]:
    """Records of the peers."""
    named = [name for name in arguments.peers.split(",") if name]
    wanted = list(PEERS) if arguments.peers == "all" else named
    feeds = inputs_of(program)
    expected = reference_outputs(model, feeds)
    from benchmarks.small import peers

    driver = Driver()
    of_torch = [name for name in wanted if name.startswith("torch")]
    if of_torch and arguments.compile_only:
        yield from peers.torch_compiled(model, feeds, of_torch)
        return
    if of_torch:
        for record in peers.torch_peers(model, feeds, of_torch, driver):
            yield _with_errors(record, expected)
    for name in wanted:
        if name.startswith("ort"):
            yield _with_errors(peers.ort_cuda(model, feeds, name, driver), expected)


def inputs_of(program: Program) -> dict[str, Array]:
    """Random inputs, in the model's own types."""
    random = np.random.default_rng(1)
    made: dict[str, Array] = {}
    for name in program.inputs:
        type_ = program.types[name]
        if type_.is_float:
            made[name] = random.standard_normal(type_.shape).astype(type_.dtype)
        else:
            made[name] = random.integers(0, 2, type_.shape).astype(type_.dtype)
    return made


def reference_outputs(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What the model computes in float32 on the CPU, from the same (rounded) weights."""
    import onnxruntime as ort

    wide = widened(model)
    session = ort.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in feeds.items()
    }
    return list(session.run(None, given))


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every float16 tensor as float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for position, item in enumerate(wide.graph.initializer):
        if item.data_type == half:
            value = onnx.numpy_helper.to_array(item).astype(np.float32)
            moved = onnx.numpy_helper.from_array(value, item.name)
            wide.graph.initializer[position].CopyFrom(moved)
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    del wide.graph.value_info[:]
    return wide


def errors(made: list[Array], expected: list[Array]) -> Record:
    """Largest absolute error, and the largest normalised mean square error of any output."""
    worst, nmse = 0.0, 0.0
    for a, b in zip(made, expected, strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        worst = max(worst, float(np.abs(a - b).max()))
        nmse = max(nmse, float(((a - b) ** 2).sum() / max((b**2).sum(), 1e-30)))
    return {"max_error": worst, "nmse": nmse}


def _with_errors(record: Record, expected: list[Array]) -> Record:
    made = record.pop("outputs", None)
    return record if made is None else {**record, **errors(made, expected)}


def _measured(
    peer: str,
    plan: Draft,
    folder: Path,
    feeds: Mapping[str, Array],
    expected: list[Array],
    arguments: argparse.Namespace,
    compilers: Kept,
) -> Record:
    """One build of ours: numbers first (with a poisoned arena), then times."""
    from benchmarks.small.stages import stage_table
    from benchmarks.small.timing import Timer, call_us

    begin = time.perf_counter()
    architecture = Driver().architecture
    compiled = compilers([*plan.kernels, *rolled_up(plan).kernels])
    found = {(name, architecture): one for name, one in compiled.items()}
    manifest = build(plan, folder, [architecture], workers=1, compiled=found)
    built_s = time.perf_counter() - begin
    with exclusive(), load(folder) as session:
        session.first.poison()
        made = session.run(feeds)
        again = session.run(feeds)
        same = all(np.array_equal(made[name], again[name], equal_nan=True) for name in made)
        listed = [made[slot.name] for slot in session.first.bucket.outputs]
        timer = Timer(session.driver, session.driver.stream)
        plain = session.driver.capture(lambda: session.first.queue(ahead=False))
        table = {"stages_table": stage_table(session.first)} if arguments.stages else {}
        return {
            "peer": peer,
            **table,
            **errors(listed, expected),
            "repeatable": same,
            "gpu_us": timer.device_us(session.first.replay, cold=False),
            "gpu_cold_us": timer.device_us(session.first.replay, cold=True),
            "gpu_without_dependent_launch_us": timer.device_us(
                lambda: session.driver.replay(plain), cold=False
            ),
            "call_us": call_us(lambda: session.run(feeds)),
            "host_us": _host_us(session),
            "shares_us": _shares_us(folder),
            "built_s": round(built_s, 1),
            **described(plan, manifest),
        }


def _shares_us(folder: Path) -> dict[str, float]:
    """Replays by how much shared memory all kernels ask for (`planner.steps.fused.shares`)."""
    from benchmarks.small.timing import Timer

    found: dict[str, float] = {}
    for percent in SHARES:
        with load(folder, shared_percent=percent) as session:
            timer = Timer(session.driver, session.driver.stream)
            found[str(percent)] = timer.device_us(session.first.replay, cold=False)
    return found


def _host_us(session: FusedSession) -> float:
    """Host time to queue one replay."""
    session.driver.synchronize()
    begin = time.perf_counter_ns()
    for _ in range(50):
        session.first.replay()
    taken = (time.perf_counter_ns() - begin) / 50e3
    session.driver.synchronize()
    return round(taken, 2)


# ---------------------------------------------------------------------- tuning
class SharedLive(Live):
    """A draft on a device that other processes measure on too: one at a time."""

    def graph_us(self, kernels: Any, waiting: frozenset[str] = frozenset()) -> float:
        """See `Live`."""
        with exclusive():
            return super().graph_us(kernels, waiting)


def tuned(
    plan: Draft, driver: Driver, arguments: argparse.Namespace, compilers: Kept
) -> tuning.Tuned:
    """The draft tuned on this GPU, and what was measured on the way."""
    compilers(tuning.variants(plan, limit=arguments.candidates))
    live = SharedLive(driver, plan)
    try:
        return tuning.tune(
            plan, live, compilers, budget_s=arguments.tune_s, limit=arguments.candidates
        )
    finally:
        live.close()


if __name__ == "__main__":
    main()
