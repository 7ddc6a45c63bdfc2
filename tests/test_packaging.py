"""The wheel, installed outside the checkout, is the whole product.

An empty environment with every dependency from the index takes minutes: that is done where `CI` or
`INFOPT_FULL_PACKAGING` is set. Elsewhere the new environment borrows the dependencies, and only the
dependencies, of the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IS_FULL = bool(os.environ.get("INFOPT_FULL_PACKAGING") or os.environ.get("CI"))


def command(arguments: list[str], cwd: Path) -> str:
    """Runs a command without this process's Python settings; its standard output."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        arguments, cwd=cwd, env=inherited, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout by its own build backend."""
    out = tmp_path_factory.mktemp("dist")
    command([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], ROOT)
    (built,) = out.glob("infopt-*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin/` of a new environment with the wheel in it."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=IS_FULL)
    python = home / "bin" / "python"
    if IS_FULL:
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-compile"]
        command([*install, f"{wheel}[serve]"], home)
        return home / "bin"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command([*install, "--no-deps", "--no-index", str(wheel)], home)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_the_wheel_holds_the_product_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"planner"}
    shipped = {name for name in names if name.startswith("planner/_data/")}
    here = [p for name in ("configs", "profiles") for p in (ROOT / name).rglob("*.y*ml")]
    assert shipped == {f"planner/_data/{path.relative_to(ROOT)}" for path in here}
    assert "planner/report/style.css" in names


def test_it_runs_outside_the_checkout(bin_folder: Path, tmp_path: Path) -> None:
    infopt = str(bin_folder / "infopt")
    where = command(
        [str(bin_folder / "python"), "-c", "import planner; print(planner.__file__)"], tmp_path
    )
    assert str(bin_folder.parent) in where
    assert command([infopt, "--version"], tmp_path).startswith("infopt, version ")
    assert json.loads(command([infopt, "schema"], tmp_path))["required"] == ["model"]
    profiles = json.loads(command([infopt, "devices", "--json"], tmp_path))["profiles"]
    shipped = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    assert {profile["name"] for profile in profiles} == shipped
