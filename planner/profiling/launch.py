"""How measuring processes start: this interpreter, this package, nothing from where we are."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self


class Closing(ABC):
    """Something that holds processes: closed when its `with` block ends, however it ends."""

    @abstractmethod
    def close(self) -> None:
        """Ends them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def command(module: str) -> list[str]:
    """`python -m module`.

    `-P` keeps the current folder off the path: a user's own `json.py` there must not be imported.
    """
    return [sys.executable, "-P", "-m", module]


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Ours, with our import path and what is a process' own."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, **own}


def start(
    module: str, *arguments: str, own: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    """A module as a process that talks in lines over stdin and stdout.

    Args:
        own: environment variables of its own.
    """
    return subprocess.Popen(
        [*command(module), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(own),
    )
