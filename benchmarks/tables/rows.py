"""A row of a table: one measured value, as text."""

from __future__ import annotations

import re
from dataclasses import dataclass


class UnpredictableError(Exception):
    """A row that cannot be predicted; the text says why and is what rows are counted by."""


_LEAST = {"seq_out": 0}
"""Column -> its smallest value, where that is not 1."""
_MOST = 10**9
_ABSENT = frozenset({"", "-", "--", "\u2013", "\u2014", "n/a", "na", "none", "null", "nan"})
"""How tables write that a column does not apply."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_COUNT = re.compile(r"(?:tp|pp|x)?\s*(\d+)\s*x?")
"""A count with its mark: `TP4`, `8x`."""


def refuse_empty(*sizes: float) -> None:
    """Sizes of which one is no size.

    Raises:
        UnpredictableError: one is not positive.
    """
    if min(sizes) <= 0:
        raise UnpredictableError("a size is not positive")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value, as text."""

    table: str
    source: str
    model: str
    params: str
    gpu: str
    n_gpus: str
    tp: str
    pp: str
    precision: str
    sparsity: str
    batch: str
    seq_in: str
    seq_out: str
    metric: str
    value: str
    notes: str

    def number(self, column: str, default: int | None = None) -> int:
        """An integer column.

        Raises:
            UnpredictableError: it is empty and there is no default, no number, or none that counts
                anything.
        """
        text = getattr(self, column).strip().lower()
        if text in _ABSENT:
            if default is None:
                raise UnpredictableError(f"no {column}")
            return default
        marked = _COUNT.fullmatch(text)
        try:
            value = round(_plain(marked[1] if marked else text))
        except (ValueError, OverflowError):
            raise UnpredictableError(f"{column} is no number") from None
        if not _LEAST.get(column, 1) <= value <= _MOST:
            raise UnpredictableError(f"{column} is {value}")
        return value

    @property
    def measured(self) -> float:
        """The value.

        Raises:
            UnpredictableError: it is no positive number.
        """
        if not self.value:
            raise UnpredictableError("no value")
        try:
            value = _plain(re.split(r"\s*(?:\u00b1|\+/-)", self.value)[0])
        except ValueError:
            raise UnpredictableError("the value is no number") from None
        if not 0 < value < float("inf"):
            raise UnpredictableError("the value is not positive")
        return value

    @property
    def text(self) -> str:
        """Everything that may name software, lower case."""
        return f"{self.source} {self.notes}".lower()


def _plain(text: str) -> float:
    """A number, with or without separators of thousands."""
    return float(text.replace(",", "") if _THOUSANDS.fullmatch(text.strip()) else text)
