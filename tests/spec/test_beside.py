"""A workload beside a model counts if the file names the model, and only then, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.spec.beside import beside

WORKLOAD = "workload:\n  - {name: prefill, shapes: {ids: [1, 8]}}\n"


def test_the_workload_of_a_file_that_names_the_model_is_taken(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(f"model: m.onnx\n{WORKLOAD}")
    found = beside(str(tmp_path / "m.onnx"))
    assert found is not None
    assert found.data["workload"][0]["name"] == "prefill"


def test_nothing_else_is_taken(tmp_path: Path) -> None:
    """Functions to call and places to write to above all: folders are downloaded."""
    more = "promise: {latency: 1ms}\naccuracy: {metric: 'evil:f'}\noutput: {plan: ../../x}\n"
    (tmp_path / "m.yml").write_text(f"model: m.onnx\n{more}{WORKLOAD}")
    found = beside(str(tmp_path / "m.onnx"))
    assert found is not None
    assert set(found.data) == {"workload"}
    (tmp_path / "m.yml").write_text(f"model: m.onnx\n{more}")
    assert beside(str(tmp_path / "m.onnx")) is None


@pytest.mark.parametrize(
    "head",
    [
        "model: other/m.onnx\n",
        'model: "m.onnx\\0"\n',
        "name: m.onnx\n",
        "slo: 20ms\n",
        "# \xff\nmodel: m.onnx\n",
        "model: m.onnx\nmodel: m.onnx\n",
        "model: m.onnx\nexport: !tag m.onnx\n",
        "- m.onnx\n",
    ],
)
def test_other_files_of_that_name_decide_nothing(tmp_path: Path, head: str) -> None:
    (tmp_path / "m.yaml").write_text(head + WORKLOAD, encoding="latin-1")
    assert beside(str(tmp_path / "m.onnx")) is None


@pytest.mark.parametrize("model", [None, "", ".", "/", "..", "nowhere/m.onnx", "m\udcff.onnx"])
def test_no_file_and_no_model(model: str | None) -> None:
    assert beside(model) is None
