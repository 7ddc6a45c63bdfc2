"""Simplification keeps answers, random draws, bodies and size; or it keeps the model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from planner.errors import ModelError
from planner.graph import equality
from planner.graph.bind import complete_shapes
from planner.graph.equality import Feeds, Outputs, run_with_onnxruntime
from planner.graph.inspection import inspect
from planner.graph.model import BoundModel
from planner.graph.normal import Binding, normalise
from planner.graph.sandbox import Bounds
from planner.graph.simplify import SimplifyReport, simplify
from planner.graph.slim import EFFORTS, slim
from tests.graph import nasties
from tests.graph.nasties import model, node, value, weight

_X = np.linspace(-1, 1, 4, dtype=np.float32).reshape(1, 4)


def _bound(made: ModelProto, folder: Path, *kept: str, **shapes: tuple[int, ...]) -> BoundModel:
    loaded = inspect(nasties.save(made, folder))
    binding = Binding(complete_shapes(loaded, shapes), frozenset(kept))
    return normalise(loaded.path, binding, folder / "bound.onnx")


def _simplified(
    made: ModelProto, feeds: Feeds, folder: Path, **shapes: tuple[int, ...]
) -> tuple[SimplifyReport, ModelProto]:
    report = simplify(_bound(made, folder, **shapes), [feeds], folder / "simple.onnx")
    return report, onnx.load(report.path)


def _slimmed(bound: BoundModel) -> ModelProto:
    """The simplifier alone, in this process."""
    out_path = bound.path.with_name("slim.onnx")
    slim(bound.path, out_path, EFFORTS[0])
    onnx.checker.check_model(out_path)
    return onnx.load(out_path)


def _types(found: ModelProto) -> list[str]:
    return [one.op_type for one in found.graph.node]


def test_shape_arithmetic_disappears_once_bound(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    report, found = _simplified(nasties.shape_chain(), {"x": x}, tmp_path, x=(2, 2, 3))
    assert report.is_simplified
    assert report.nmse == {"y": 0.0}
    assert _types(found) == ["Reshape", "Relu"]
    onnx.checker.check_model(found)
    (values,) = run_with_onnxruntime(report.path, {"x": x}, 1)
    np.testing.assert_array_equal(values["y"], x.reshape(2, 6))


def test_a_fused_normalisation_is_numerically_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stats = [rng.random(4, np.float32) + 0.5 for _ in range(4)]
    made = model(
        [
            node("Conv", ["x", "W"], ["c"], kernel_shape=[1, 1]),
            node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
        ],
        inputs=[value("x", [1, 3, 5, 5])],
        outputs=[value("y", [1, 4, 5, 5])],
        weights=[
            weight("W", rng.random((4, 3, 1, 1), np.float32)),
            *(weight(name, stat) for name, stat in zip("sbmv", stats, strict=True)),
        ],
    )
    report, found = _simplified(made, {"x": rng.random((1, 3, 5, 5), np.float32)}, tmp_path)
    assert report.is_simplified
    assert _types(found) == ["Conv"]
    assert 0 <= report.nmse["y"] < 1e-10


def test_random_draws_are_neither_folded_nor_merged(tmp_path: Path) -> None:
    report, found = _simplified(nasties.random_pair(), {"x": _X}, tmp_path)
    assert report.is_simplified
    assert report.random_outputs == ("y",)
    assert report.nmse == {"z": 0.0}
    assert _types(found).count("RandomNormal") == 2


def test_bodies_are_untouched_and_follow_renames(tmp_path: Path) -> None:
    """The Identity in front of the If goes, so what its bodies capture gets another name."""
    found = _slimmed(_bound(nasties.conditional(), tmp_path))
    assert _types(found) == ["If"]
    path = nasties.save(found, tmp_path, "found.onnx")
    for flag in (True, False):
        feeds = {"x": _X, "flag": np.array(flag)}
        (wanted,) = run_with_onnxruntime(tmp_path / "model.onnx", feeds, 1)
        (values,) = run_with_onnxruntime(path, feeds, 1)
        np.testing.assert_array_equal(values["y"], wanted["y"])


def test_generated_weights_are_not_written_out(tmp_path: Path) -> None:
    made = model(
        [node("ConstantOfShape", ["n"], ["W"]), node("MatMul", ["x", "W"], ["y"])],
        inputs=[value("x", [1, 2048])],
        outputs=[value("y", [1, 2048])],
        weights=[weight("n", np.array([2048, 2048], np.int64))],
    )
    bound = _bound(made, tmp_path)
    found = _slimmed(bound)
    assert _types(found) == ["ConstantOfShape", "MatMul"]
    assert found.ByteSize() < 10_000


def test_a_fold_that_would_explode_leaves_the_model_alone(tmp_path: Path) -> None:
    bounds = Bounds(wall_s=30, memory_size_bytes=3 * 2**30)
    bound = _bound(nasties.fold_bomb(), tmp_path)
    report = simplify(bound, [{"x": _X}], tmp_path / "simple.onnx", limits=bounds)
    assert not report.is_simplified
    assert report.path == bound.path
    assert "memory" in report.reason
    assert not (tmp_path / "simple.onnx").exists()


def test_a_model_that_never_ends_is_given_up(tmp_path: Path) -> None:
    bound = _bound(nasties.endless_loop(), tmp_path)
    report = simplify(bound, [{"x": _X}], tmp_path / "simple.onnx", limits=Bounds(wall_s=3))
    assert report.path == bound.path
    assert "did not finish within 3 s" in report.reason


def test_an_overridable_default_is_not_folded(tmp_path: Path) -> None:
    made = model(
        [node("Neg", ["W"], ["n"]), node("Add", ["x", "n"], ["y"])],
        inputs=[value("x"), value("W")],
        weights=[weight("W", np.ones((1, 4), np.float32))],
    )
    assert _types(_slimmed(_bound(made, tmp_path))) == ["Add"]
    kept = _slimmed(_bound(made, tmp_path, "W"))
    assert _types(kept) == ["Neg", "Add"]
    assert [one.name for one in kept.graph.input] == ["x", "W"]
    assert [one.name for one in kept.graph.initializer] == ["W"]


def test_unused_inputs_stay(tmp_path: Path) -> None:
    made = model(
        [node("Relu", ["x"], ["y"]), node("Neg", ["z"], ["dead"])], inputs=[value("x"), value("z")]
    )
    found = _slimmed(_bound(made, tmp_path))
    assert _types(found) == ["Relu"]
    assert [one.name for one in found.graph.input] == ["x", "z"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    x = np.ones((2, 2, 3), np.float32)
    digests = set()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        report, _ = _simplified(nasties.shape_chain(), {"x": x}, folder, x=(2, 2, 3))
        digests.add(hashlib.sha256(report.path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_another_folder_is_a_programming_error(tmp_path: Path) -> None:
    bound = _bound(nasties.relu(), tmp_path)
    with pytest.raises(ValueError, match="folder"):
        simplify(bound, [{"x": _X}], tmp_path / "sub" / "simple.onnx")


# --- comparing ----------------------------------------------------------------------------------


def _run_wrongly(path: Path, feeds: Feeds, times: int) -> Sequence[Outputs]:
    """A runtime for which the simplified model answers differently."""
    wrong = 1e-2 if path.name == "simple.onnx" else 0.0
    return [{"y": np.ones(3, np.float32) + np.float32(wrong)} for _ in range(times)]


def test_a_changed_answer_keeps_the_bound_model(tmp_path: Path) -> None:
    bound = _bound(nasties.relu(), tmp_path)
    report = simplify(bound, [{"x": _X}], tmp_path / "simple.onnx", run=_run_wrongly)
    assert report.path == bound.path
    assert "output 'y' changes by NMSE 0.0001" in report.reason


@pytest.mark.parametrize(
    ("reference", "candidate", "differs"),
    [
        (np.ones(4, np.float32), np.ones(4, np.float32) * (1 + 1e-4), False),
        (np.ones(4, np.float32), np.ones(4, np.float64), True),
        (np.ones(4, np.float32), np.ones((1, 4), np.float32), True),
        (np.arange(10**7), np.r_[1, np.arange(1, 10**7)], True),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), False),
        (np.array([np.nan, 1.0]), np.array([0.0, 1.0]), True),
        (np.array(["a"]), np.array(["b"]), True),
        ([np.ones(2), np.ones(3)], [np.ones(2), np.ones(3)], False),
    ],
)
def test_what_counts_as_different(reference: Any, candidate: Any, differs: bool) -> None:
    values = {"a": reference, "b": candidate}

    def run(path: Path, feeds: Feeds, times: int) -> Sequence[Outputs]:
        return [{"y": values[path.name]}] * times

    found = equality.compare(Path("a"), Path("b"), [{}], run)
    assert (found.differing == ("y",)) is differs


def test_one_sample_that_differs_is_enough() -> None:
    def run(path: Path, feeds: Feeds, times: int) -> Sequence[Outputs]:
        answer = feeds["x"] + (path.name == "b" and feeds["x"][0] > 1)
        return [{"y": answer, "z": feeds["x"]}] * times

    same, other = {"x": np.ones(4, np.float32)}, {"x": np.full(8, 2, np.float32)}
    assert equality.compare(Path("a"), Path("b"), [same], run).differing == ()
    for samples in ([same, other], [other, same]):
        found = equality.compare(Path("a"), Path("b"), samples, run)
        assert found.differing == ("y",)
        assert found.nmse == {"y": pytest.approx(0.25), "z": 0.0}


def test_a_reference_that_does_not_run_is_told_apart() -> None:
    def run(path: Path, feeds: Feeds, times: int) -> Sequence[Outputs]:
        raise ModelError("no kernel")

    assert equality.compare(Path("a"), Path("b"), [{}], run).failure == "no kernel"


def test_a_file_that_grows_is_not_taken(tmp_path: Path) -> None:
    from planner.graph.simplify import _growth

    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * 1000)
    large.write_bytes(b"x" * (2**20 + 2000))
    assert _growth(small, large) == "the file would grow from 1000 B to 1 MiB"
    assert _growth(large, small) is None
