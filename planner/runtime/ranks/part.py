"""An ONNX part that reads and writes memory which never moves, queued on a board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime

from planner.runtime import refusals
from planner.runtime.ranks.board import Board
from planner.runtime.ranks.place import Place

_NO_WAIT = "disable_synchronize_execution_providers"
"""ONNX Runtime's runs then return when their kernels are queued."""
_ORDINAL = 0
"""Each rank sees its own GPU only."""


class ResidentPart:
    """A session bound to places."""

    def __init__(
        self,
        session: Any,
        file: str,
        inputs: Mapping[str, Place],
        outputs: Mapping[str, Place],
        board: Board,
    ) -> None:
        self._run = session.run_with_iobinding
        self._file = file
        self._binding: Any = session.io_binding()
        self._options: Any = onnxruntime.RunOptions()
        if board.stream is not None:
            self._options.add_run_config_entry(_NO_WAIT, "1")
        for bind, places in (
            (self._binding.bind_input, inputs),
            (self._binding.bind_output, outputs),
        ):
            for name, place in places.items():
                shape = list(place.shape)
                bind(name, board.device, _ORDINAL, place.dtype, shape, place.address)

    def queue(self) -> None:
        """Runs it, after all that is queued.

        Raises:
            DataError: values that the model refuses.
            EnvironmentMismatchError: not enough memory.
        """
        try:
            self._run(self._binding, self._options)
        except refusals.ORT_ERRORS as error:
            raise refusals.run_error(error, self._file) from None
