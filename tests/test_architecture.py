"""Floors, and what each entrance loads: checked by machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from planner.errors import EnvironmentMismatchError

ROOT = Path(__file__).parents[1]
HEAVY = {"onnx", "onnxruntime", "ortools", "networkx", "numpy", "scipy", "pydantic", "rich", "yaml"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_floors_hold() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_loads_nothing() -> None:
    bare = loaded_by("pass")
    assert loaded_by("import planner") - bare == {"planner"}


def test_the_command_line_loads_nothing_heavy() -> None:
    assert not loaded_by("import planner.cli.root") & HEAVY


def test_a_target_machine_needs_no_solver_no_onnx_no_command_line() -> None:
    loaded = loaded_by("import planner.runtime, planner.runtime.engine")
    assert not loaded & {"onnx", "ortools", "networkx", "click", "scipy", "onnxslim", "rich"}


def test_the_intermediate_representation_is_free_of_libraries() -> None:
    names = [path.stem for path in (ROOT / "planner" / "ir").glob("[a-z]*.py")]
    loaded = loaded_by("import " + ", ".join(f"planner.ir.{name}" for name in names))
    assert not loaded & HEAVY


def test_help_is_the_same_three_ways() -> None:
    ways = (
        [sys.executable, "-m", "planner"],
        [sys.executable, "cli.py"],
        [sys.executable, "-c", "from planner.cli import main; main()"],
    )
    helps = [
        subprocess.run(
            [*way, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for way in ways
    ]
    assert helps[0].startswith("Usage: infopt [OPTIONS] COMMAND")
    assert helps == [helps[0]] * len(ways)


def test_an_incomplete_installation_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from planner import resources

    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "planner")
    with pytest.raises(EnvironmentMismatchError, match="reinstall infopt"):
        resources.profiles()


def test_no_file_is_a_wall_of_text() -> None:
    """One noun a file: what grows past this holds two."""
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "planner").rglob("*.py")
    }
    assert {name: size for name, size in sizes.items() if size > 400} == {}
