"""What is known of an ONNX file without holding its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Dim = int | str | None
"""A size, a symbolic name, or nothing known."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the model."""

    name: str
    dtype: str
    """NumPy name of the element type; `sequence(float32)` and the like for what is no tensor."""
    dims: tuple[Dim, ...] | None
    """None where even the rank is unknown."""

    @property
    def is_tensor(self) -> bool:
        """Whether it has a shape at all (sequences, maps and optionals have none)."""
        return "(" not in self.dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The dimensions where all of them are sizes, else None."""
        if self.dims is None:
            return None
        sizes = tuple(dim for dim in self.dims if isinstance(dim, int))
        return sizes if len(sizes) == len(self.dims) else None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checked ONNX file; its weights stay on disk."""

    path: Path
    sha256: str
    """Of the file alone where it stands alone (what `sha256sum` prints); with external data, of the
    digests and names of all files."""
    size_bytes: int
    """Model file plus external data files."""
    ir_version: int
    opsets: Mapping[str, int]
    """Domain -> version; ONNX's own domain is the empty string."""
    inputs: tuple[Port, ...]
    """What must be fed at run time."""
    defaults: tuple[Port, ...]
    """Initialisers that are also inputs: fed only by who wants to override them."""
    outputs: tuple[Port, ...]
    op_counts: Mapping[str, int]
    """Operator kind -> occurrences, bodies of control flow and functions included."""
    parameters: int
    """Elements of all initialisers."""
    external_files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    """What a person should know: NaN weights, unsorted nodes, operators no runtime knows."""


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model file whose every input has a fixed shape, in normal form.

    Normal form: operators sorted, with unique non-empty names; local functions inlined; constants
    are initialisers; default inputs that were not bound are plain constants.
    """

    path: Path
    """Beside it lies `<name>.data` where the weights are too large for one protobuf."""
    size_bytes: int
    """Model file plus external data."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input name -> dimensions, where all of them are sizes."""
        return {port.name: port.shape for port in self.inputs if port.shape is not None}
