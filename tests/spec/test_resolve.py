"""Flag over environment over YAML over default, and where each value came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from planner.errors import SpecError, UsageError
from planner.spec.resolve import FLAGS, resolve
from planner.spec.shape_words import parse_shape
from planner.spec.yaml_source import YamlSource, loads

YAML = loads("model: m.onnx\nslo: {latency: {p99: 30ms}}\nsolver:\n  gap: 2%\n", Path("d/c.yaml"))


def limit_us(
    flags: Mapping[str, tuple[str, ...]],
    environment: Mapping[str, str],
    source: YamlSource = YAML,
) -> float | None:
    latency = resolve(flags, environment, source).constraints.slo.latency
    return latency.limit_us if latency else None


def test_flag_wins_over_environment_over_yaml_over_default() -> None:
    flag, variable = {"slo": ("10ms",)}, {"INFOPT_SLO": "20ms"}
    assert limit_us(flag, variable) == 10_000
    assert limit_us({}, variable) == 20_000
    assert limit_us({}, {}) == 30_000
    assert limit_us({}, {}, loads("model: m.onnx", Path("c.yaml"))) is None


def test_provenance_names_every_source() -> None:
    found = resolve({"seed": ("7",)}, {"INFOPT_OBJECTIVE": "latency"}, YAML).provenance
    assert found["solver.seed"] == "--seed"
    assert found["objective"] == "INFOPT_OBJECTIVE"
    assert found["slo.latency.p99"] == "d/c.yaml:2"
    assert found["solver.gap"] == "d/c.yaml:4"
    assert found["solver.time_limit"] == "default"
    assert found["accuracy.max_error"] == "default"


def test_short_forms_make_room_for_flags_beside_them() -> None:
    source = loads("model: m.onnx\nslo: 30ms\ntarget: cuda", Path("c.yaml"))
    found = resolve({"throughput": ("5/s",), "gpus": ("2",)}, {}, source)
    assert found.constraints.slo.latency is not None
    assert found.constraints.slo.throughput_per_s == 5.0
    assert found.constraints.target.device == "cuda"
    assert found.provenance["slo.latency.p99"] == "c.yaml:2"
    assert found.provenance["target.device"] == "c.yaml:3"
    assert found.provenance["target.gpus"] == "--gpus"


def test_a_price_is_the_users_where_one_is_given() -> None:
    source = loads("model: m.onnx\ntarget: {device: t4-16gb, price: 0.35USD/h}", Path("c.yaml"))
    assert resolve({}, {}, source).constraints.target.price_per_hour == 0.35
    found = resolve({"price": ("2/h",)}, {}, source)
    assert found.constraints.target.price_per_hour == 2.0
    assert found.provenance["target.price"] == "--price"
    assert '"2USD/h"' in found.constraints.model_dump_json(by_alias=True)
    with pytest.raises(SpecError, match="no unit"):
        resolve({"price": ("2",)}, {}, source)


def test_paths_in_yaml_are_relative_to_the_file() -> None:
    text = (
        "model: m.onnx\naccuracy: {calibration: c.npz, evaluation: 'pkg.mod:score'}\n"
        "ci: {baseline: /abs/main.json, fail_on: [accuracy]}\n"
    )
    found = resolve({}, {}, loads(text, Path("some/dir/c.yaml"))).constraints
    assert found.model == Path("some/dir/m.onnx")
    assert found.accuracy.calibration == Path("some/dir/c.npz")
    assert found.accuracy.evaluation == "pkg.mod:score"
    assert found.ci is not None
    assert found.ci.baseline == Path("/abs/main.json")
    assert resolve({"model": ("x.onnx",)}, {}, YAML).constraints.model == Path("x.onnx")


def test_repeated_flags_and_their_environment_form() -> None:
    flags: dict[str, tuple[str, ...]] = {
        "shapes": ("a:1x3", "b:"),
        "formats": ("int8,fp16", "2:4"),
        "pin": ("*=x=fp32",),
    }
    found = resolve({"model": ("m",), **flags}, {}).constraints
    assert found.workload[0].shapes == {"a": (1, 3), "b": ()}
    assert found.compression.formats == ("int8", "fp16", "2:4")
    assert found.compression.pin == {"*=x": "fp32"}
    env = resolve({"model": ("m",)}, {"INFOPT_SHAPES": "a:1x3;b:"}).constraints
    assert env.workload == found.workload


@pytest.mark.parametrize("text", ["a", "a:1x", "a:-1", "a:1,2", ":1", "a:٣"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(SpecError, match="no shape") as refused:
        resolve({"model": ("m",), "shapes": (text,)}, {})
    assert refused.value.where == "--shapes"


@pytest.mark.parametrize("words", [("a:1x4", "a:1x8"), ("a:1x4,a:",)])
def test_an_input_has_one_shape(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="'a' is given two shapes"):
        resolve({"model": ("m",), "shapes": words}, {})


@pytest.mark.parametrize(
    "words",
    [
        ("a:0:1x4", "b, c:2", "d:"),
        ("a:0:1x4,b, c:2,d:",),
        ("d:, a:0:1x4", "b, c:2"),
    ],
)
def test_shapes_may_stand_in_one_word(words: tuple[str, ...]) -> None:
    found = resolve({"model": ("m",), "shapes": words}, {}).constraints.workload
    assert [entry.shapes for entry in found] == [{"a:0": (1, 4), "b, c": (2,), "d": ()}]


def test_names_of_inputs_may_hold_colons() -> None:
    assert parse_shape("scope:x:1x2") == ("scope:x", [1, 2])


@pytest.mark.parametrize(
    ("text", "where", "what", "fix"),
    [
        ("model: m\nslo:\n  latncy: 1ms", "c.yaml:3: slo.latncy", "unknown key", "'latency'"),
        ("model: m\nmodle: x", "c.yaml:2: modle", "unknown key", "'model'"),
        ("model: m\nslo:\n  latency:\n    p99: 20", "c.yaml:4: slo.latency.p99", "no unit", "20ms"),
        ("model: m\ntarget: {memory: 40}", "c.yaml:2: target.memory", "no unit", "40GiB"),
        ("model: m\ntarget: {memory: 4096}", "c.yaml:2: target.memory", "no unit", "4096B"),
        ("model: m\nobjective: fast", "c.yaml:2: objective", "not allowed", "'latency'"),
        ("model: m\ntarget: {device: cpu, gpus: 2}", "c.yaml:2: target.gpus", "contrad", "drop"),
        ("model: m\nworkload:\n  - weigth: 1", "c.yaml:3: workload[0].weigth", "unknown", "weight"),
        ("model: [m]", "c.yaml:1: model", "path", ""),
        ("slo: 1ms", "c.yaml", "no model", "model:"),
    ],
)
def test_refusals_say_what_where_and_the_nearest_fix(
    text: str, where: str, what: str, fix: str
) -> None:
    with pytest.raises(SpecError, match=what) as refused:
        resolve({}, {}, loads(text, Path("c.yaml")))
    assert refused.value.where == where
    assert fix in (refused.value.fix or "")


def test_a_wrong_flag_is_named_as_typed() -> None:
    with pytest.raises(SpecError, match="no unit") as refused:
        resolve({"model": ("m",), "slo": ("20",)}, {})
    assert refused.value.where == "--slo"
    with pytest.raises(SpecError, match="no unit") as refused:
        resolve({"model": ("m",)}, {"INFOPT_TIME_LIMIT": "20"})
    assert refused.value.where == "INFOPT_TIME_LIMIT"


def test_several_problems_are_told_at_once() -> None:
    text = "model: m\nslo: 1\nobjectve: cost\nsolver: {seed: x}"
    with pytest.raises(SpecError, match="3 problems") as refused:
        resolve({}, {}, loads(text, Path("c.yaml")))
    assert "c.yaml:3: objectve: unknown key 'objectve' (fix: did you mean" in refused.value.text


def test_flags_set_different_keys() -> None:
    keys = [flag.key for flag in FLAGS]
    assert len(set(keys)) == len(keys)
