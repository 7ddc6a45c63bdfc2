"""Whatever is wrong with what a user gives: one clear message, its exit code, nothing half-written.

Rows run the real command line in this process (starting one costs more than most refusals);
what depends on the process itself has one of its own.
"""

from __future__ import annotations

import json
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_opsetid, make_tensor_sequence_value_info

from planner import pipeline
from planner.spec.io import write_plan
from tests.endtoend import Ended, Workshop, command, environment, infopt, mlp, save
from tests.graph import nasties
from tests.graph.nasties import model, node, value, weight

Make = Callable[[Path], object]


def refusal(ended: Ended, code: int, *words: str) -> None:
    """One message with these words; that code; no traceback."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert [line[:7] for line in ended.err.splitlines()].count("error: ") == 1, ended.err
    assert "Traceback" not in ended.err
    assert "internal error" not in ended.err
    for word in words:
        assert word in ended.err


def refused(folder: Path, arguments: list[str], code: int, *words: str) -> None:
    """The command refuses, and the folder holds what it held before."""
    before = _tree(folder)
    scratch = folder.with_name(folder.name + "-tmp")
    scratch.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setenv("TMPDIR", str(scratch))
        refusal(infopt(*arguments), code, *words)
    assert _tree(folder) == before
    assert list(scratch.iterdir()) == []


def _tree(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_size for path in folder.rglob("*")}


def _raw(content: bytes) -> Make:
    return lambda folder: (folder / "m.onnx").write_bytes(content)


def _saved(build: Callable[[], Any]) -> Make:
    return lambda folder: save(build(), folder / "m.onnx")


def _relu(*dims: int | str) -> Callable[[], Any]:
    return lambda: model([node("Relu", ["x"], ["y"])], [value("x", dims)], [value("y", dims)])


MODEL_ROWS: dict[str, tuple[Make, str]] = {
    "missing file": (lambda folder: None, "m.onnx: no such file"),
    "a folder": (lambda folder: (folder / "m.onnx").mkdir(), "m.onnx"),
    "no protobuf": (_raw(b"what is this?"), "not an ONNX model"),
    "no bytes": (_raw(b""), "m.onnx"),
    "truncated": (_raw(mlp().SerializeToString()[:3000]), "not an ONNX model"),
    "empty graph": (_saved(lambda: model([])), "no input, initialiser or operator makes"),
    "cyclic graph": (_saved(nasties.cycle), "form a cycle: Add 'a' -> Relu 'b' -> Add 'a'"),
    "dangling tensor": (
        _saved(lambda: model([node("Add", ["x", "gone"], ["y"])])),
        "Add 'y' reads tensor 'gone'",
    ),
    "unknown domain": (
        _saved(lambda: model([node("Relu", ["x"], ["y"], domain="com.acme")])),
        "domain 'com.acme'",
    ),
    "operators nobody has": (
        _saved(
            lambda: model(
                [node("Frob", ["x"], ["y"], domain="acme")], imports=[make_opsetid("acme", 1)]
            )
        ),
        "m.onnx: ONNX Runtime cannot load it: Fatal error: acme:Frob",
    ),
    "operators nobody has, with what to do": (
        _saved(
            lambda: model(
                [node("Frob", ["x"], ["y"], domain="acme")], imports=[make_opsetid("acme", 1)]
            )
        ),
        "fix: give the model a local function of that name",
    ),
    "an opset before ONNX Runtime's": (
        _saved(lambda: model([node("Relu", ["x"], ["y"])], opset=1, ir_version=3)),
        "fix: export for opset 7 or newer",
    ),
    "element types without kernels": (
        _saved(
            lambda: model(
                [node("MatMul", ["x", "x"], ["y"])],
                [value("x", [4, 4], TensorProto.BFLOAT16)],
                [value("y", [4, 4], TensorProto.BFLOAT16)],
            )
        ),
        "export in float32",
    ),
    "a sequence to be fed": (
        _saved(
            lambda: model(
                [node("ConcatFromSequence", ["s"], ["y"], axis=0)],
                [make_tensor_sequence_value_info("s", 1, [1, 4])],
            )
        ),
        "the input 's' is of type sequence(float32): only tensors can be fed",
    ),
    "external data is missing": (_saved(lambda: nasties.external("w.bin")), "'w.bin'"),
    "external data elsewhere": (
        _saved(lambda: nasties.external("../../etc/passwd")),
        "outside the model's folder: '../../etc/passwd'",
    ),
    "shapes beyond int64": (_saved(_relu(2**62, 2**62)), "more than 64-bit arithmetic"),
    "unbound dimension": (_saved(_relu("n", 4)), "--shapes x:1x4"),
    "endless function": (_saved(nasties.recursive), "Rec"),
}


@pytest.mark.parametrize("row", MODEL_ROWS)
def test_models(tmp_path: Path, row: str) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    make, words = MODEL_ROWS[row]
    make(folder)
    refused(folder, ["plan", "m.onnx", "-q"], 2, words)


def test_weights_that_are_not_finite_are_told_and_stay_as_they_are(
    workshop: Workshop, tmp_path: Path
) -> None:
    weights = np.eye(4, dtype=np.float32)
    weights[0, 0] = np.nan
    save(nasties.matmul(weight("W", weights)), tmp_path / "m.onnx")
    ended = workshop.infopt("plan", tmp_path / "m.onnx", "-q", "-o", tmp_path / "p.json", "--json")
    assert ended.code == 0, ended.err
    plan = json.loads(ended.out)
    assert plan["formats"] == {}
    assert any("NaN or infinite values in 'W'" in warning for warning in plan["warnings"])


YAML_ROWS = {
    "unknown key": ("model: m.onnx\naccuracy:\n  max_eror: 1e-3\n", "c.yaml:3", "max_error"),
    "no unit": ("model: m.onnx\nslo: 20\n", "c.yaml:2", "20ms"),
    "unknown unit": ("model: m.onnx\nslo: 20 parsec\n", "c.yaml:2", "parsec"),
    "two percentiles": ("model: m.onnx\nslo: {latency: {p50: 1ms, p99: 2ms}}\n", "c.yaml:2", "p50"),
    "wrong type": ("model: m.onnx\nsolver:\n  seed: yes please\n", "c.yaml:3", "seed"),
    "unknown format": ("model: m.onnx\ncompression:\n  formats: [int7]\n", "c.yaml:3", "int7"),
    "pin left out": (
        "model: m.onnx\ncompression:\n  formats: [fp16]\n  pin: {'*': int8}\n", "c.yaml:4", "int8",
    ),
    "drop without data": ("model: m.onnx\naccuracy:\n  max_drop: 1pp\n", "c.yaml:3", "evaluation"),
    "no YAML": ("model: [m.onnx\n", "c.yaml:", "not valid YAML"),
    "no model": ("slo: 20ms\n", "c.yaml", "model"),
    "no model's name": ("model: ''\n", "c.yaml:1", "is empty"),
    "model is a list": ("model: [m.onnx]\n", "c.yaml:1", "must be a path"),
    "share without unit": ("model: m.onnx\nsolver: {gap: 0.05}\n", "c.yaml:2", "5%"),
    "endless size": ("model: m.onnx\ntarget: {memory: 1e999GiB}\n", "c.yaml:2", "finite"),
    "the plan over the model": (
        "model: m.onnx\noutput: {plan: ./m.onnx}\n", "c.yaml:2", "is read by this run",
    ),
    "two outputs in one": (
        "model: m.onnx\noutput: {html: r, junit: r}\n", "c.yaml:2", "is the html as well",
    ),
    "other version": ("schema_version: 9\nmodel: m.onnx\n", "c.yaml:1", "schema_version"),
}  # fmt: skip


@pytest.mark.parametrize("row", YAML_ROWS)
def test_constraint_files(tmp_path: Path, row: str) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    text, where, what = YAML_ROWS[row]
    (folder / "c.yaml").write_text(text)
    refused(folder, ["plan", "-c", "c.yaml"], 2, where, what)


DATA_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong name": ({"z": np.zeros((4, 64), "f4")}, "'x'"),
    "wrong shape": ({"x": np.zeros((4, 63), "f4")}, "63"),
    "wrong dtype": ({"x": np.full((4, 64), "text")}, "float32"),
    "NaN": ({"x": np.full((4, 64), np.nan, "f4")}, "NaN"),
    "no samples": ({"x": np.zeros((0, 64), "f4")}, "x"),
}


@pytest.mark.parametrize("row", DATA_ROWS)
def test_calibration_data(tmp_path: Path, row: str) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    arrays, words = DATA_ROWS[row]
    save(mlp(8), folder / "m.onnx")
    np.savez(folder / "c.npz", **arrays)
    refused(folder, ["plan", "m.onnx", "--calibration", "c.npz", "-q"], 2, "c.npz", words)


def test_pickled_calibration_data_is_never_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    save(mlp(8), folder / "m.onnx")
    np.savez(folder / "c.npz", x=np.array([_Marker(folder / "ran")], dtype=object))
    refused(folder, ["plan", "m.onnx", "--calibration", "c.npz", "-q"], 2, "c.npz")


@dataclass
class _Marker:
    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


FUNCTION_ROWS = {
    "no module": ("nowhere:score", "cannot import the metric's module 'nowhere'"),
    "no function": ("mine:scroe", "has no function 'scroe'"),
    "a module that fails": ("broken:score", "cannot import the metric's module 'broken'"),
    "a module that exits": ("leaves:score", "SystemExit: 3"),
}


@pytest.mark.parametrize("row", FUNCTION_ROWS)
def test_functions_of_the_user_are_looked_up_before_the_model_is(tmp_path: Path, row: str) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    reference, words = FUNCTION_ROWS[row]
    (folder / "mine.py").write_text("def score(run): return 1.0\n")
    (folder / "broken.py").write_text("import nothing_of_that_name\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    (folder / "c.yaml").write_text(f"model: no.onnx\naccuracy: {{evaluation: '{reference}'}}\n")
    refused(folder, ["plan", "-c", "c.yaml"], 2, "accuracy.evaluation", words)


@pytest.fixture
def planned(workshop: Workshop, tmp_path: Path) -> Path:
    """A folder of a user who has a plan."""
    folder = tmp_path / "user"
    folder.mkdir()
    write_plan(folder / "plan.json", workshop.plan("mlp"))
    return folder


def _edited(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "plan.json").read_bytes())
    (folder / "plan.json").write_text(json.dumps({**data, **changes}))


DEPLOY = ["deploy", "plan.json", "--no-serve", "-q"]


def test_a_plan_edited_by_hand(planned: Path) -> None:
    _edited(planned, warnings=["trust me"])
    refused(planned, DEPLOY, 4, "plan.json: this plan was edited")


def test_a_plan_of_another_schema_version(planned: Path) -> None:
    _edited(planned, schema_version=2)
    refused(planned, DEPLOY, 2, "schema_version 2 is not one this infopt reads (1)")


def test_a_plan_that_is_no_plan(planned: Path) -> None:
    (planned / "plan.json").write_text("{")
    refused(planned, DEPLOY, 2, "plan.json:1: not JSON")


def test_a_plan_for_another_model(planned: Path) -> None:
    save(mlp(8), planned / "other.onnx")
    refused(planned, [*DEPLOY, "--model", "other.onnx"], 2, "other.onnx: this is not the model")


def test_a_plan_with_a_value_of_the_wrong_type(planned: Path) -> None:
    _edited(planned, simplified="perhaps")
    refused(planned, DEPLOY, 2, "plan.json: simplified")


def test_a_folder_that_is_no_engine_is_not_overwritten(planned: Path) -> None:
    (planned / "engine").mkdir()
    (planned / "engine" / "diary.txt").write_text("mine")
    refused(planned, DEPLOY, 2, "diary.txt")


@pytest.fixture(scope="session")
def engine(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine that keeps its promise, to be damaged in copies."""
    with workshop.quick():
        return pipeline.build(workshop.plan("mlp"), tmp_path_factory.mktemp("engine") / "engine")


@pytest.mark.parametrize("name", ["parts/000/model.onnx", "plan.json", "manifest.json"])
def test_a_flipped_byte_in_an_engine(engine: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "user"
    shutil.copytree(engine, folder / "engine")
    content = bytearray((folder / "engine" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "engine" / name).write_bytes(content)
    refused(folder, ["verify", "engine", "-q"], 4, name)


def test_a_port_in_use(engine: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(tmp_path / "cache")
        ended = command(["serve", engine, "--port", port], tmp_path, env)
    refusal(ended, 2, f"127.0.0.1:{port}: the port is in use", "--port")


def test_another_device_is_said_and_measured_again(workshop: Workshop, tmp_path: Path) -> None:
    plan = workshop.plan("mlp")
    elsewhere = plan.environment.model_copy(
        update={"device": "Another CPU, 64 cores", "device_digest": "0" * 64}
    )
    write_plan(tmp_path / "plan.json", plan.model_copy(update={"environment": elsewhere}))
    ended = workshop.infopt(
        "deploy", tmp_path / "plan.json", "--no-serve", "-q", "-o", tmp_path / "engine"
    )
    assert "Another CPU, 64 cores" in ended.out
    assert "Traceback" not in ended.err


def test_a_read_only_output_folder(workshop: Workshop, tmp_path: Path) -> None:
    plan = workshop.plan("mlp")
    (tmp_path / "file").write_text("a file is no folder: not even root may write below it")
    with workshop.quick(), pytest.raises(Exception, match="cannot be written") as caught:
        pipeline.build(plan, tmp_path / "file" / "engine")
    assert getattr(caught.value, "exit_code", None) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_while_an_engine_is_built(workshop: Workshop, planned: Path) -> None:
    """Files end at 60 kB: less than the model's weights, more than all that is written before."""
    limit = (60_000, 60_000)
    ended = command(
        DEPLOY, planned, environment(workshop.cache),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    refusal(ended, 2, "engine: cannot be written: File too large")
    assert [entry.name for entry in planned.iterdir()] == ["plan.json"]


def test_a_damaged_store(tmp_path: Path) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    save(mlp(8), folder / "m.onnx")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "store-v1.sqlite").write_bytes(b"no database at all" * 1000)
    ended = command(["plan", "m.onnx", "-q"], folder, environment(cache))
    refusal(ended, 2, "store-v1.sqlite", "INFOPT_CACHE")
    assert [entry.name for entry in folder.iterdir()] == ["m.onnx"]
