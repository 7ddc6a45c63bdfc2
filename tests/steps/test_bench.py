"""Kernels are timed whatever order ONNX Runtime puts them in, and whatever they do to a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from planner.errors import ModelError
from planner.profiling.client import AnalysedModel, MeasuringProcess, WorkerDied
from planner.profiling.kernel import Kernel
from planner.profiling.store import KernelTime, Store
from planner.progress import Silent
from planner.runtime.fingerprint import this_environment
from planner.steps import processes
from planner.steps.analysis import Executable
from planner.steps.bench import Bench
from planner.steps.workspace import Workspace
from tests.profiling.build import perceptron, save


def kernel(signature: str) -> Kernel:
    return Kernel(f"{signature}_node", signature, "", ("x",), (), ("y",), signature, 0, 4)


def latency_us(signature: str) -> float:
    """Tells in the store which kernel was timed."""
    return float(sum(map(ord, signature)))


@dataclass
class Scripted:
    """A measuring process that optimises into other orders each time, and dies where told."""

    orders: list[list[str]]
    deadly: set[str] = field(default_factory=set)
    """Signatures that end the process when they run alone,"""
    hopeless: set[str] = field(default_factory=set)
    """and those that end it in any case."""
    restarts: int = 0
    probes_us: list[float] = field(default_factory=list)
    """The reference probe beside each kernel, one after the other; then 1."""
    meanwhile: dict[int, Callable[[], None]] = field(default_factory=dict)
    """Number of a request to measure, from 1 -> what happens elsewhere at that time."""
    calls: int = 0
    _kernels: dict[int, tuple[Kernel, ...]] = field(default_factory=dict)

    def analyse(self, model_path: Path, level: str, feeds_path: Path) -> AnalysedModel:
        number = len(self._kernels)
        order = self.orders[min(number, len(self.orders) - 1)]
        self._kernels[number] = tuple(kernel(signature) for signature in order)
        return AnalysedModel(number, self._kernels[number], {}, frozenset())

    def measure(
        self,
        analysed: AnalysedModel,
        requests: Sequence[tuple[int, str, int]],
        *,
        budget_s: float,
        alone: bool = True,
    ) -> Iterator[tuple[str, KernelTime]]:
        self.calls += 1
        self.meanwhile.get(self.calls, lambda: None)()
        for index, key, _ in requests:
            signature = self._kernels[analysed.number][index].signature
            if signature in self.hopeless or (alone and signature in self.deadly):
                raise WorkerDied
            probe_us = self.probes_us.pop(0) if self.probes_us else 1.0
            value = latency_us(signature) * probe_us
            yield key, KernelTime(value, value, value, probe_us, 5, in_context=not alone)

    def restart(self) -> None:
        self.restarts += 1

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class Timed:
    """A bench over a scripted process, and one model on it."""

    bench: Bench
    executable: Executable

    def measured(self) -> dict[str, KernelTime]:
        """Signature -> what the store holds after measuring."""
        self.bench.measure([self.executable], 1)
        keys = self.bench.keys(self.executable, 1)
        kernels = self.bench.analysis(self.executable).kernels
        store = self.bench.work.store
        found = {k.signature: store.kernel(key) for k, key in zip(kernels, keys, strict=True)}
        return {signature: time for signature, time in found.items() if time is not None}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.sqlite")
    yield made
    made.close()


def timed(process: Scripted, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Timed:
    monkeypatch.setattr(processes, "MeasuringProcess", lambda threads, scratch: process)
    work = Workspace(store, folder / "kept", folder, Silent())
    executable = Executable("key", "all", folder / "feeds.npz", "feeds", lambda: folder)
    return Timed(Bench(work, this_environment()), executable)


def test_a_kernel_is_found_again_wherever_it_stands(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Scripted([["Conv", "Relu", "Gemm"], ["Gemm", "Conv", "Relu"]])
    found = timed(process, store, tmp_path, monkeypatch)
    found.bench.analysis(found.executable)
    found.bench.rest()  # the live analysis is gone, the stored one is not
    times = found.measured()
    assert {name: time.latency_us for name, time in times.items()} == {
        name: latency_us(name) for name in ("Conv", "Relu", "Gemm")
    }


def test_a_kernel_that_is_gone_the_second_time_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Scripted([["Conv", "Relu"], ["FusedConv"]])
    found = timed(process, store, tmp_path, monkeypatch)
    found.bench.analysis(found.executable)
    found.bench.rest()
    with pytest.raises(ModelError, match="optimised the model differently") as refused:
        found.measured()
    assert refused.value.where == "Conv_node"


def test_a_kernel_that_crashes_alone_is_timed_among_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [["Conv", "Loop", "Gemm"], ["Gemm", "Loop", "Conv"], ["Loop", "Conv", "Gemm"]]
    process = Scripted(orders, deadly={"Loop"})
    times = timed(process, store, tmp_path, monkeypatch).measured()
    assert {name: time.in_context for name, time in times.items()} == {
        "Conv": False,
        "Loop": True,
        "Gemm": False,
    }
    assert all(time.latency_us == latency_us(name) for name, time in times.items())
    assert process.restarts == 2  # once for the batch, once for the kernel alone


def test_a_kernel_that_crashes_in_any_case_is_named_and_the_rest_is_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Scripted([["Conv", "Loop", "Gemm"]], hopeless={"Loop"})
    found = timed(process, store, tmp_path, monkeypatch)
    with pytest.raises(ModelError, match="Loop takes ONNX Runtime down") as refused:
        found.measured()
    assert refused.value.where == "Loop_node"
    assert store.counts()["kernel"] == 1


def test_the_measuring_process_times_any_kernel_in_its_graph(tmp_path: Path) -> None:
    model_path, feeds_path = save(tmp_path, *perceptron())
    with MeasuringProcess(1) as process:
        found = process.analyse(model_path, "all", feeds_path)
        requests = [(0, "first", 20), (1, "second", 20)]
        times = dict(process.measure(found, requests, budget_s=0.1, alone=False))
    assert set(times) == {"first", "second"}
    assert all(time.in_context and time.latency_us > 0 for time in times.values())


def test_what_a_slow_machine_was_timed_for_is_looked_at_once_more(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemm fares no better the second time, and is left at that; Relu was timed well enough."""
    process = Scripted([["Conv", "Relu", "Gemm"]], probes_us=[2.0, 1.2, 2.1, 1.0, 2.2])
    found = timed(process, store, tmp_path, monkeypatch)
    probes_us = {name: time.reference_us for name, time in found.measured().items()}
    assert probes_us == {"Conv": 1.0, "Relu": 1.2, "Gemm": 2.1}
    found.bench.measure([found.executable], 1)
    assert {name: time.reference_us for name, time in found.measured().items()} == probes_us


def test_what_comes_later_is_held_against_what_came_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Scripted([["Conv"], ["Gemm"]], probes_us=[1.0, 2.0])
    found = timed(process, store, tmp_path, monkeypatch)
    found.measured()
    second = replace(found.executable, key="another")
    found.bench.measure([second], 1)
    (key,) = found.bench.keys(second, 1)
    assert store.kernel(key).reference_us == 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize(("call", "calls"), [(1, 1), (2, 2)])
def test_a_second_look_leaves_what_another_planner_saw_of_a_faster_machine(
    call: int, calls: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It puts its time there before the second look, which is not needed then, or during it."""
    process = Scripted([["Conv", "Relu"]], probes_us=[2.0, 1.0, 1.3])
    found = timed(process, store, tmp_path, monkeypatch)
    other, key = KernelTime(5.0, 5.0, 5.0, 1.1, 5), found.bench.keys(found.executable, 1)[0]
    process.meanwhile[call] = lambda: store.put("kernel", {key: other})
    assert found.measured()["Conv"] == other
    assert process.calls == calls


def test_what_runs_only_among_the_others_is_looked_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look would end the process again, and the kernels after it one by one."""
    process = Scripted([["Loop", "Gemm"]], deadly={"Loop"}, probes_us=[2.0, 1.0])
    times = timed(process, store, tmp_path, monkeypatch).measured()
    assert {name: time.reference_us for name, time in times.items()} == {"Loop": 2.0, "Gemm": 1.0}
    assert process.restarts == 2
