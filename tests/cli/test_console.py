"""What people see: bars on a terminal, plain lines elsewhere, colours only where wanted."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from planner.cli.console import Bars, Lines


def on_a_terminal(arguments: list[str], **environment: str) -> str:
    """What `python ...` prints when standard output and error are a terminal."""
    ours, theirs = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    started = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal is gone with its last writer
            break
        if not chunk:
            break
        printed += chunk
    os.close(ours)
    assert started.wait(timeout=30) == 0
    return printed.decode()


SHOW = "from planner.cli.console import show; show('[green]kept[/]')"
BARS = """
from planner.cli.console import reporting
with reporting() as reporter:
    reporter.stage("profile")
    reporter.progress(1, 4, "MatMul")
    reporter.incumbent(2.0, 1.0)
    reporter.note("a note")
"""


def test_colours_on_a_terminal_unless_refused() -> None:
    assert "\x1b[32mkept" in on_a_terminal(["-c", SHOW])
    assert "\x1b[32m" not in on_a_terminal(["-c", SHOW], NO_COLOR="1")


def test_a_bar_on_a_terminal() -> None:
    printed = on_a_terminal(["-c", BARS])
    assert "profile" in printed
    assert "note: a note" in printed
    assert "1/4" in printed


def test_no_colours_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout == "kept\n"


def test_plain_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.stage("profile")
    for done in range(1, 101):
        lines.progress(done, 100, f"kernel {done}")
    lines.note("a note")
    lines.incumbent(2.0, None)
    assert capsys.readouterr().err == "profile ...\nprofile: 100/100 kernel 100\nnote: a note\n"


def test_long_silence_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    lines.stage("solve")
    monkeypatch.setattr("planner.cli.console.PLAIN_INTERVAL_S", 0.0)
    lines.progress(1, 9, "x")
    lines.incumbent(2.0, 1.0)
    assert "solve: 1/9 x\nsolve: best so far 2, bound 1, gap 50.00%\n" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["cache", "--help"]])
def test_help_fits_eighty_columns(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "planner", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_bars_without_a_stage_say_nothing() -> None:
    with Bars() as bars:
        bars.progress(1, 2, "x")
        bars.incumbent(1.0, None)


def test_a_narrow_terminal_wraps_lines_and_tears_no_columns() -> None:
    sentence = " ".join(f"word{number}" for number in range(10))  # 59 characters
    show = f"from planner.cli.console import show; show('{sentence}')"
    assert sentence in on_a_terminal(["-c", show], COLUMNS="40")
