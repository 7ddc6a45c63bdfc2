"""What every test may rely on: a store of its own, no settings of the machine's user, goldens."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["tests.endtoend"]
GOLDEN = Path(__file__).parent / "golden"

# Whoever runs the tests in the background may have had Ctrl-C ignored, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` accepts what the code now says."""
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files with what is found"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files are dealt out to several processes, those of few tests come first.

    They are the long ones (one installs the wheel, others build engines). What is dealt out last
    must be short, or one process works while all others wait.
    """
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: tests[item.path])


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees, or writes, the measurements and settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("INFOPT_")]:
        if name != "INFOPT_FULL_PACKAGING":
            monkeypatch.delenv(name)
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "infopt-cache"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("plan/summary.txt", text)`: equal to the file, or written there when updating."""

    def compare(name: str, found: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
        assert path.is_file(), f"no golden {name}: make it with --update-golden"
        assert found == path.read_text(encoding="utf-8")

    return compare
