"""What people see while infopt works: bars on a terminal, plain lines elsewhere, all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from planner.progress import Reporter, Silent

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

    from planner.spec.base import Document

PLAIN_INTERVAL_S = 10.0
"""Longest silence of plain progress lines, so that CI systems see a sign of life."""
PIPED_WIDTH = 100
NARROWEST = 80
"""Columns that tables are made for: in fewer their columns hold a letter or two, and lines that the
terminal wraps are read more easily."""


def show(renderable: RenderableType) -> None:
    """Prints a result on standard output: coloured on a terminal, plain elsewhere."""
    from rich.console import Console

    from planner.report.text import to_text

    if sys.stdout.isatty():
        console = Console(highlight=False)
        console.width = max(console.width, NARROWEST)
        console.print(renderable)
        return
    for line in to_text(renderable, PIPED_WIDTH).splitlines():
        click.echo(line.rstrip())


def show_json(document: Document) -> None:
    """Prints one JSON document on standard output."""
    from planner.spec.io import canonical_json

    click.echo(canonical_json(document), nl=False)


def write_text(path: Path, text: str | bytes) -> None:
    """Writes a report file whole or not at all, and says so."""
    from planner.spec.writing import write_atomically

    write_atomically(path, text.encode() if isinstance(text, str) else text)
    tell(f"wrote {path}")


def tell(text: str) -> None:
    """One line on standard error."""
    click.echo(text, err=True)


@contextmanager
def reporting(quiet: bool = False) -> Iterator[Reporter]:
    """The reporter that fits where standard error goes."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with Bars() as bars:
            yield bars
    else:
        yield Lines()


class Lines(Silent):
    """Plain lines: one per stage, and now and then how far it is."""

    def __init__(self) -> None:
        self._stage = ""
        self._told_at_s = time.monotonic()

    def stage(self, name: str) -> None:
        """See `Reporter`."""
        self._stage = name
        self._told_at_s = time.monotonic()
        tell(f"{name} ...")

    def progress(self, done: int, total: int, label: str) -> None:
        """See `Reporter`."""
        now_s = time.monotonic()
        if done < total and now_s - self._told_at_s < PLAIN_INTERVAL_S:
            return
        self._told_at_s = now_s
        tell(f"{self._stage}: {done}/{total} {label}".rstrip())

    def note(self, text: str) -> None:
        """See `Reporter`."""
        tell(f"note: {text}")

    def incumbent(self, objective: float, bound: float | None) -> None:
        """See `Reporter`."""
        now_s = time.monotonic()
        if now_s - self._told_at_s < PLAIN_INTERVAL_S:
            return
        self._told_at_s = now_s
        tell(f"{self._stage}: {_incumbent_text(objective, bound)}")


def _incumbent_text(objective: float, bound: float | None) -> str:
    if bound is None:
        return f"best so far {objective:.6g}"
    gap = abs(objective - bound) / abs(objective) if objective else 0.0
    return f"best so far {objective:.6g}, bound {bound:.6g}, gap {gap:.2%}"


class Bars(Silent):
    """A progress bar of the stage at hand on a terminal; gone when the work is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[label]}", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        """Starts drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was."""
        self._progress.stop()

    def stage(self, name: str) -> None:
        """See `Reporter`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=None, label="")

    def progress(self, done: int, total: int, label: str) -> None:
        """See `Reporter`."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, label=label)

    def note(self, text: str) -> None:
        """See `Reporter`."""
        self._progress.console.print(f"note: {text}", markup=False)

    def incumbent(self, objective: float, bound: float | None) -> None:
        """See `Reporter`."""
        if self._task is not None:
            self._progress.update(self._task, label=_incumbent_text(objective, bound))
