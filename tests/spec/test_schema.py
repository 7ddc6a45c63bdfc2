"""The JSON schema: every key documented, every shipped config and profile valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner import resources
from planner.spec.node import read_node
from planner.spec.profile import read_profile, write_profile
from planner.spec.resolve import resolve
from planner.spec.schema import DOCUMENTS, json_schema
from planner.spec.yaml_source import load


def undocumented(schema: dict[str, Any]) -> Iterator[str]:
    tables = {"": schema, **schema.get("$defs", {})}
    for table, body in tables.items():
        for key, field in body.get("properties", {}).items():
            if not field.get("description"):
                yield f"{table}.{key}"


@pytest.mark.parametrize("name", ["constraints", "profile"])
def test_every_key_that_people_write_is_documented(name: str) -> None:
    assert list(undocumented(json_schema(name))) == []


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_schemas_refuse_unknown_keys(name: str) -> None:
    assert json_schema(name)["additionalProperties"] is False


def test_defaults_are_written_as_people_write_them() -> None:
    solver = json_schema("constraints")["$defs"]["Solver"]["properties"]
    assert solver["time_limit"]["default"] == "60s"
    assert solver["time_limit"]["type"] == "string"


@pytest.mark.parametrize("path", resources.configs(), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_says_how_to_use_it(path: Path) -> None:
    found = resolve({}, {}, load(path)).constraints
    assert (found.model.parent, found.model.suffix) == (path.parent, ".onnx")
    assert f"-c {path.name}" in path.read_text(encoding="utf-8")


def test_there_is_a_config_per_use() -> None:
    names = {path.stem for path in resources.configs()}
    uses = ("latency-first", "cost-first", "accuracy-first", "memory-first", "large-model")
    assert {*uses, "small-model", "ci"} <= names


@pytest.mark.parametrize("path", resources.profiles(), ids=lambda path: path.stem)
def test_every_shipped_profile_is_valid_and_reads_back(path: Path, tmp_path: Path) -> None:
    profile = read_profile(path)
    assert profile.name == path.stem
    copy = tmp_path / path.name
    write_profile(copy, profile)
    assert read_profile(copy) == profile


@pytest.mark.parametrize("path", resources.nodes(), ids=lambda path: path.stem)
def test_every_shipped_node_is_valid_and_names_a_device(path: Path) -> None:
    node = read_node(path)
    assert node.name == path.stem
    assert node.device in {known.stem for known in resources.profiles()}


def test_targets_named_in_configs_exist() -> None:
    known = {path.stem for path in resources.profiles()} | {"auto", "cpu", "cuda"}
    named = {resolve({}, {}, load(path)).constraints.target.device for path in resources.configs()}
    assert named <= known
