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


def start(
    module: str, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    """`python -m module`, talking in lines over stdin and stdout.

    `-P` keeps the current folder off the path: a user's own `json.py` there must not be imported.
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )
