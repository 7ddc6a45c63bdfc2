"""Whose factors serve where a software, a kind of model or a format has none of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from benchmarks.tables.kin import KIN_FORMATS, KINDS, closest, key_of, kin_of, pooled
from benchmarks.tables.pricer import FEATURES, PRIOR, latencies_us
from benchmarks.tables.software import EAGER, FRAMEWORKS, LIBRARY, REPLAYED, UNFUSED, pool_of
from planner.cost.fitting import fit_parameters


def order(key: str, *known: str) -> list[str]:
    return list(closest(key, known))


def test_its_own_rows_come_first_and_formats_in_order() -> None:
    own = "tensorrt-8.6:encoder/fp16"
    known = [own, "tensorrt-8.6:encoder/tf32", "tensorrt-10.15:encoder/fp16"]
    assert order(own, *reversed(known)) == known


def test_the_same_kind_of_model_elsewhere_comes_before_another_kind_here() -> None:
    """FasterTransformer's BERT by TensorRT's, not by its GPT."""
    found = order(
        "fastertransformer:encoder/fp16", "fastertransformer:decoder/fp16", "engines:encoder/fp16"
    )
    assert found == ["engines:encoder/fp16", "fastertransformer:decoder/fp16"]


def test_closer_versions_come_first() -> None:
    known = [f"tensorrt-{version}:encoder/int8" for version in ("8.2", "7.2", "10.15")]
    assert order("tensorrt-8.6:encoder/int8", *known) == known


def test_streams_hide_formats_and_are_in_no_pool() -> None:
    assert order("flexgen:decoder/fp16", "flexgen:decoder/offload") == ["flexgen:decoder/offload"]
    assert pooled("flexgen:decoder/offload") is None
    assert pooled("flexgen:decoder/fp16") == "engines:decoder/fp16"


def test_software_that_says_nothing_or_replays_graphs_is_in_no_pool() -> None:
    assert {pool_of(name) for name in (LIBRARY, *REPLAYED)} == {None}
    assert {pool_of(name) for name in UNFUSED | EAGER} == {FRAMEWORKS}
    assert order("library:encoder/fp16", "engines:encoder/fp16") == []


def test_every_format_has_kin_that_are_formats() -> None:
    known = [key_of("a", kind, form) for kind in KINDS for form in KIN_FORMATS]
    for form, kin in KIN_FORMATS.items():
        assert {*kin} <= KIN_FORMATS.keys()
        assert order(key_of("a", "images", form), *known)[0] == key_of("a", "images", form)


def test_a_bound_that_others_hide_is_found_from_where_it_holds() -> None:
    """A host of 50 us an operator: nothing near its typical 2.5 us shows that it is longer."""
    truth = {name: value for name, (value, _) in PRIOR.items()} | {"dispatch": 50.0}
    features = np.zeros((12, len(FEATURES)))
    features[:, FEATURES.index("product")] = np.geomspace(800, 60_000, 12)
    features[:, FEATURES.index("kernels")] = features[:, FEATURES.index("operators")] = 200
    measured = latencies_us(features, truth)

    def model(at: Mapping[str, float], which: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return latencies_us(features[which], at)

    everything = np.arange(len(measured))
    typical = {name: value for name, (value, _) in PRIOR.items()}
    blind = fit_parameters(model, PRIOR, measured, everything)
    bound = typical | {"dispatch": float((measured / 200).min())}
    found = fit_parameters(model, PRIOR, measured, everything, also=[bound])
    errors = [np.abs(np.log(latencies_us(features, at) / measured)).max() for at in (blind, found)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0]
    assert abs(found["dispatch"] / 50 - 1) < 0.05


def test_engines_for_serving_are_no_kin_of_what_calls_its_kernels_one_by_one() -> None:
    known = ["fastertransformer", "torch-compile"]
    for name in ("vllm", "sglang", "tensorrt-llm"):
        assert kin_of(name, known) == ["torch-compile"]
