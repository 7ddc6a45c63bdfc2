"""The zoo: models have the size their source states, and are read without their weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from onnx import TensorProto

from benchmarks.zoo_families.builder import save
from benchmarks.zoo_families.catalogue import MODELS, constraints_text
from planner.graph.skeleton import Skeleton, read_skeleton
from planner.ops.work import work_of
from planner.spec.resolve import resolve
from planner.spec.yaml_source import loads

STATISTICS = ("mean", "variance")
"""Stored per channel by batch normalisation; no paper counts them."""


@pytest.mark.parametrize("name", list(MODELS))
def test_parameters_are_those_published(name: str) -> None:
    graph = MODELS[name].build(name, "float32").graph
    absent = [t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL]
    counted = sum(math.prod(t.dims) for t in absent if not t.name.endswith(STATISTICS))
    assert counted == pytest.approx(MODELS[name].published, rel=0.02)
    inline = sum(len(t.raw_data) for t in graph.initializer)
    assert inline < 100_000, "weights are declared, never stored"


@pytest.mark.parametrize("name", ["gpt3-175b", "switch-c"])
def test_constraints_beside_a_model_are_valid(name: str) -> None:
    found = resolve({}, {}, loads(constraints_text(name), Path("c.yaml"))).constraints
    assert found.no_weights
    assert [entry.name for entry in found.workload] == ["prefill", "decode"]


def read(name: str, folder: Path) -> Skeleton:
    path = folder / f"{name}.onnx"
    save(MODELS[name].build(name, "float16"), path)
    return read_skeleton(path, {entry.name: entry.shapes for entry in MODELS[name].workload})


def flops(skeleton: Skeleton, name: str) -> int:
    graph = skeleton.graphs[name]
    return sum(work_of(o, graph.tensors, skeleton.attributes[o.name]).flops for o in graph.ops)


def has_all_shapes(skeleton: Skeleton) -> bool:
    graphs = skeleton.graphs.values()
    return all(t.shape is not None for graph in graphs for t in graph.tensors.values())


def test_a_decoder_computes_two_flops_a_parameter_and_token(tmp_path: Path) -> None:
    """Kaplan et al. 2020, section 2.1; attention and the embedding's lookup are the difference."""
    found = read("gpt3-1.3b", tmp_path)
    assert has_all_shapes(found)
    assert flops(found, "prefill") / 512 == pytest.approx(2 * found.loaded.parameters, rel=0.1)
    assert flops(found, "decode") == pytest.approx(2 * found.loaded.parameters, rel=0.1)
    assert [(len(r.instances), r.size) for r in found.repeats] == [(24, 33)]
    assert found.graphs["decode"].tensors["present_key_23"].shape == (1, 16, 577, 128)


def test_all_experts_of_a_trillion_parameters_are_read(tmp_path: Path) -> None:
    found = read("switch-c", tmp_path)
    assert has_all_shapes(found)
    assert sorted(len(r.instances) for r in found.repeats) == [15, 15]
    experts = [w for w in found.weights if w.shape[:1] == (2048,) and len(w.shape) == 3]
    assert len(experts) == 2 * 30
    products = [op for op in found.graph.ops if op.name == experts[0].readers[0]]
    assert [op.op_type for op in products] == ["MatMul"]


@pytest.mark.parametrize(
    ("name", "gflops"),
    [("resnet-50", 8.2), ("vit-b16", 35.2), ("swin-t", 9.0)],
)
def test_vision_models_compute_what_their_papers_say(
    name: str, gflops: float, tmp_path: Path
) -> None:
    """4.1 (He et al.), 17.6 and 4.5 (Liu et al., table 1) billion multiply-adds."""
    found = read(name, tmp_path)
    assert flops(found, "picture") / 1e9 == pytest.approx(gflops, rel=0.02)
