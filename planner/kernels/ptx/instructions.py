"""PTX as Triton writes it, read into instructions.

What is read is the subset that its kernels use (NVIDIA, "Parallel Thread Execution ISA"): one
entry, predicated instructions, labels; declarations are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from planner.errors import InfoptError

_OPERAND = re.compile(r"[{\[][^}\]]*[}\]]|[^,\s][^,{\[]*")
_REGISTER = re.compile(r"%[a-z]+\d+")
_INSTRUCTION = re.compile(r"(?:@(!?)(%p\d+)\s+)?([\w.:]+)\s*(.*)", re.DOTALL)
_LABEL = re.compile(r"(\$\w+):\s*")
_COMMENT = re.compile(r"//[^\n]*")
_OFFSET = re.compile(r"\+\s*(-?\d+)")
_THREADS = re.compile(r"\.reqntid (\d+)")
_VECTOR = re.compile(r"\.v(\d)")
_BITS = re.compile(r"\.[bfus](\d+)")


class Kind(Enum):
    """What an instruction keeps busy."""

    LOAD = auto()
    STORE = auto()
    COPY = auto()
    """From memory to shared memory, past the registers."""
    COPIES_COMMIT = auto()
    COPIES_WAIT = auto()
    SHARED_LOAD = auto()
    SHARED_STORE = auto()
    MATRIX_LOAD = auto()
    """Shared memory, in the layout of matrix instructions."""
    PRODUCT = auto()
    """A matrix instruction of a warp."""
    WIDE_PRODUCT = auto()
    """One of four warps together, that others do not wait for."""
    WIDE_COMMIT = auto()
    WIDE_WAIT = auto()
    BARRIER = auto()
    PREDECESSOR_WAIT = auto()
    """For the kernel in front."""
    LET_GO = auto()
    """Of the kernel behind: its blocks may start."""
    SHUFFLE = auto()
    SPECIAL = auto()
    """Exponentials, roots, reciprocals."""
    DIVISION = auto()
    FLOAT = auto()
    CONVERSION = auto()
    INTEGER = auto()
    MULTIPLICATION = auto()
    """Of whole numbers."""
    MOVE = auto()
    """Names and parameters: no instruction of the machine's own, or one that hides."""
    BRANCH = auto()
    RETURN = auto()
    OTHER = auto()


_BY_START: tuple[tuple[str, Kind], ...] = (
    ("ld.global", Kind.LOAD),
    ("st.global", Kind.STORE),
    ("red.global", Kind.STORE),
    ("atom.global", Kind.STORE),
    ("ld.shared", Kind.SHARED_LOAD),
    ("st.shared", Kind.SHARED_STORE),
    ("ldmatrix", Kind.MATRIX_LOAD),
    ("stmatrix", Kind.MATRIX_LOAD),
    ("cp.async.ca", Kind.COPY),
    ("cp.async.cg", Kind.COPY),
    ("cp.async.commit", Kind.COPIES_COMMIT),
    ("cp.async.wait", Kind.COPIES_WAIT),
    ("mma.sync", Kind.PRODUCT),
    ("wgmma.mma", Kind.WIDE_PRODUCT),
    ("wgmma.commit", Kind.WIDE_COMMIT),
    ("wgmma.wait", Kind.WIDE_WAIT),
    ("bar", Kind.BARRIER),
    ("griddepcontrol.wait", Kind.PREDECESSOR_WAIT),
    ("griddepcontrol.launch", Kind.LET_GO),
    ("ld.param", Kind.MOVE),
)
_BY_HEAD: Mapping[str, Kind] = {
    "bra": Kind.BRANCH,
    "ret": Kind.RETURN,
    "mov": Kind.MOVE,
    "shfl": Kind.SHUFFLE,
    **dict.fromkeys(("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh"), Kind.SPECIAL),
}
_OTHERS = ("fence", "membar", "prefetch", "wgmma", "trap", "nanosleep", "elect")
_WITH_RESULTS = frozenset(
    {
        *(Kind.LOAD, Kind.SHARED_LOAD, Kind.PRODUCT, Kind.WIDE_PRODUCT, Kind.SHUFFLE, Kind.SPECIAL),
        *(Kind.DIVISION, Kind.FLOAT, Kind.CONVERSION, Kind.INTEGER, Kind.MULTIPLICATION, Kind.MOVE),
    }
)
_IN_MEMORY = frozenset(
    {
        *(Kind.LOAD, Kind.STORE, Kind.COPY),
        *(Kind.SHARED_LOAD, Kind.SHARED_STORE, Kind.MATRIX_LOAD),
    }
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; registers by name."""

    text: str
    """With all its suffixes."""
    kind: Kind
    guard: str | None
    """Predicate without which it does nothing."""
    is_negated: bool
    operands: tuple[str, ...]
    """As written, results first."""
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    address: tuple[str | None, int] | None
    """Register and offset in bytes, of memory that is read or written (of a copy: read)."""
    size_bytes: int
    """Each thread's, where memory is read or written."""

    @property
    def head(self) -> str:
        """Without suffixes."""
        return self.text.partition(".")[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """Operands that are read."""
        return self.operands[1:] if self.kind in _WITH_RESULTS else self.operands


@dataclass(frozen=True, slots=True)
class Routine:
    """A kernel."""

    threads: int
    code: tuple[Instruction, ...]
    labels: Mapping[str, int]
    """Label -> position in the code."""


def routine_of(ptx: str) -> Routine:
    """A kernel's instructions; O(text).

    Raises:
        InfoptError: no kernel of a fixed block size.
    """
    threads = _THREADS.search(ptx)
    if threads is None:
        raise InfoptError("no kernel of a fixed block size in the PTX")
    body = _COMMENT.sub("", ptx[ptx.index("{", threads.end()) :])
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for label, statement in _statements(body):
        if label is not None:
            labels[label] = len(code)
        elif (found := _INSTRUCTION.match(statement)) is not None:
            code.append(_instruction(*found.groups()))
    return Routine(int(threads[1]), tuple(code), labels)


def _statements(body: str) -> Iterator[tuple[str | None, str]]:
    """Labels and statements in order, as (label, "") and (None, statement)."""
    for piece in body.split(";"):
        rest = piece.lstrip("{}\n\t ")
        while (label := _LABEL.match(rest)) is not None:
            yield label[1], ""
            rest = rest[label.end() :].lstrip("{}\n\t ")
        if rest and not rest.startswith("."):
            yield None, rest


def _instruction(negated: str, guard: str | None, text: str, rest: str) -> Instruction:
    kind = kind_of(text)
    operands = tuple(part.strip() for part in _OPERAND.findall(rest))
    results = operands[:1] if kind in _WITH_RESULTS else ()
    sources = operands if kind is Kind.WIDE_PRODUCT else operands[len(results) :]
    address = _address(operands) if kind in _IN_MEMORY or text.startswith("ld.param") else None
    return Instruction(
        text,
        kind,
        guard,
        bool(negated),
        operands,
        tuple(name for part in results for name in _REGISTER.findall(part)),
        tuple(name for part in sources for name in _REGISTER.findall(part)),
        address,
        _size_bytes(text, kind, operands),
    )


def kind_of(text: str) -> Kind:
    """What an instruction is, by its name with suffixes."""
    for start, kind in _BY_START:
        if text.startswith(start):
            return kind
    head, last = text.partition(".")[0], text.rpartition(".")[2]
    if head in _BY_HEAD:
        return _BY_HEAD[head]
    if head in _OTHERS:
        return Kind.OTHER
    is_float = last.startswith(("f", "bf"))
    if head == "cvt":
        return Kind.CONVERSION if is_float or ".f" in text or ".bf" in text else Kind.INTEGER
    if is_float:
        return Kind.DIVISION if head == "div" else Kind.FLOAT
    return Kind.MULTIPLICATION if head in ("mul", "mad") else Kind.INTEGER


def _address(operands: tuple[str, ...]) -> tuple[str | None, int] | None:
    """Of a copy the second: the first is where it goes."""
    places = [part for part in operands if part.startswith("[")]
    if not places:
        return None
    register, offset = _REGISTER.search(places[-1]), _OFFSET.search(places[-1])
    return (register[0] if register else None, int(offset[1]) if offset else 0)


def _size_bytes(text: str, kind: Kind, operands: tuple[str, ...]) -> int:
    if kind is Kind.COPY:
        return int(operands[2], 0)
    if kind not in _IN_MEMORY:
        return 0
    vector, bits = _VECTOR.search(text), _BITS.findall(text)
    return (int(vector[1]) if vector else 1) * (int(bits[-1]) // 8 if bits else 1)
