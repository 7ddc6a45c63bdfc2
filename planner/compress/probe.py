"""A model with some of its inner tensors made visible, in temporary files that vanish after use."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from planner.compress.apply import save
from planner.compress.base import Array
from planner.graph import proto, weights
from planner.ir.graph import Tensor
from planner.runtime.ort import BoundRun, bind, make_session
from planner.runtime.refusals import ORT_ERRORS, run_error
from planner.spec.session import SessionSettings

_INLINE_SIZE_BYTES = 256 << 20
"""Larger models go to disk with their weights beside them, so that they are in memory once."""
Feeds = Mapping[str, Array]


class Probe:
    """A session whose ways of being asked are prepared once: thousands of runs ask for the same."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._bound: dict[tuple[str, ...], BoundRun] = {}

    def run(self, names: Sequence[str], feeds: Feeds) -> list[Any]:
        """Values of these outputs."""
        wanted = tuple(names)
        if wanted not in self._bound:
            self._bound[wanted] = bind(self._session, wanted)
        # NumPy's arithmetic makes scalars out of arrays without axes; ONNX Runtime refuses those.
        return self._bound[wanted]({name: np.asarray(value) for name, value in feeds.items()})


@contextlib.contextmanager
def session_of(
    onnx_model: ModelProto, settings: SessionSettings, source: Path | None = None
) -> Iterator[Probe]:
    """A session of a model in memory; takes the weights away from the model (they may be large).

    Args:
        source: folder of the weights that the model only refers to.
    """
    with tempfile.TemporaryDirectory(prefix="infopt-probe-") as folder:
        path = Path(folder) / "probe.onnx"
        save(onnx_model, path, _INLINE_SIZE_BYTES)
        if source is not None:
            weights.bring(proto.tensors(onnx_model), source, Path(folder))
        onnx_model.graph.ClearField("initializer")
        yield Probe(make_session(path, settings))


def run_session(probe: Probe, names: Sequence[str], feeds: Feeds) -> dict[str, Any]:
    """Outputs by name.

    Raises:
        DataError: the model refuses these inputs.
        EnvironmentMismatchError: memory ran out.
    """
    try:
        values = probe.run(names, feeds)
    except ORT_ERRORS as error:
        raise run_error(error, "samples") from None
    return dict(zip(names, values, strict=True))


def with_outputs(model_path: Path, tensors: Collection[str]) -> ModelProto:
    """The model with these tensors as additional outputs; weights beside it stay there."""
    onnx_model = onnx.load(model_path, load_external_data=False)
    present = {value.name for value in onnx_model.graph.output}
    onnx_model.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in tensors if name not in present
    )
    return onnx_model


def quiet_settings(settings: SessionSettings) -> SessionSettings:
    """The same settings with sleeping pools: NumPy works between the runs."""
    return settings.model_copy(update={"spinning": False})


def size_of(tensors: Mapping[str, Tensor]) -> Callable[[str], int]:
    """Bytes of a tensor by name; 1 MiB where nothing is known."""
    return lambda name: (tensors[name].size_bytes or 1 << 20) if name in tensors else 1 << 20
