"""Finds what ships with infopt: device profiles and example constraint files.

Three layouts, one answer: an installed wheel carries them as package data in `planner/_data/`; a
checkout and an editable install have them beside `pyproject.toml`, where they are edited live.
"""

from __future__ import annotations

from pathlib import Path

from planner.errors import EnvironmentMismatchError

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The shipped folder `name` (`profiles` or `configs`).

    Raises:
        EnvironmentMismatchError: the installation is incomplete.
    """
    packed = _PACKAGE / "_data" / name
    beside = _PACKAGE.parent / name
    is_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    found = beside if is_checkout else packed
    if not found.is_dir():
        raise EnvironmentMismatchError(
            f"this installation has no {name}/ folder", where=str(found), fix="reinstall infopt"
        )
    return found


def profiles() -> tuple[Path, ...]:
    """Every shipped device profile, by name."""
    return tuple(sorted(folder("profiles").glob("*.yaml")))


def nodes() -> tuple[Path, ...]:
    """Every shipped node profile, by name."""
    return tuple(sorted((folder("profiles") / "nodes").glob("*.yaml")))


def fits() -> tuple[Path, ...]:
    """What was learnt from measurements, one file a device."""
    return tuple(sorted((folder("profiles") / "fits").glob("*.yaml")))


def configs() -> tuple[Path, ...]:
    """Every shipped example constraint file, by name."""
    return tuple(sorted(folder("configs").glob("*.yaml")))
