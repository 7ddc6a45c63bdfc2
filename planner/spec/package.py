"""infopt-package.json: what infopt wrote for a deploy target, so that it may be replaced later."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Document
from planner.spec.manifest import FileEntry

PACKAGE_VERSION = 1


class Package(Document):
    """The table of contents of a target's folder."""

    package_version: Literal[1] = 1
    target: str
    """Where it goes: `triton`, `kserve`, `ray`."""
    name: str
    """Model name under which it is served."""
    plan_digest: str
    replicas: int
    files: tuple[FileEntry, ...]
    """Every file of the folder except this one."""
    notes: tuple[str, ...] = ()
    """In what the target differs from what was measured."""
    start: str
    """The command that puts the files to use; `{folder}` stands for where they are."""
