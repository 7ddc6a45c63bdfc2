"""The other commands: deploy, verify, serve, explain, diff, pareto, profile, devices, cache, ..."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner import __version__, serve
from planner.cli.schema import DOCUMENTS
from planner.spec.io import write_plan
from planner.spec.profile import read_profile
from planner.spec.schema import DOCUMENTS as DOCUMENTED
from tests.cli.fake_pipeline import FakePipeline, Infopt
from tests.plans import DECISIONS, make_conflict, make_plan


@pytest.fixture
def plan_file(infopt: Infopt) -> Path:
    path = Path("plan.json")
    write_plan(path, make_plan())
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Engines that were asked to be served."""
    engines: list[Any] = []

    def remember(engine: Path, *, place: socket.socket, ready: Callable[[str, str], None]) -> None:
        host, port = place.getsockname()[:2]
        place.close()
        engines.append((engine, host, port))
        ready(f"http://{host}:{port}", "m")

    monkeypatch.setattr(serve, "serve", remember)
    return engines


def test_deploy_builds_verifies_and_serves(
    infopt: Infopt,
    pipeline: FakePipeline,
    plan_file: Path,
    served: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert infopt("deploy", plan_file, "-o", "e", "--port", 0) == 0
    assert [name for name, *_ in pipeline.asked] == ["build", "verify"]
    ((engine, host, port),) = served
    assert (engine, host) == (Path("e"), "127.0.0.1")
    printed = capsys.readouterr()
    assert "e keeps its promise" in printed.out
    url = f"http://127.0.0.1:{port}"
    assert f"serving at {url}: POST {url}/v2/models/m/infer" in printed.err


def test_a_port_in_use_is_said_before_anything_is_built(
    infopt: Infopt, pipeline: FakePipeline, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert infopt("deploy", plan_file, "--port", port) == 2
        assert pipeline.asked == []
        assert f"127.0.0.1:{port}: the port is in use" in capsys.readouterr().err
        assert infopt("deploy", plan_file, "--port", port, "--no-serve") == 0


def test_a_port_is_given_back_when_the_promise_is_broken(
    infopt: Infopt, pipeline: FakePipeline, plan_file: Path, served: list[Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipeline.passed = False
    assert infopt("deploy", plan_file, "--port", port) == 4
    socket.create_server(("127.0.0.1", port)).close()
    assert served == []


def test_deploy_writes_what_another_server_needs(
    infopt: Infopt,
    pipeline: FakePipeline,
    plan_file: Path,
    served: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = ("--storage-uri", "s3://models/kws", "--replicas", 3)
    assert infopt("deploy", plan_file, "--to", "kserve", *uri) == 0
    assert [name for name, *_ in pipeline.asked] == ["build", "verify", "package"]
    assert pipeline.asked[-1][1:4] == (Path("engine"), "kserve", Path("engine-kserve"))
    assert pipeline.asked[-1][4] == {
        "replicas": 3, "storage_uri": "s3://models/kws", "image": None,
    }  # fmt: skip
    assert served == []
    printed = capsys.readouterr().err
    assert "note: something differs" in printed
    assert "wrote engine-kserve; next: start engine-kserve of {a bucket}" in printed


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--replicas", 2), "--replicas: means nothing with --to local"),
        (("--to", "directory", "--files", "f"), "--files: means nothing with --to directory"),
        (("--to", "ray", "--storage-uri", "s3://a"), "fix: add --to kserve"),
        (("--to", "triton", "--image", "i"), "--image: means nothing with --to triton"),
        (("--to", "kserve"), "--storage-uri: KServe fetches what it serves"),
        (("--to", "kserve", "--storage-uri", "models/kws"), "'models/kws' is no storage URI"),
        (("--to", "triton", "--files", "mine"), "holds 'diary.txt', which infopt did not write"),
    ],
)
def test_what_another_server_cannot_do_is_said_before_anything_is_built(
    infopt: Infopt,
    pipeline: FakePipeline,
    plan_file: Path,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[object, ...],
    words: str,
) -> None:
    Path("mine").mkdir()
    Path("mine/diary.txt").write_text("mine")
    assert infopt("deploy", plan_file, *asked) == 2
    assert words in capsys.readouterr().err
    assert pipeline.asked == []


@pytest.mark.parametrize("ending", [["--no-serve"], ["--to", "directory"]])
def test_deploy_may_end_with_the_verdict(
    infopt: Infopt, pipeline: FakePipeline, plan_file: Path, served: list[Any], ending: list[str]
) -> None:
    assert infopt("deploy", plan_file, *ending) == 0
    assert served == []


def test_a_broken_promise_is_four_and_not_served(
    infopt: Infopt,
    pipeline: FakePipeline,
    plan_file: Path,
    served: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline.passed = False
    files = ("--junit", "j.xml", "--markdown", "s.md")
    assert infopt("deploy", plan_file, *files) == 4
    assert served == []
    assert "engine: latency: p99 332 us, promised 20 ms" in capsys.readouterr().err
    assert 'failures="1"' in Path("j.xml").read_text()
    assert Path("s.md").read_text().startswith("### ❌")


def test_deploy_finds_a_moved_model(
    infopt: Infopt, pipeline: FakePipeline, plan_file: Path, served: list[Any]
) -> None:
    assert infopt("deploy", "--model", "elsewhere.onnx", "--no-serve") == 0
    assert pipeline.asked[0][3] == Path("elsewhere.onnx")


def test_an_edited_plan_is_not_deployed(
    infopt: Infopt, pipeline: FakePipeline, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_file.write_text(plan_file.read_text().replace('"fp32"', '"fp16"'))
    assert infopt("deploy", plan_file) == 4
    assert "was edited" in capsys.readouterr().err
    assert pipeline.asked == []


def test_verify_prints_json(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("verify", "e", "--json") == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_serve_serves(infopt: Infopt, served: list[Any]) -> None:
    assert infopt("serve", "e", "--host", "localhost", "--port", 0) == 0
    ((engine, host, port),) = served
    assert engine == Path("e")
    assert host in ("127.0.0.1", "::1")
    assert port > 0


def test_explain_all_one_and_none(
    infopt: Infopt, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("explain", plan_file) == 0
    assert "int8_wo: +42 us" in capsys.readouterr().out
    assert infopt("explain", plan_file, "--layer", "encoder/*", "--json") == 0
    assert [d["op"] for d in json.loads(capsys.readouterr().out)] == [
        "encoder/MatMul",
        "encoder/Relu",
    ]
    assert infopt("explain", plan_file, "--layer", "encoder/MatMull") == 2
    assert "did you mean 'encoder/MatMul'?" in capsys.readouterr().err


def test_explain_a_request_that_cannot_be_met(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_text("model: m.onnx\ntarget: cpu\nslo: 100us\n")
    assert infopt("explain", "--infeasible", "-c", "c.yaml", "--memory", "1MiB") == 3
    printed = capsys.readouterr()
    for words in ("infeasible · model.onnx", "c.yaml:3", "--memory", "default", "250 us", "3 MiB"):
        assert words in printed.out
    assert "error: model.onnx: no plan keeps slo.latency.p99 100 us and" in printed.err
    pipeline.conflict = make_conflict(feasible=True, limits=(), fastest_us=80.0, reason="kept")
    assert infopt("explain", "--infeasible", "m.onnx", "--json", "-q") == 0
    assert json.loads(capsys.readouterr().out)["fastest_us"] == 80.0
    (_, constraints), *_ = reversed(pipeline.asked)
    assert constraints.model == Path("m.onnx")


def test_limits_are_for_requests_only(
    infopt: Infopt, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("explain", plan_file, "--slo", "5ms") == 2
    assert "--slo: means nothing without --infeasible" in capsys.readouterr().err
    assert infopt("explain", "--infeasible", "m.onnx", "--layer", "x") == 2
    assert "--layer: means nothing with --infeasible" in capsys.readouterr().err
    assert infopt("explain", "m.onnx", "--infeasible", "--figure", "f.svg") == 2
    assert "--figure: means nothing with --infeasible" in capsys.readouterr().err
    assert infopt("explain", "plan.json", "--layer", "conv*", "--figure", "f.svg") == 2
    assert "--layer: means nothing with --figure" in capsys.readouterr().err


def test_diff_of_two_plans(
    infopt: Infopt, plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = DECISIONS[2].model_copy(update={"format": "int8_dynamic"})
    write_plan(Path("b.json"), make_plan(decisions=(*DECISIONS[:2], moved)))
    assert infopt("diff", plan_file, "b.json") == 0
    assert "1 fp32 -> int8_dynamic" in capsys.readouterr().out
    assert infopt("diff", plan_file, "b.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["what"] == "head/MatMul"
    assert infopt("diff", plan_file, plan_file) == 0
    assert "the plans are the same" in capsys.readouterr().out


def test_pareto(infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert infopt("pareto", "model.onnx", "--slo", "20ms") == 0
    assert "fastest" in capsys.readouterr().out
    assert infopt("pareto", "model.onnx", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == 1
    files = ("--csv", "curve.csv", "--svg", "curve.svg")
    assert infopt("pareto", "model.onnx", "--axes", "memory, error", "--points", "5", *files) == 0
    assert Path("curve.csv").read_text().splitlines()[1].startswith("fastest,")
    assert "<svg" in Path("curve.svg").read_text()


def test_profile_writes_a_profile(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("profile", "-o", "here.yaml") == 0
    assert read_profile(Path("here.yaml")).kind == "cuda"
    assert "bandwidth" in capsys.readouterr().out
    assert infopt("profile", "--json", "-q") == 0
    name = json.loads(capsys.readouterr().out)["name"]
    assert Path(f"{name}.yaml").is_file()


@pytest.mark.parametrize(
    "command",
    [
        ("pareto", "model.onnx", "--csv"),
        ("pareto", "model.onnx", "--svg"),
        ("profile", "-o"),
        ("spread", "plan.json", "--tensor", "2", "-o"),
        ("verify", "engine", "--junit"),
        ("verify", "engine", "--markdown"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_measured(
    infopt: Infopt,
    pipeline: FakePipeline,
    plan_file: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    assert infopt(*command, plan_file / "below-a-file") == 2
    assert "below-a-file: cannot be written" in capsys.readouterr().err
    assert pipeline.asked == []


def test_devices(infopt: Infopt, capsys: pytest.CaptureFixture[str]) -> None:
    assert infopt("devices") == 0
    assert "h100-sxm-80gb" in capsys.readouterr().out
    assert infopt("devices", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["local"]["onnxruntime"]
    assert len(found["profiles"]) >= 4


def test_devices_shows_one_with_the_source_of_every_number(
    infopt: Infopt, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("devices", "a100-sxm-80gb") == 0
    text = capsys.readouterr().out
    for word in ("NVIDIA A100 datasheet", "product/bf16", "aiconfigurator", "USD/h"):
        assert word in text
    assert infopt("devices", "dgx-a100") == 0
    assert "nvswitch: bandwidth" in capsys.readouterr().out
    assert infopt("devices", "t4-16gb", "--json") == 0
    assert json.loads(capsys.readouterr().out)["peak"]["fp16"]["value"] == 65e12
    assert infopt("devices", "a100-sxm-8gb") == 2
    assert "a100-sxm-80gb" in capsys.readouterr().err
    assert infopt("devices", "cpu") == 2
    assert "cpu is this machine's own device" in capsys.readouterr().err


def test_cache_lists_and_forgets(infopt: Infopt, capsys: pytest.CaptureFixture[str]) -> None:
    from planner.profiling.store import Store

    store = Store()
    store.put("kernel", {"a": {"x": 1}, "b": {"x": 2}})
    store.put("guard", {"c": {"x": 3}})
    store.close()
    assert infopt("cache", "ls", "--json") == 0
    assert json.loads(capsys.readouterr().out)["entries"] == {"kernel": 2, "guard": 1}
    assert infopt("cache", "clear", "--kind", "guard") == 0
    assert infopt("cache", "ls") == 0
    printed = capsys.readouterr().out
    assert "2  kernel" in printed
    assert "guard" not in printed


def test_cache_moves_between_machines(
    infopt: Infopt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.profiling.store import Store

    store = Store()
    store.put("kernel", {"a": {"x": 1}, "b": {"x": 2}})
    store.close()
    assert infopt("cache", "export", "m.gz") == 0
    monkeypatch.setenv("INFOPT_CACHE", "elsewhere")
    assert infopt("cache", "import", "m.gz") == 0
    assert infopt("cache", "import", "m.gz") == 0
    printed = capsys.readouterr().out
    assert "2 entries written to m.gz" in printed
    assert "2 entries added, 0 were here already" in printed
    assert "0 entries added, 2 were here already" in printed
    Path("m.gz").write_bytes(Path("m.gz").read_bytes()[:-9])
    assert infopt("cache", "import", "m.gz") == 2
    assert "m.gz: damaged" in capsys.readouterr().err


def test_doctor_looks_at_everything(infopt: Infopt, capsys: pytest.CaptureFixture[str]) -> None:
    assert infopt("doctor", "--json") == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"python", "libraries", "onnxruntime", "cores", "memory", "disk", "store"} <= set(found)
    assert "CPUExecutionProvider" in found["onnxruntime"]["detail"]


def test_doctor_is_five_when_something_is_missing(
    infopt: Infopt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("x")
    monkeypatch.setenv("INFOPT_CACHE", "file/cache")
    assert infopt("doctor") == 5
    printed = capsys.readouterr()
    assert "failed" in printed.out
    assert "INFOPT_CACHE" in printed.err


@pytest.mark.parametrize("document", DOCUMENTS)
def test_schema(infopt: Infopt, capsys: pytest.CaptureFixture[str], document: str) -> None:
    assert infopt("schema", document) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "object"


def test_every_document_that_has_a_schema_can_be_asked_for() -> None:
    assert set(DOCUMENTS) == set(DOCUMENTED)


def test_version(infopt: Infopt, capsys: pytest.CaptureFixture[str]) -> None:
    assert infopt("--version") == 0
    assert __version__ in capsys.readouterr().out
