"""What makes two machines comparable, read without loading any runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from planner.runtime import fingerprint
from planner.runtime.fingerprint import cgroup_quota, fingerprint_differences, this_environment

ROOT = Path(__file__).resolve().parents[2]
_INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R)  Xeon(R) Platinum
stepping\t: 8
flags\t\t: fpu sse4_1 avx2 fma avx512f avx512_vnni amx_int8

processor\t: 1
model name\t: another
"""


def test_the_digest_is_stable_and_knows_onnx_runtime() -> None:
    here = this_environment()
    assert here == this_environment()
    assert len(here.device_digest) == 64
    assert here.onnxruntime == onnxruntime.__version__
    assert here.platform.startswith(("Linux", "Darwin", "Windows"))


def test_cpuinfo_is_read_from_the_first_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(_INTEL)
    fields = fingerprint._cpuinfo(tmp_path / "cpuinfo")
    assert fields["model name"] == "Intel(R)  Xeon(R) Platinum"
    assert fields["model"] == "143"
    assert fingerprint._cpuinfo(tmp_path / "absent") == {}


def test_a_different_property_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_environment()
    cpu = fingerprint.read_cpu()
    fewer = fingerprint.Cpu(cpu.model, cpu.identity, cpu.physical_cores, 999, cpu.flags)
    monkeypatch.setattr(fingerprint, "read_cpu", lambda: fewer)
    there = this_environment()
    assert there.device_digest != here.device_digest
    (difference,) = fingerprint_differences(here, there)
    assert difference.field == "device"
    assert "999 cores" in difference.text


def test_hidden_differences_are_still_told() -> None:
    here = this_environment()
    there = here.model_copy(update={"device_digest": "f" * 64})
    (difference,) = fingerprint_differences(there, here)
    assert (difference.field, difference.engine) == ("device_digest", "f" * 12)
    assert fingerprint_differences(here, here.model_copy(update={"infopt": "9"})) == ()


def _group(root: Path, line: str, files: dict[str, str]) -> float | None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "membership").write_text(line)
    return cgroup_quota(root / "membership", root)


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/gone\n", {}, None),
        ("0::/a\n", {"a/cpu.max": "garbage"}, None),
        (
            "4:cpu,cpuacct:/c\n3:memory:/m\n",
            {"cpu/c/cpu.cfs_quota_us": "50000", "cpu/c/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "4:cpu:/c\n",
            {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"},
            None,
        ),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, line: str, files: dict[str, str], expected: float | None
) -> None:
    assert _group(tmp_path, line, files) == expected


def test_a_quota_limits_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "cgroup_quota", lambda *_: 0.3)
    assert fingerprint.usable_cores() == 1
    monkeypatch.setattr(fingerprint, "cgroup_quota", lambda *_: 10_000.0)
    assert fingerprint.usable_cores() < 10_000


def _loaded(statement: str, *names: str) -> list[str]:
    program = f"import sys; {statement}; print([n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    found = done.stdout.strip().strip("[]")
    return [name.strip("' ") for name in found.split(",") if name]


@pytest.mark.parametrize(
    "module",
    [
        "planner.runtime",
        "planner.runtime.engine",
        "planner.runtime.verify",
        "planner.runtime.measure",
    ],
)
def test_a_target_machine_needs_no_solver_and_no_onnx(module: str) -> None:
    heavy = ("ortools", "onnx", "networkx", "click", "scipy", "rich")
    assert _loaded(f"import {module}", *heavy) == []


def test_names_are_resolved_without_onnx_either() -> None:
    assert _loaded("from planner.runtime import Session, load", "onnx", "ortools") == []
    assert _loaded("import planner.runtime.fingerprint", "onnxruntime", "onnx", "numpy") == []
