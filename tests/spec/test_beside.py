"""Constraints beside a model count if they name it, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import SpecError
from planner.spec.beside import beside


def test_constraints_that_name_the_model_are_found(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("model: m.onnx\nslo: 20ms\n")
    found = beside(str(tmp_path / "m.onnx"))
    assert found is not None
    assert found.data["slo"] == "20ms"


@pytest.mark.parametrize("text", ["model: other/m.onnx\n", "name: m.onnx\n", "slo: 20ms\n", "\xff"])
def test_other_files_of_that_name_decide_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.yaml").write_text(text, encoding="latin-1")
    assert beside(str(tmp_path / "m.onnx")) is None


def test_no_file_and_no_model() -> None:
    assert beside("nowhere/m.onnx") is None
    assert beside(None) is None


def test_a_broken_file_for_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("model: m.onnx\nmodel: m.onnx\n")
    with pytest.raises(SpecError):
        beside(str(tmp_path / "m.onnx"))
