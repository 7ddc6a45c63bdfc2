"""`infopt profile`: measured in miniature, written as a profile that reads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import pipeline
from planner.profiling.probes import GEMM_FORMATS
from planner.progress import Silent
from planner.report.devices import details
from planner.runtime.caches import cache_sizes
from planner.runtime.fingerprint import Cpu
from planner.spec.profile import read_profile, write_profile
from planner.steps import ceilings


class Listener(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.notes: list[str] = []

    def progress(self, done: int, total: int, label: str) -> None:
        assert label
        self.steps.append((done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)


def _cpu(model: str = "Some(R) CPU @ 2.0GHz", cores: int = 2, flags: tuple[str, ...] = ()) -> Cpu:
    return Cpu(model, "a/b/c", cores, cores, flags)


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "GEMM_SHAPES", ((1, 64, 64), (4, 64, 64)))
    monkeypatch.setattr(ceilings, "_GROUP_S", 0.02)
    monkeypatch.setattr(ceilings, "_WAKE_ROUNDS", 3)
    monkeypatch.setattr(ceilings, "_LISTEN_S", 0.05)
    monkeypatch.setattr(ceilings, "_LARGEST_BUFFER_BYTES", 2**20)
    monkeypatch.setattr(ceilings, "cache_sizes", dict)
    monkeypatch.setattr(ceilings, "read_cpu", _cpu)


@pytest.mark.usefixtures("miniature")
def test_a_measured_profile_reads_back_and_shows(tmp_path: Path) -> None:
    listener = Listener()
    found = pipeline.profile_device(reporter=listener)
    path = tmp_path / "here.yaml"
    write_profile(path, found)
    assert read_profile(path) == found
    assert found.name == "some-cpu-2.0ghz-2-cores"
    assert found.kind == "cpu"
    assert tuple(found.peak) == GEMM_FORMATS
    for form, rate in found.peak.items():
        alike = [q for name, q in found.ceilings.items() if name.startswith(f"gemm {form} ")]
        assert len(alike) == 4  # two shapes with one and two threads
        assert rate.value == max(quantity.value for quantity in alike)
    assert found.memory_bandwidth.value > 0
    assert found.launch is not None
    assert found.barrier == found.ceilings["wake-up spinning, 2 threads"]
    assert "wake-up sleeping, 2 threads" in found.ceilings
    for quantity in found.ceilings.values():
        assert quantity.source.startswith("measured")
        assert quantity.measured_on is not None
        assert quantity.low is not None
        assert quantity.high is not None
        assert quantity.low <= quantity.value <= quantity.high
    assert details(found)
    done = [step for step, _ in listener.steps]
    total = {total for _, total in listener.steps}
    assert done == sorted(done)
    assert total == {done[-1]}


@pytest.mark.parametrize(
    ("busy", "source"), [(3.0, "measured"), (60.0, "measured while others used 60 % of")]
)
def test_a_busy_machine_is_named(
    busy: float, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.profiling.store import Store
    from planner.steps.workspace import workspace

    monkeypatch.setattr("psutil.cpu_percent", lambda interval: busy)
    listener = Listener()
    with workspace(listener, Store(tmp_path / "s.sqlite")) as work:
        assert ceilings._source(work).startswith(source)
        work.store.close()
    assert bool(listener.notes) == (busy > 50)


def test_caches_are_read_from_the_system(tmp_path: Path) -> None:
    entries = [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M")]
    for index, (kind, level, size) in enumerate(entries):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "type").write_text(f"{kind}\n")
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(f"{size}\n")
    (tmp_path / "index9").mkdir()
    assert cache_sizes(tmp_path) == {1: 48 * 2**10, 2: 2 * 2**20}
    assert cache_sizes(tmp_path / "absent") == {}


def test_buffers_lie_where_they_should() -> None:
    known = {2: 2 * 2**20, 3: 32 * 2**20}
    found = ceilings._buffers(known, available_bytes=2**34)
    assert found == {"L2": 2**20, "L3": 8 * 2**20, "memory": 64 * 2**20}
    assert ceilings._buffers({2: 2**20}, 2**34)["memory"] == 64 * 2**20
    assert ceilings._buffers(known, available_bytes=2**27)["memory"] == 2**24
    assert set(ceilings._buffers({2: 2**20, 3: 2**20}, 2**34)) == {"L2", "memory"}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Intel(R) Xeon(R) Processor", "intel-xeon-processor-2-cores"),
        ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654-96-core-processor-2-cores"),
        ("Cortex_A76 (rev. 1)", "cortex-a76-rev.-1-2-cores"),
        ("龍芯", "2-cores"),
    ],
)
def test_names_are_file_names(model: str, name: str) -> None:
    assert ceilings._name(_cpu(model)) == name


def test_the_architecture_is_the_highest_level_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    v3 = ("avx2", "fma", "f16c")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert ceilings._architecture(_cpu()) == "x86-64"
    assert ceilings._architecture(_cpu(flags=v3)) == "x86-64-v3"
    flags = (*v3, "avx512f", "avx512bw", "avx512vl")
    assert ceilings._architecture(_cpu(flags=flags)) == "x86-64-v4"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert ceilings._architecture(_cpu()) == "aarch64"
