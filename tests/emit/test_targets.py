"""What is written for other servers: parsed by their own formats, run where that is possible."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto

from planner.emit.targets import TARGETS, target_named
from planner.emit.targets.base import Source, Wishes, cores
from planner.emit.targets.kserve import service
from planner.emit.targets.package import CONTENTS, package
from planner.emit.targets.triton import config
from planner.errors import UsageError
from planner.runtime import load
from planner.runtime.fingerprint import usable_cores
from planner.runtime.integrity import check_files, read_manifest
from planner.spec import yaml_source
from planner.spec.io import read_package, read_plan
from planner.spec.session import GraphLevel, SessionSettings
from tests.emit import triton_config
from tests.plans import make_plan
from tests.runtime import build

WISHES = Wishes(replicas=2, storage_uri="s3://models/tiny")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One affine segment with external weights."""
    return build.tiny_engine(tmp_path_factory.mktemp("targets"), external=True)


def source_of(engine: Path, wishes: Wishes = WISHES, **settings: Any) -> Source:
    """The engine as a target sees it, with other session settings."""
    manifest = read_manifest(engine)
    (stage,) = manifest.stages
    segment = stage.segments[0].model_copy(update={"settings": SessionSettings(**settings)})
    stages = (stage.model_copy(update={"segments": (segment,)}),)
    changed = manifest.model_copy(update={"stages": stages})
    return Source(engine, changed, read_plan(engine / "plan.json"), wishes)


def config_of(source: Source) -> Any:
    return triton_config.parse(config(source, source.segments[0]))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.name))
def test_every_target_lists_its_files_and_is_replaced_by_the_next(
    engine: Path, tmp_path: Path, target: Any
) -> None:
    out = tmp_path / "out"
    made = package(target, engine, out, WISHES)
    again = package(target, engine, out, WISHES)
    assert (made, read_package(out / CONTENTS)) == (again, again)
    assert made.plan_digest == read_manifest(engine).plan_digest
    listed = {entry.path for entry in made.files}
    present = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert present == {*listed, CONTENTS}
    assert "{folder}" in made.start
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_of_others_are_never_replaced(engine: Path, tmp_path: Path) -> None:
    target = target_named("triton")
    package(target, engine, tmp_path / "out", WISHES)
    (tmp_path / "out" / "__pycache__").mkdir()
    (tmp_path / "out" / "__pycache__" / "a.pyc").touch()
    package(target, engine, tmp_path / "out", WISHES)
    (tmp_path / "out" / "tiny" / "labels.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"tiny/labels\.txt"):
        package(target, engine, tmp_path / "out", WISHES)
    assert (tmp_path / "out" / "tiny" / "labels.txt").read_text() == "mine"
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        package(target, engine, tmp_path / "file", WISHES)


def test_a_triton_repository_holds_the_model_and_what_was_measured(
    engine: Path, tmp_path: Path
) -> None:
    package(target_named("triton"), engine, tmp_path / "repo", WISHES)
    found = triton_config.parse((tmp_path / "repo/tiny/config.pbtxt").read_text())
    assert (found.name, found.backend, found.max_batch_size) == ("tiny", "onnxruntime", 0)
    (given,), (made,) = found.input, found.output
    assert (given.name, given.data_type, list(given.dims)) == ("x", 11, [-1, build.WIDTH])
    assert (made.name, made.data_type, list(made.dims)) == ("y", 11, [-1, build.WIDTH])
    (group,) = found.instance_group
    assert (group.count, group.kind) == (2, 2)

    feeds = {"x": build.rows()}
    model = tmp_path / "repo/tiny/1" / found.default_model_filename
    assert (model.parent / "weights.bin").is_file()
    (answer,) = onnxruntime.InferenceSession(model).run(None, feeds)
    with load(engine) as session:
        np.testing.assert_allclose(answer, session.run(feeds)["y"], rtol=1e-5)


@pytest.mark.parametrize(
    ("level", "number"),
    [("all", None), ("extended", 1), ("basic", -1), ("disabled", 2)],
)
def test_triton_gets_threads_and_graph_level(engine: Path, level: str, number: int | None) -> None:
    source = source_of(engine, graph_level=GraphLevel(level), intra_op_threads=3)
    found = config_of(source)
    parameters = {entry.key: entry.value.string_value for entry in found.parameters}
    assert parameters["intra_op_thread_count"] == "3"
    assert found.HasField("optimization") == (number is not None)
    if number is not None:
        assert found.optimization.graph.level == number


def test_triton_on_a_gpu(engine: Path) -> None:
    assert config_of(source_of(engine, provider="cuda")).instance_group[0].kind == 1


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({"intra_op_threads": 2, "spinning": False}, "threads that sleep"),
        ({"intra_op_threads": 2, "spinning": True}, ""),
        ({"intra_op_threads": 1, "spinning": False}, ""),  # no pool, nobody to spin
        ({"intra_op_threads": 1, "extra": {"session.disable_prepacking": "1"}}, "prepacking"),
    ],
)
def test_what_triton_cannot_be_told_is_said(
    engine: Path, tmp_path: Path, settings: Mapping[str, Any], noted: str
) -> None:
    written = target_named("triton").write(source_of(engine, **settings), tmp_path)
    assert len(written.notes) == bool(noted)
    assert noted in " ".join(written.notes)


def test_tensors_in_tritons_words(engine: Path) -> None:
    source = source_of(engine)
    specs = (
        build.spec("scalar", "int64"),
        build.spec('odd "name"\\\n模', "string", (2, None)),
        build.spec("flag", "bool", (1,)),
        build.spec("half", "float16", (1,)),
        build.spec("byte", "uint8", (1,)),
    )
    manifest = source.manifest.model_copy(update={"inputs": specs})
    found = config_of(replace(source, manifest=manifest)).input
    assert [tensor.name for tensor in found] == [spec.name for spec in specs]
    assert [list(tensor.dims) for tensor in found] == [[1], [2, -1], [1], [1], [1]]
    assert not found[0].HasField("reshape")  # without batching Triton refuses an empty shape
    assert [tensor.data_type for tensor in found] == [9, 13, 1, 10, 2]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (build.spec("b", "bfloat16", (1,)), "does not pass bfloat16"),
        (build.spec("c", "complex64", (1,)), "does not pass complex64"),
        (build.spec("z", "float32", (0, 2)), "without elements"),
    ],
)
def test_tensors_that_triton_cannot_pass(engine: Path, spec: Any, words: str) -> None:
    source = source_of(engine)
    manifest = source.manifest.model_copy(update={"outputs": (spec,)})
    with pytest.raises(UsageError, match=words):
        config_of(replace(source, manifest=manifest))


def test_an_engine_of_several_parts_is_no_triton_model(tmp_path: Path) -> None:
    chain = build.chain_engine(tmp_path)
    with pytest.raises(UsageError, match="has 3 parts"):
        package(target_named("triton"), chain, tmp_path / "repo", WISHES)
    assert not (tmp_path / "repo").exists()
    package(target_named("ray"), chain, tmp_path / "app", WISHES)


def test_the_parser_used_here_is_strict() -> None:
    for text in ("nme: 'x'", "input { dtype: TYPE_FP32 }", "instance_group { kind: KIND_TPU }"):
        with pytest.raises(text_format.ParseError):
            triton_config.parse(text)


def test_triton_configuration_by_its_own_client(engine: Path) -> None:
    reason = "tritonclient is not installed: pip install 'tritonclient[grpc]'"
    published = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=reason)
    source = source_of(engine, intra_op_threads=2, graph_level=GraphLevel.BASIC)
    found = text_format.Parse(config(source, source.segments[0]), published.ModelConfig())
    assert found.parameters["intra_op_thread_count"].string_value == "2"
    assert found.instance_group[0].kind == published.ModelInstanceGroup.KIND_CPU
    assert found.input[0].data_type == published.TYPE_FP32


# serving.kserve.io/v1beta1: the keys of each object that may stand here.
_KSERVE = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "metadata": {"name", "namespace", "labels", "annotations"},
    "spec": {"predictor", "transformer", "explainer"},
    "spec.predictor": {"minReplicas", "maxReplicas", "timeout", "containers", "model"},
    "spec.predictor.model": {
        "modelFormat", "protocolVersion", "runtime", "runtimeVersion", "storageUri", "resources",
    },
    "spec.predictor.model.modelFormat": {"name", "version"},
    "spec.predictor.containers[]": {
        "name", "image", "command", "args", "env", "ports", "readinessProbe", "livenessProbe",
        "resources",
    },
    "spec.predictor.containers[].env[]": {"name", "value"},
    "spec.predictor.containers[].ports[]": {"containerPort", "protocol", "name"},
    "spec.predictor.containers[].readinessProbe": {"httpGet", "periodSeconds"},
    "spec.predictor.containers[].readinessProbe.httpGet": {"path", "port"},
    "spec.predictor.containers[].livenessProbe": {"httpGet", "periodSeconds"},
    "spec.predictor.containers[].livenessProbe.httpGet": {"path", "port"},
}  # fmt: skip
_RESOURCES = {"requests", "limits"}
_QUANTITY = re.compile(r"[0-9]+(Mi)?")


def check_keys(value: Any, at: str = "") -> None:
    """Only keys that the resource has, at every level."""
    if isinstance(value, list):
        for entry in value:
            check_keys(entry, f"{at}[]")
    if not isinstance(value, dict) or at.endswith("annotations"):
        return
    if at.endswith("resources"):
        assert value.keys() <= _RESOURCES
        assert all(_QUANTITY.fullmatch(text) for part in value.values() for text in part.values())
        return
    assert value.keys() <= _KSERVE[at], at
    for key, inner in value.items():
        check_keys(inner, f"{at}.{key}".removeprefix("."))


@pytest.mark.parametrize("image", [None, "registry/infopt:1"])
def test_a_kserve_service_has_only_fields_that_exist(
    engine: Path, tmp_path: Path, image: str | None
) -> None:
    wishes = replace(WISHES, image=image)
    package(target_named("kserve"), engine, tmp_path / "k", wishes)
    found = yaml_source.load(tmp_path / "k/inferenceservice.yaml").data
    check_keys(found)
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = found["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 2)
    assert (tmp_path / "k/repository/tiny/config.pbtxt").exists() == (image is None)


def test_kserve_with_triton_fetches_the_repository(engine: Path, tmp_path: Path) -> None:
    package(target_named("kserve"), engine, tmp_path / "k", WISHES)
    model = yaml_source.load(tmp_path / "k/inferenceservice.yaml").data["spec"]["predictor"][
        "model"
    ]
    assert model["modelFormat"] == {"name": "triton", "version": "2"}
    assert (model["protocolVersion"], model["storageUri"]) == ("v2", "s3://models/tiny")
    text = (tmp_path / "k/repository/tiny/config.pbtxt").read_text()
    assert triton_config.parse(text).instance_group[0].count == 1  # replicas are pods


def test_kserve_with_an_image_serves_the_engine_itself(engine: Path) -> None:
    source = source_of(engine, replace(WISHES, image="me/infopt"), intra_op_threads=3)
    (container,) = service(source)["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"  # only this one is told what was fetched
    assert container["env"] == [{"name": "STORAGE_URI", "value": "s3://models/tiny"}]
    assert container["command"][:3] == ["infopt", "serve", "/mnt/models"]
    port = container["ports"][0]["containerPort"]
    assert str(port) in container["command"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": port}
    assert container["resources"]["limits"]["cpu"] == "3"


def test_resources_are_what_was_measured(engine: Path) -> None:
    source = replace(source_of(engine, provider="cuda"), plan=make_plan())
    resources = service(source)["spec"]["predictor"]["model"]["resources"]
    assert resources["limits"] == resources["requests"]
    assert resources["limits"]["memory"] == "135Mi"  # 1.5 times the 90 MiB of the guard's process
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert cores(source) == usable_cores()


@pytest.mark.parametrize(
    ("name", "label"),
    [("My_model.v2", "my-model-v2"), ("2big", "model-2big"), ("a" * 90, "a" * 50)],
)
def test_kubernetes_names(engine: Path, name: str, label: str) -> None:
    source = source_of(engine)
    source = replace(source, manifest=source.manifest.model_copy(update={"name": name}))
    assert service(source)["metadata"]["name"] == label


class _FakeServe(ModuleType):
    """`ray.serve`, as far as an application calls it at import."""

    def deployment(self, kind: type, **options: Any) -> Any:
        self.kind, self.options = kind, options
        return self

    def bind(self) -> str:
        return "bound"


def test_a_ray_application_asks_for_what_was_measured(
    tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(target_named("ray"), engine, tmp_path / "app", WISHES)
    fake, ray = _FakeServe("ray.serve"), ModuleType("ray")
    ray.serve = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    scope: dict[str, Any] = {"__file__": str(tmp_path / "app/ray_app.py"), "__name__": "ray_app"}
    code = (tmp_path / "app/ray_app.py").read_text()
    exec(compile(code, "ray_app.py", "exec"), scope)
    assert scope["app"] == "bound"
    assert fake.options == {
        "name": "tiny",
        "num_replicas": 2,
        "ray_actor_options": {"num_cpus": 1},
        "max_ongoing_requests": 64,
    }
    fake.kind().close()
    copy = tmp_path / "app" / "engine"
    check_files(copy, read_manifest(copy).files, verify_hashes=True)


def test_the_engine_of_a_package_is_a_copy(engine: Path, tmp_path: Path) -> None:
    package(target_named("ray"), engine, tmp_path / "app", WISHES)
    copied = tmp_path / "app/engine/parts/000/model.onnx"
    assert copied.stat().st_ino != (engine / "parts/000/model.onnx").stat().st_ino


def test_every_element_type_has_a_word_or_a_refusal(tmp_path: Path) -> None:
    kinds = {
        name.lower(): number
        for name, number in TensorProto.DataType.items()
        if name in ("FLOAT", "DOUBLE", "INT8", "UINT16", "BOOL", "FLOAT16")
    }
    feeds = {
        f"in_{name}": np.ones((1, 2), onnx.helper.tensor_dtype_to_np_dtype(number))
        for name, number in kinds.items()
    }
    made = build.typed_engine(tmp_path, kinds, feeds)
    package(target_named("triton"), made, tmp_path / "repo", WISHES)
    found = triton_config.parse((tmp_path / "repo/tiny/config.pbtxt").read_text())
    words = {tensor.name: tensor.data_type for tensor in found.input}
    assert words == {
        "in_float": 11, "in_double": 12, "in_int8": 6, "in_uint16": 3, "in_bool": 1,
        "in_float16": 10,
    }  # fmt: skip
