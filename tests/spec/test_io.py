"""Documents on disk: canonical, whole, and told apart from what a hand changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from planner.errors import SpecError, VerificationError
from planner.spec import io
from tests.plans import make_plan


def test_a_plan_reads_back_and_writes_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    written = io.write_plan(path, make_plan())
    first = path.read_bytes()
    assert io.read_plan(path) == written
    io.write_plan(path, written)
    assert path.read_bytes() == first
    assert len(written.digest) == 64


def test_reformatting_is_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert io.read_plan(path).shipped == "plan"


def test_a_plan_from_before_a_field_existed_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    older = {**json.loads(path.read_text()), "digest": ""}
    del older["execution"], older["settings"]["cuda_graph"]
    digest = hashlib.sha256(io.canonical_bytes(older)).hexdigest()
    path.write_bytes(io.canonical_bytes({**older, "digest": digest}))
    plan = io.read_plan(path)
    (tmp_path / "again.json").write_bytes(io.canonical_json(plan))  # as an engine holds it
    assert io.read_plan(tmp_path / "again.json") == plan
    assert plan.digest == io.plan_digest(make_plan())
    path.write_bytes(io.canonical_bytes({**older, "digest": digest, "simplified": False}))
    with pytest.raises(VerificationError, match="edited"):
        io.read_plan(path)


def test_an_edit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    path.write_text(path.read_text().replace('"int8_dynamic"', '"int8_static"', 1))
    with pytest.raises(VerificationError, match="edited") as refused:
        io.read_plan(path)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ("{}", "not a plan: it has no schema_version"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"schema_version": NaN}', "NaN"),
        ('{"schema_version": 1}', "problems"),
        ('{"schema_version": 1, "a": ' + "[" * 100_000, "not a plan"),
        ("\xff", "not"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError, match=what):
        io.read_plan(path)


def test_a_model_in_place_of_its_plan_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a\x9e\xff")
    with pytest.raises(SpecError, match="no text") as refused:
        io.read_plan(path)
    assert refused.value.fix == f"infopt plan {path} makes one"


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    data = json.loads(path.read_text())
    data["solver"]["gap"] = "none"
    path.write_text(json.dumps(data))
    with pytest.raises(SpecError) as refused:
        io.read_plan(path)
    assert refused.value.where == f"{path}: solver.gap"


def test_an_absent_plan_gets_the_nearest_name(tmp_path: Path) -> None:
    io.write_plan(tmp_path / "plan.json", make_plan())
    with pytest.raises(SpecError, match=r"did you mean .*plan\.json"):
        io.read_plan(tmp_path / "plam.json")
