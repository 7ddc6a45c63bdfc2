"""Operators of a layer as rows time them: which kernels they are, and how many."""

from __future__ import annotations

import pytest

from benchmarks.tables.observations import Timed, timed
from benchmarks.tables.rows import Row
from planner.cost.work import Flow, Traffic

LLAMA = "n_head=32 n_kv_head=32 n_embd=4096 ffn=11008 gated=True"
PHI = "n_head=32 n_kv_head=32 n_embd=2560 ffn=10240 gated=False"


def observed(model: str, params: str) -> Timed:
    cells = dict.fromkeys(Row.__dataclass_fields__, "")
    cells |= {"model": model, "params": params, "gpu": "A100", "precision": "fp16", "batch": "8"}
    found = timed(Row(**(cells | {"metric": "us", "value": "6"})))
    assert isinstance(found, Timed)
    return found


@pytest.mark.parametrize(
    ("model", "params", "flow"),
    [
        ("meta-llama/Llama-2-7b-hf:input_layernorm", LLAMA, Flow.RMS_NORMALISATION),
        ("microsoft/phi-2:input_layernorm", PHI, Flow.NORMALISATION),
        ("meta-llama/Llama-2-7b-hf:mlp_act", LLAMA, Flow.ACTIVATION),
        ("microsoft/phi-2:mlp_act", PHI, Flow.ELEMENTWISE),
        ("rmsnorm 64x128", "", Flow.RMS_NORMALISATION),
        ("layernorm 64x128", "", Flow.NORMALISATION),
    ],
)
def test_gated_layers_have_other_norms_and_activations(model: str, params: str, flow: Flow) -> None:
    work = observed(model, params).work
    assert isinstance(work, Traffic)
    assert work.flow is flow


def test_what_runs_side_by_side_is_added_twice() -> None:
    """Attention and an inner layer beside it are two sums, one after the other."""
    once, twice = (observed(f"{name}:add", params) for name, params in NAMED.items())
    assert (once.measured_us, twice.measured_us) == (6.0, 3.0)


NAMED = {"meta-llama/Llama-2-7b-hf": LLAMA, "microsoft/phi-2": PHI}
