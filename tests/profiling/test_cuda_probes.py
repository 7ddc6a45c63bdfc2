"""What of measuring a GPU can be checked without one: sampling, probe models, profiles read."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from planner import pipeline
from planner.errors import EnvironmentMismatchError
from planner.profiling.cuda import library
from planner.profiling.cuda.sampling import Sampler, widened
from planner.profiling.cuda.utilisation import Utilisation, read_events
from planner.profiling.timing import Interval
from planner.runtime.fused.lab import Facts
from planner.steps.gpu_ceilings import device_name


def sampler(*pace_us: float) -> Sampler:
    """One whose reference takes these times in turn."""
    times = cycle(pace_us)
    return Sampler(lambda: next(times), lambda: None)


def test_rates_are_medians_with_their_interval() -> None:
    times = cycle([9.0, 10.0, 11.0])
    (found,) = sampler(1.0).rate("copy", 100.0, "bytes/s", lambda: next(times))
    assert found.value.median == pytest.approx(100.0 / 10.0 * 1e6)
    assert found.value.low <= found.value.median <= found.value.high


def test_a_probe_that_cannot_run_is_left_out_with_its_reason() -> None:
    def refuse() -> float:
        raise EnvironmentMismatchError("no such kernel")

    own = sampler(1.0)
    assert list(own.rate("gemm fp8", 1.0, "flop/s", refuse)) == []
    assert list(own.duration("barrier", refuse)) == []
    assert own.left_out == {"gemm fp8": "no such kernel", "barrier": "no such kernel"}


def test_a_device_that_changes_its_pace_widens_every_interval() -> None:
    steady, shared = sampler(100.0, 101.0), sampler(100.0, 150.0)
    for own in (steady, shared):
        for _ in range(20):
            own.time_us(lambda: 5.0)
    assert steady.unsteadiness == 1.0
    assert shared.unsteadiness == pytest.approx(1.5)
    wide = widened(Interval(10.0, 9.0, 11.0), 1.5)
    assert (wide.median, wide.low, wide.high) == (10.0, 6.0, 16.5)


@pytest.mark.parametrize("kind", sorted(library._STREAMED.values()))
def test_probe_models_of_traffic_run(kind: str) -> None:
    chain, passes = library._streamed(kind, 4)
    assert 1 <= passes <= 3
    assert np.all(np.isfinite(run(chain).astype(np.float32)))


@pytest.mark.parametrize("form", ["fp32", "fp16"])
def test_chains_of_products_keep_their_size(form: str) -> None:
    """Values neither vanish nor overflow along the chain: both change what is timed."""
    chain = library._products(form, 4, 1024)
    spread = float(np.std(run(chain).astype(np.float32)))
    assert 0.3 < spread < 3.0
    assert chain.links >= 2


def run(chain: library.Chain) -> np.ndarray[Any, Any]:
    """The chain on the CPU, on noise."""
    rng = np.random.default_rng(0)
    feeds = {
        name: (rng.standard_normal(shape) * scale).astype(library._NUMPY[form])
        for name, (form, shape, scale) in chain.inputs.items()
    }
    form = next(iter(chain.inputs.values()))[0]
    given = [
        helper.make_tensor_value_info(name, library._ONNX[kind], shape)
        for name, (kind, shape, _) in chain.inputs.items()
    ]
    made = [helper.make_tensor_value_info(chain.output, library._ONNX[form], None)]
    graph = helper.make_graph(chain.nodes, "probe", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session: Any = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray[Any, Any] = session.run(None, feeds)[0]
    return found


def test_a_profile_says_how_busy_the_device_is_and_what_the_cpu_ran() -> None:
    def kernel(name: str, us: float) -> dict[str, Any]:
        return {"cat": "Kernel", "name": "k", "dur": us, "args": {"op_name": name}}

    def node(name: str, kind: str, provider: str) -> dict[str, Any]:
        arguments = {"op_name": kind, "provider": provider}
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": 1, "args": arguments}

    events = [kernel("MatMul", 30.0)] * 2 + [kernel("MatMul", 10.0)] * 2
    events += [node("m", "MatMul", "CUDAExecutionProvider")]
    events += [node("odd", "NonZero", "CPUExecutionProvider")] * 4
    by_operator, on_cpu = read_events(events, "CUDAExecutionProvider", 4)
    assert by_operator == {"MatMul": 10.0}
    assert on_cpu == ("odd (NonZero)",)
    assert Utilisation(40.0, 10.0, by_operator, on_cpu).busy == 0.25
    assert Utilisation(40.0, None, {}, ()).busy is None
    assert Utilisation(40.0, None, {}, ()).text is None
    queued = Utilisation(40.0, 10.0, {}, (), gaps_counted=True)
    assert str(queued.text).startswith("computes at most 25 % of a call of 40 us")


def test_names_never_hide_a_shipped_profile() -> None:
    facts = Facts("NVIDIA H200", "sm_90", 132, 1, 1, 1, 1.0, "13.0", 1)
    assert device_name(facts) == "nvidia-h200-measured"
    assert math.isclose(facts.clock_hz, 1.0)


def test_no_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise EnvironmentMismatchError("no usable NVIDIA GPU")

    monkeypatch.setattr("planner.steps.gpu_ceilings.Lab", absent)
    with pytest.raises(EnvironmentMismatchError, match="no usable NVIDIA GPU") as found:
        pipeline.profile_device(device="cuda")
    assert found.value.exit_code == 5
