"""A small plan as planning would make it, for everything that reads plans."""

from __future__ import annotations

from typing import Any

from planner.spec.conflict import ConflictingLimit, ConflictReport
from planner.spec.plan import (
    AccuracyReport,
    Decision,
    Environment,
    Estimate,
    GuardReport,
    ModelRef,
    Plan,
    Prediction,
    Promise,
    Rejected,
    RunnerUp,
    ShapeTiming,
    SolverReport,
    Timing,
    WorkloadShape,
)
from planner.spec.session import SessionSettings


def estimate(expected: float, spread: float = 0.05) -> Estimate:
    """A measured number with a symmetric interval."""
    return Estimate(
        low=expected * (1 - spread),
        expected=expected,
        high=expected * (1 + spread),
        source="measured",
    )


def timing(name: str, p50_us: float, plain_us: float = 400.0, **changes: Any) -> Timing:
    """A variant as the guard times it; p99 is 30 % above p50."""
    ratio = plain_us / p50_us
    values = {
        "name": name,
        "p50_us": p50_us,
        "p99_us": p50_us * 1.3,
        "slo_us": p50_us * 1.3,
        "ratio": ratio,
        "ratio_low": ratio * 0.98,
        "ratio_high": ratio * 1.02,
        "runs": 1000,
        "memory_size_bytes": 90 * 2**20,
        "shapes": {"default": shape_timing(p50_us, plain_us)},
    }
    return Timing(**{**values, **changes})


def shape_timing(p50_us: float, plain_us: float) -> ShapeTiming:
    """The same on one workload shape."""
    tail_us = p50_us * 1.3
    return ShapeTiming(p50_us=p50_us, p99_us=tail_us, slo_us=tail_us, ratio=plain_us / p50_us)


DECISIONS = (
    Decision(
        op="encoder/MatMul",
        op_type="MatMul",
        group="encoder/MatMul:int8_dynamic",
        format="int8_dynamic",
        predicted_us=150.0,
        error=3e-4,
        reason="3.1x faster than fp32 here, within the error budget",
        runner_up=RunnerUp(
            format="int8_wo", delta_us=42.0, delta_error=-1e-4, reason="slower by 42 us"
        ),
    ),
    Decision(
        op="encoder/Relu",
        op_type="Relu",
        group="encoder/Relu:fp32",
        format="fp32",
        predicted_us=20.0,
        error=0.0,
        reason="no other format exists for Relu",
    ),
    Decision(
        op="head/MatMul",
        op_type="MatMul",
        group="head/MatMul:fp32",
        format="fp32",
        predicted_us=80.0,
        error=0.0,
        reason="int8 would break the error budget",
        runner_up=RunnerUp(
            format="int8_dynamic", delta_us=None, delta_error=9e-3, reason="breaks the error budget"
        ),
    ),
)


def make_plan(**changes: Any) -> Plan:
    """The plan, with fields replaced by `changes`."""
    values: dict[str, Any] = {
        "model": ModelRef(
            path="model.onnx", sha256="ab" * 32, size_bytes=5_000_000, ops=3, parameters=1_200_000
        ),
        "environment": Environment(
            infopt="0.1.0",
            onnxruntime="1.31.1",
            device="Example CPU, 2 cores, avx2",
            device_digest="cd" * 32,
            platform="linux-x86_64",
        ),
        "workload": (WorkloadShape(shapes={"x": (1, 64)}),),
        "promise": Promise(latency_us=20_000.0, max_error=1e-3),
        "shipped": "plan",
        "settings": SessionSettings(intra_op_threads=2),
        "simplified": True,
        "formats": {"encoder/MatMul": "int8_dynamic"},
        "decisions": DECISIONS,
        "solver": SolverReport(
            status="optimal",
            solver="CP-SAT",
            objectives=("latency", "error"),
            objective=(250.0, 3e-4),
            bound=(250.0, 3e-4),
            gap=0.0,
            seed=0,
            hit_time_limit=False,
            options=9,
            settings=4,
            rounds=1,
            binding=("accuracy.max_error",),
        ),
        "prediction": Prediction(
            latency_p50_us={"default": estimate(250.0)},
            latency_slo_us={"default": estimate(325.0)},
            memory_size_bytes=estimate(6_000_000),
            error=estimate(3e-4),
        ),
        "accuracy": AccuracyReport(
            calibrated=True, samples=64, predicted_error=3e-4, measured_error=2.8e-4, verdict="kept"
        ),
        "guard": GuardReport(
            shipped="plan",
            threshold=1.02,
            control_low=0.995,
            control_high=1.006,
            timings=(timing("plan", 255.0), timing("int8_dynamic", 300.0), timing("plain", 400.0)),
            reason="fastest within the limits",
        ),
        "rejected": (
            Rejected(op="encoder/Relu", format="int8_dynamic", reason="only MatMul and Gemm"),
        ),
        "warnings": (),
    }
    return Plan(**{**values, **changes})


def make_conflict(**changes: Any) -> ConflictReport:
    """A latency and an error budget that cannot hold together, and too little memory."""
    latency = ConflictingLimit(key="slo.latency.p99", value=100.0, nearest=250.0, unit="us")
    error = ConflictingLimit(key="accuracy.max_error", value=1e-3, nearest=4e-3, unit="NMSE")
    memory = ConflictingLimit(
        key="target.memory", value=2**20, nearest=3 * 2**20, unit="bytes", conflict=2
    )
    values: dict[str, Any] = {
        "model": "model.onnx",
        "feasible": False,
        "limits": (latency, error, memory),
        "fastest_us": None,
        "latency_percentile": 99.0,
        "reason": "no plan keeps slo.latency.p99 100 us and accuracy.max_error 0.001 together, "
        "nor target.memory 1 MiB",
    }
    return ConflictReport(**{**values, **changes})
