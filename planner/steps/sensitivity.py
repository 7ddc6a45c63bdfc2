"""Sensitivities of many choices: measured side by side where the model is small.

A run of a small model is too short to share among threads, and NumPy's part of the work has only
one. Each process holds the weights, so a large model is measured by one, with all threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from planner.compress.base import Calibration, Format
from planner.compress.samples import Samples
from planner.compress.sensitivity import Choice, SensitivitySettings, sensitivities
from planner.graph.sandbox import Sandbox
from planner.runtime.fingerprint import usable_cores
from planner.spec.session import SessionSettings
from planner.steps.prepare import Prepared

_SMALL_BYTES = 64 << 20
"""Models up to this size are held by several processes: about 5 times this for each."""
_MOST_PROCESSES = 4
_BLOCK_OPS = 8
"""Operators in a row that stay together: where one only passes on the values of another, both are
measured at once."""


def measured_sensitivities(
    prepared: Prepared,
    samples: Samples,
    choices: Sequence[Choice],
    calibration: Calibration,
    sandbox: Sandbox,
) -> dict[Choice, float]:
    """Output NMSE of each choice alone, everything else native."""
    is_small = prepared.loaded.size_bytes <= _SMALL_BYTES
    count = min(usable_cores(), _MOST_PROCESSES) if is_small else 1
    parts = _parts(choices, count)
    session = SessionSettings(intra_op_threads=1 if is_small else 0)

    def measure(part: Sequence[Choice]) -> dict[Choice, float]:
        whole = SensitivitySettings()
        share = whole.max_multiplications * len(part) / len(choices)
        return sandbox.call(
            sensitivities,
            prepared.model_path,
            prepared.graph,
            part,
            samples,
            calibration,
            session,
            replace(whole, max_multiplications=share),
        )

    with ThreadPoolExecutor(max_workers=len(parts)) as pool:
        found = {
            choice: value for part in pool.map(measure, parts) for choice, value in part.items()
        }
    return {choice: found[choice] for choice in choices}


def _parts(choices: Sequence[Choice], count: int) -> list[list[Choice]]:
    """Blocks of operators dealt out in turn, so that parts cost about the same; none is empty."""
    formats: dict[str, list[Format]] = {}
    for op, form in choices:
        formats.setdefault(op, []).append(form)
    parts: list[list[Choice]] = [[] for _ in range(count)]
    for number, (op, forms) in enumerate(formats.items()):
        parts[number // _BLOCK_OPS % count].extend((op, form) for form in forms)
    return [part for part in parts if part]
