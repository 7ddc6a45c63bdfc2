"""Goldens, and latency measured in a process of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.emit.engine import write_engine
from planner.emit.golden import Golden
from planner.errors import VerificationError
from planner.runtime import load
from planner.runtime.measure import Latency, main, measure
from planner.runtime.verify import verify_outputs
from tests.runtime import build


def _engine(folder: Path, golden: Golden) -> Path:
    item = build.part(build.save(build.affine("x", "y", seed=1), folder / "source"))
    plain = build.blueprint([item], {"x": build.rows()})
    write_engine(folder / "engine", replace(plain, goldens=(golden,)))
    return folder / "engine"


def _golden(folder: Path) -> Golden:
    item = build.part(build.save(build.affine("x", "y", seed=1), folder / "any"))
    return build.blueprint([item], {"x": build.rows()}).goldens[0]


def test_an_engine_keeps_its_own_goldens(chain: Path) -> None:
    checks = verify_outputs(load(chain))
    assert [check.name for check in checks] == [
        "golden/default.outputs.npz: y",
        "golden/default.reference.npz: y",
    ]
    assert all(check.is_kept and check.value == 0 for check in checks)


def test_answers_that_drifted_are_told_with_their_error(tmp_path: Path) -> None:
    golden = _golden(tmp_path)
    drifted = {"y": golden.outputs["y"] * np.float32(1.1)}
    engine = _engine(tmp_path, replace(golden, reference=drifted, max_reference_nmse=1e-3))
    own, reference = verify_outputs(load(engine))
    assert own.is_kept
    assert not reference.is_kept
    assert reference.value == pytest.approx((0.1 / 1.1) ** 2, rel=1e-3)
    assert "limit 0.001" in reference.detail


def test_random_outputs_are_left_out(tmp_path: Path) -> None:
    golden = replace(_golden(tmp_path), skipped=("y",))
    assert verify_outputs(load(_engine(tmp_path, golden))) == []


def test_no_error_budget_means_no_comparison_with_the_model(tmp_path: Path) -> None:
    golden = replace(_golden(tmp_path), max_reference_nmse=None)
    (check,) = verify_outputs(load(_engine(tmp_path, golden)))
    assert check.name.startswith("golden/default.outputs.npz")


def test_a_golden_that_lacks_an_output_is_no_proof(tmp_path: Path) -> None:
    golden = replace(_golden(tmp_path), outputs={})
    own, _ = verify_outputs(load(_engine(tmp_path, golden)))
    assert (own.is_kept, own.value) == (False, math.inf)
    assert own.detail.endswith("lacks y")


def test_inputs_the_engine_refuses_are_a_broken_check(tmp_path: Path) -> None:
    golden = replace(_golden(tmp_path), inputs={"x": build.rows(2, width=3)})
    (check,) = verify_outputs(load(_engine(tmp_path, golden)))
    assert not check.is_kept
    assert "'x'" in check.detail


def test_latency_comes_from_another_process(tiny: Path) -> None:
    latency = measure(tiny, {"x": build.rows()}, seconds=0.05, max_runs=200)
    assert 30 <= latency.count <= 200
    assert 0 < latency.p50_us <= latency.p95_us <= latency.p99_us
    again = measure(tiny, tiny / "golden/default.inputs.npz", seconds=0.01)
    assert again.count >= 30


def test_percentiles() -> None:
    latency = Latency(tuple(float(value) for value in range(1, 102)))
    assert (latency.p50_us, latency.p95_us, latency.p99_us) == (51.0, 96.0, 100.0)


def test_a_measurement_that_fails_says_why(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="unknown 'z'"):
        measure(tiny, {"z": build.rows()}, seconds=0.01)
    with pytest.raises(VerificationError, match="not an engine directory"):
        measure(tmp_path, {"x": build.rows()}, seconds=0.01)


def test_the_process_prints_samples_or_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = str(tiny / "golden/default.inputs.npz")
    assert main([str(tiny), inputs, "--seconds", "0.01", "--max-runs", "40"]) == 0
    assert capsys.readouterr().out.startswith("[")
    assert main([str(tmp_path), inputs]) == 4
    assert capsys.readouterr().err.count("\n") == 1
