"""How a command ends: exit codes, one clear message, no traceback."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planner import errors
from planner.errors import InfoptError
from planner.spec.io import write_plan
from tests.cli.fake_pipeline import FakePipeline, Infopt
from tests.plans import make_plan

REFUSALS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, InfoptError)
    ),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", REFUSALS)
def test_every_refusal_ends_with_its_code_and_message(
    infopt: Infopt,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
    kind: type[InfoptError],
) -> None:
    pipeline.error = kind("it is so", where="model.onnx", fix="do otherwise")
    assert infopt("plan", "model.onnx") == kind.exit_code
    printed = capsys.readouterr()
    assert "model.onnx: it is so\n  fix: do otherwise" in printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_a_terminal_that_is_not_utf8_is_shown_what_it_can_show(
    infopt: Infopt, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(Path("plan.json"), make_plan())
    narrow = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert infopt("explain", "plan.json") == 0
    narrow.seek(0)
    assert "encoder/MatMul" in narrow.read()


def test_exit_codes_are_those_promised() -> None:
    codes = {kind.__name__: kind.exit_code for kind in REFUSALS}
    assert codes["UsageError"] == codes["SpecError"] == codes["ModelError"] == 2
    assert codes["InfeasibleError"] == 3
    assert codes["VerificationError"] == 4
    assert codes["EnvironmentMismatchError"] == 5
    assert codes["NoPlanInTimeError"] == 6
    assert codes["RegressionError"] == 7
    assert codes["Interrupted"] == 130


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        (ZeroDivisionError("division\nby zero"), 1, "internal error: ZeroDivisionError: division"),
        (KeyboardInterrupt(), 130, "a rerun continues"),
        (MemoryError(), 5, "out of memory"),
        (OSError(28, "No space left on device", "/x/y"), 2, "/x/y: No space left"),
    ],
)
def test_what_nobody_foresaw_is_one_line(
    infopt: Infopt,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    what: str,
) -> None:
    pipeline.error = error
    assert infopt("plan", "model.onnx") == code
    message = capsys.readouterr().err
    assert what in message
    assert "Traceback" not in message


def test_the_traceback_is_there_for_who_asks(
    infopt: Infopt,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INFOPT_DEBUG", "1")
    pipeline.error = ZeroDivisionError("x")
    assert infopt("plan", "model.onnx") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["plan", "--bogus"], ["diff", "one.json"], ["serve", "--port", "x"]]
)
def test_wrong_usage_is_two(
    infopt: Infopt, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert infopt(*arguments) == 2
    assert "Error:" in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m planner schema plan | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_who_closes_the_standard_streams_hears_nothing(closed: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m planner schema {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_full_disk_under_standard_output_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "planner", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output (or a temporary file in ")
    assert "): No space left on device\n  fix: free some space" in done.stderr


SLEEPER = """
import sys, time, types, planner
fake = types.ModuleType("planner.pipeline")
def plan(constraints, *, reporter):
    print("ready", file=sys.stderr, flush=True)
    try:
        time.sleep(30)
    except KeyboardInterrupt:  # as modules written in C do while they are imported
        raise ImportError("initialization failed") from None
fake.plan = plan
sys.modules["planner.pipeline"] = planner.pipeline = fake
sys.argv = ["infopt", "plan", "model.onnx", "-q"]
from planner.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_with_130_and_leave_nothing(tmp_path: Path, number: int) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr is not None
    assert started.stderr.readline() == "ready\n"
    sent_at_s = time.monotonic()
    started.send_signal(number)
    _, rest = started.communicate(timeout=10)
    assert started.returncode == 130
    assert time.monotonic() - sent_at_s < 5
    assert "a rerun continues" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_modules_are_still_being_imported(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "planner", "plan", "model.onnx"],
        env={"PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "interrupted; what was measured is kept, a rerun continues\n"


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "planner", "schema"],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
