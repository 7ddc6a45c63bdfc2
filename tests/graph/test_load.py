"""What loading accepts and refuses, and in which words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from planner.errors import ModelError
from planner.graph.inspection import inspect
from planner.graph.load import load
from planner.graph.model import LoadedModel, Port
from tests.graph import nasties
from tests.graph.nasties import model, node, value, weight

_EYE = np.eye(4, dtype=np.float32)


def _inspect(made: ModelProto, folder: Path) -> LoadedModel:
    """The check itself, without the cost of a process."""
    return inspect(nasties.save(made, folder))


# --- files that are no models -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x1c\x00\x00\x00TFL3", "TFLite"),
    ],
)
def test_another_file_is_recognised(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        load(path)
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    nasties.save(nasties.relu(), tmp_path, "other.onnx")
    with pytest.raises(ModelError, match=r"no such file[\s\S]*other\.onnx"):
        load(tmp_path / "model.onnx")


def test_a_directory_is_told_from_a_file(tmp_path: Path) -> None:
    nasties.save(nasties.relu(), tmp_path)
    with pytest.raises(ModelError, match=r"is a directory[\s\S]*model\.onnx"):
        load(tmp_path)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="not a regular file"):
        load(tmp_path / "model.onnx")


@pytest.mark.parametrize("change", ["truncate", "append"])
def test_a_damaged_protobuf_is_refused(tmp_path: Path, change: str) -> None:
    content = nasties.matmul(weight("W", _EYE)).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(
        content[: len(content) // 2] if change == "truncate" else content + b"\xff" * 9
    )
    with pytest.raises(ModelError, match="does not parse"):
        load(path)


def test_a_protobuf_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no graph"):
        _inspect(ModelProto(ir_version=8), tmp_path)


# --- models that are refused --------------------------------------------------------------------


def _raw(dims: list[int], size_bytes: int) -> TensorProto:
    return TensorProto(name="W", data_type=1, dims=dims, raw_data=bytes(size_bytes))


_REFUSED: list[tuple[Callable[[], ModelProto], str]] = [
    (nasties.cycle, r"form a cycle: Add 'a' -> Relu 'b' -> Add 'a'"),
    (lambda: model([node("Add", ["x", "ghost"], ["y"])]), "Add 'y' reads tensor 'ghost'"),
    (lambda: model([node("Relu", ["x"], ["t"])]), "declares as output tensor 'y'"),
    (
        lambda: model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]),
        "tensor 'y' is made twice; the second maker is operator Neg 'y'",
    ),
    (lambda: model([node("Relu", ["x"], ["x"])], outputs=[value("x")]), "'x' is made twice"),
    (
        lambda: model([node("Relu", ["x"], ["y"])], inputs=[value("x"), value("x")]),
        "input 'x' is declared twice",
    ),
    (lambda: model([node("Frobnicate", ["x"], ["y"])]), "no operator 'Frobnicate'"),
    (
        lambda: nasties.matmul(_raw([4, 4], 8)),
        r"'W' \(float32, 4x4\) should hold 64 bytes but holds 8",
    ),
    (lambda: nasties.matmul(_raw([2**40, 2**40], 0)), "more than 64-bit arithmetic can count"),
    (lambda: nasties.matmul(_raw([-1, 4], 0)), "negative dimension"),
    (
        lambda: nasties.matmul(TensorProto(name="W", data_type=1, dims=[4, 4], float_data=[1.0])),
        "should hold 16 elements but holds 1",
    ),
    (
        lambda: nasties.matmul(weight("W", np.zeros((5, 6), np.float32))),
        "node name: y.*MatMul|MatMul.*y",
    ),
    (
        lambda: model(
            [node("Add", ["x", "W"], ["y"])], weights=[weight("W", np.zeros(4, np.int64))]
        ),
        "inconsistent type",
    ),
    (lambda: model([node("Relu", ["x"], ["y"])], opset=9999), "opset of ai.onnx 9999 is newer"),
    (lambda: model([node("Relu", ["x"], ["y"])], ir_version=99), "IR version 99 is newer"),
    (lambda: model([node("Relu", ["x"], ["y"])], ir_version=1), "IR version 1 is older than 3"),
    (nasties.recursive, "'loc::Rec' calls itself"),
    (nasties.exploding, "inlining the model's functions would make 1099511627776 operators"),
    (
        lambda: model([node("Frob", ["x"], ["y"], domain="acme")]),
        "domain 'acme' are used but no opset of it is imported",
    ),
    (
        lambda: model([node("Relu", ["x"], ["y"])], inputs=[value("x", [2**40, 2**40])]),
        "'x' declares",
    ),
    (lambda: model([node("Relu", ["x"], ["y"], alpha=1.0)]), "alpha"),
]


@pytest.mark.parametrize(("build", "words"), _REFUSED, ids=range(len(_REFUSED)))
def test_a_meaningless_model_is_refused(
    tmp_path: Path, build: Callable[[], ModelProto], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        _inspect(build(), tmp_path)


def test_a_graph_without_outputs_is_refused(tmp_path: Path) -> None:
    made = nasties.relu()
    del made.graph.output[:]
    with pytest.raises(ModelError, match="no outputs"):
        _inspect(made, tmp_path)


def test_a_similar_name_is_suggested(tmp_path: Path) -> None:
    made = model([node("Relu", ["x"], ["hidden_1"]), node("Relu", ["hiden_1"], ["y"])])
    with pytest.raises(ModelError, match="did you mean 'hidden_1'"):
        _inspect(made, tmp_path)


def test_a_body_may_not_read_what_nobody_makes(tmp_path: Path) -> None:
    made = nasties.conditional()
    made.graph.node[1].attribute[0].g.node[0].input[0] = "ghost"
    with pytest.raises(ModelError, match="'ghost'"):
        _inspect(made, tmp_path)


# --- external data ------------------------------------------------------------------------------


def test_external_data_counts_into_size_and_digest(tmp_path: Path) -> None:
    path = nasties.save(nasties.external("w.bin"), tmp_path)
    (tmp_path / "w.bin").write_bytes(_EYE.tobytes())
    before = inspect(path)
    assert before.size_bytes == path.stat().st_size + 64
    assert before.external_files == (tmp_path / "w.bin",)
    (tmp_path / "w.bin").write_bytes((2 * _EYE).tobytes())
    assert inspect(path).sha256 != before.sha256


def test_external_data_that_links_to_itself_is_missing(tmp_path: Path) -> None:
    (tmp_path / "w.bin").symlink_to("w.bin")
    with pytest.raises(ModelError, match=r"'w\.bin' of tensor 'W' is missing"):
        _inspect(nasties.external("w.bin"), tmp_path)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "a/../../w.bin", ""])
def test_external_data_outside_the_folder_is_not_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(_EYE.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"outside the model's folder|without a file name"):
        _inspect(nasties.external(location), folder)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(_EYE.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to("../w.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        _inspect(nasties.external("w.bin"), folder)


@pytest.mark.parametrize(
    ("made", "size_bytes", "words"),
    [
        (nasties.external("w.bin"), None, "'w.bin' of tensor 'W' is missing"),
        (nasties.external("w.bin"), 30, "too short: tensor 'W' needs 64 bytes from offset 0, 30"),
        (nasties.external("w.bin", offset=32), 64, "from offset 32, 32 are there"),
        (nasties.external("w.bin", length=32), 64, "should hold 64 bytes but holds 32"),
        (nasties.external("w.bin", offset=-4), 64, "offset or length that is no size"),
    ],
)
def test_damaged_external_data_is_refused(
    tmp_path: Path, made: ModelProto, size_bytes: int | None, words: str
) -> None:
    if size_bytes is not None:
        (tmp_path / "w.bin").write_bytes(bytes(size_bytes))
    with pytest.raises(ModelError, match=words):
        _inspect(made, tmp_path)


# --- unusual models that are fine ---------------------------------------------------------------


def test_a_summary_needs_no_weights(tmp_path: Path) -> None:
    path = nasties.save(nasties.conditional(), tmp_path)
    loaded = load(path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.size_bytes == path.stat().st_size
    assert loaded.opsets == {"": 17}
    assert loaded.inputs == (Port("x", "float32", (1, 4)), Port("flag", "bool", ()))
    assert loaded.op_counts == {"Identity": 1, "If": 1, "MatMul": 1, "Sub": 1}
    assert loaded.parameters == 20
    assert loaded.notes == ()


def test_an_initialiser_among_the_inputs_is_a_default(tmp_path: Path) -> None:
    nodes, inputs = [node("MatMul", ["x", "W"], ["y"])], [value("x"), value("W", [4, 4])]
    loaded = _inspect(model(nodes, inputs, weights=[weight("W", _EYE)]), tmp_path)
    assert [port.name for port in loaded.inputs] == ["x"]
    assert [port.name for port in loaded.defaults] == ["W"]
    old = _inspect(model(nodes, inputs, weights=[weight("W", _EYE)], ir_version=3), tmp_path)
    assert old.defaults == ()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (nasties.unsorted(), "not in topological order"),
        (nasties.matmul(weight("W", _EYE * np.nan)), "NaN or infinite values in 'W'"),
        (
            model(
                [node("Frob", ["x"], ["y"], domain="acme")],
                imports=[helper.make_opsetid("acme", 1)],
            ),
            "cannot run acme::Frob",
        ),
        (model([], outputs=[value("x")]), "no operators"),
        (
            model([], outputs=[value("W", [4, 4])], weights=[weight("W", _EYE)]),
            "no operators",
        ),
        (
            model([node("Relu", ["x"], ["t"], name="n"), node("Relu", ["t"], ["y"], name="n")]),
            "share the name 'n'",
        ),
        (
            model([node("Relu", ["x"], ["y"])], opset=6),
            "opset 6 is older than 7",
        ),
    ],
)
def test_the_unusual_is_accepted_with_a_note(tmp_path: Path, made: ModelProto, words: str) -> None:
    assert any(words in note for note in _inspect(made, tmp_path).notes)


@pytest.mark.parametrize(("size", "is_told"), [(1, False), (4, True)])
def test_infinite_constants_without_names(size: int, is_told: bool, tmp_path: Path) -> None:
    held = weight("", np.full(size, -np.inf, np.float32))  # a single one is there to mask with
    nodes = [node("Constant", [], ["c"], value=held), node("Max", ["x", "c"], ["y"])]
    notes = [note for note in _inspect(model(nodes), tmp_path).notes if "infinite" in note]
    assert len(notes) == is_told
    assert not is_told or "in 'a constant without a name': quantising" in notes[0]


def _half(kind: str) -> TensorProto:
    return TensorProto(
        name="W",
        data_type=TensorProto.DataType.Value(kind),
        dims=[2],
        raw_data=b"\x00\x3c\x80\x7f" if kind == "BFLOAT16" else b"\x00\x3c\x00\x7c",
    )


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_infinity_is_seen_in_half_precision(tmp_path: Path, kind: str) -> None:
    made = model(
        [node("Cast", ["W"], ["y"], to=1)], outputs=[value("y", [2])], weights=[_half(kind)]
    )
    assert any("'W'" in note for note in _inspect(made, tmp_path).notes)


@pytest.mark.parametrize(
    "made",
    [
        model([node("Relu", ["x"], ["y"])], inputs=[value("x", None)], outputs=[value("y", None)]),
        model(
            [node("Relu", ["x"], ["y"])], inputs=[value("x", [0, 4])], outputs=[value("y", None)]
        ),
        model([node("Add", ["x", "x"], ["y"])]),
        nasties.endless_loop(),
        nasties.fold_bomb(),
        nasties.with_functions({"F": ["G", "G"], "G": []}, call="F"),
        nasties.overloaded(),
    ],
    ids=[
        "no shape",
        "zero size",
        "same twice",
        "endless loop",
        "fold bomb",
        "functions",
        "overloads",
    ],
)
def test_the_legal_is_accepted_in_silence(tmp_path: Path, made: ModelProto) -> None:
    assert _inspect(made, tmp_path).notes == ()


def test_wrong_claims_of_an_exporter_do_no_harm(tmp_path: Path) -> None:
    """A declared output rank that is not the real one: ONNX Runtime runs it, and so do we."""
    assert _inspect(model([node("Relu", ["x"], ["y"])], outputs=[value("y", [])]), tmp_path)


def test_hostile_names_stay_out_of_messages(tmp_path: Path) -> None:
    name = "a\n" * 10_000
    with pytest.raises(ModelError) as caught:
        _inspect(model([node("Relu", [name], ["y"])]), tmp_path)
    assert len(caught.value.text) < 400
    assert "a\n" not in caught.value.text
