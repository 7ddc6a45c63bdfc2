"""Keeps ONNX Runtime's quantisation tools from talking (logs, warnings, prints); errors rise.

Why not simply `logging.disable`: one of the tools calls `logging.basicConfig` when it is imported,
which would give the whole program a handler on stderr.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_tools() -> Iterator[None]:
    """No log lines below ERROR, no warnings, no prints; the root logger is left as it was."""
    root = logging.getLogger()
    handlers, level, threshold = list(root.handlers), root.level, root.manager.disable
    logging.disable(max(threshold, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(threshold)
        root.setLevel(level)
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
