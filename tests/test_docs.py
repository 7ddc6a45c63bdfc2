"""The documentation says what the code does: commands, exit codes, floors, example constraints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from planner import errors
from planner.cli.root import COMMANDS
from planner.errors import InfoptError
from planner.spec.constraints import Constraints
from planner.spec.resolve import resolve
from planner.spec.yaml_source import loads

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/**/*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(page: Path) -> list[str]:
    """The anchors of a page as GitHub makes them: lower case, spaces as hyphens, no punctuation."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def broken(page: Path) -> list[str]:
    """Links of a page whose file, or whose heading in it, is not there."""
    found = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if link.startswith(("https://", "http://")):
            continue
        if not target.exists() or (anchor and anchor not in headings(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A: `b`\n[x](#a-b) [y](#c) [z](none.md) [w](https://example.org)\n")
    assert broken(page) == ["#c", "none.md"]


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"| `infopt {name}" in README


def test_the_readme_names_no_command_that_is_none() -> None:
    named = set(re.findall(r"`?infopt ([a-z]+)", README))
    assert named - {command.name for command in COMMANDS} <= {"prints"}


def test_every_command_says_what_it_does() -> None:
    for command in COMMANDS:
        assert command.help, command.name
        assert all(getattr(option, "help", "x") != "" for option in command.params), command.name


def test_every_error_and_exit_code_is_in_the_readme() -> None:
    rows = dict(re.findall(r"^\| (\d+) \|.*\| (.*) \|$", README, flags=re.MULTILINE))
    documented = {
        name: int(code) for code, cell in rows.items() for name in re.findall(r"`(\w+)`", cell)
    }
    defined = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, InfoptError)
    }
    assert documented == defined


def test_the_example_constraints_are_valid() -> None:
    example = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert example is not None
    found = resolve({}, {}, loads(example[1], Path("README.md"))).constraints
    assert set(Constraints.model_fields) - found.model_fields_set <= {"no_weights", "output"}


def test_every_floor_is_explained_from_top_to_bottom() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == "Floors")
    drawn = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", ARCHITECTURE, flags=re.MULTILINE)
    documented = [set(re.findall(r"`(\w+)`", cell)) for cell in drawn]
    assert documented == [set(re.split(r"\s*[|:]\s*", layer)) for layer in layers]


def test_the_test_command_of_the_readme_is_what_ci_runs() -> None:
    assert "make test " in README
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-m pytest" in (ROOT / "Makefile").read_text(encoding="utf-8")
