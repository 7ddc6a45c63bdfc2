"""Who fetches what when: while one part computes, the weights of the next one come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from planner.errors import InfoptError
from planner.runtime.streaming.mapped import Mapped


class Source(Protocol):
    """Where weights rest, part by part."""

    @property
    def count(self) -> int:
        """How many parts stream."""

    def start(self, number: int) -> None:
        """Begins to fetch a part's weights."""

    def finish(self, number: int) -> Mapping[str, Any]:
        """Waits for them: the part's inputs."""

    def release(self, number: int) -> None:
        """Lets them go."""

    def close(self) -> None:
        """Frees everything."""


class Files:
    """Weights in mapped files, for sessions on the CPU; one thread fetches."""

    def __init__(self, files: Sequence[Mapped]) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(1, "weights")
        self._coming: dict[int, Future[None]] = {}

    @property
    def count(self) -> int:
        """How many parts stream."""
        return len(self._files)

    def start(self, number: int) -> None:
        """Asks the thread."""
        self._coming[number] = self._pool.submit(self._files[number].fetch)

    def finish(self, number: int) -> Mapping[str, Any]:
        """Waits for the thread.

        Raises:
            VerificationError: the file cannot be read any more.
        """
        self._coming.pop(number).result()
        self._files[number].check()  # they may have come before the last run ended, long ago
        return self._files[number].arrays

    def release(self, number: int) -> None:
        """Drops the pages."""
        self._files[number].release()

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown()


class Stream:
    """At most two parts' weights are there at a time. For one run at a time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._coming: int | None = None

    def start(self, number: int) -> None:
        """Begins to fetch a part's weights, where they are not coming already."""
        if self._coming == number:
            return
        self._drop()
        self._source.start(number)
        self._coming = number

    @contextmanager
    def taken(self, number: int) -> Iterator[Mapping[str, Any]]:
        """The weights of a part, while it runs.

        Raises:
            VerificationError: they cannot be read any more.
        """
        self.start(number)  # unless it was: in the first run, or where the last one broke off
        self._coming = None
        try:
            yield self._source.finish(number)
        finally:
            self._source.release(number)

    def close(self) -> None:
        """Lets everything go."""
        self._drop()
        self._source.close()

    def _drop(self) -> None:
        number, self._coming = self._coming, None
        if number is None:
            return
        with contextlib.suppress(InfoptError):
            self._source.finish(number)
        self._source.release(number)
