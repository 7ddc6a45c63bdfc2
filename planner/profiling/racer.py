"""One contestant of a race: `python -m planner.profiling.racer MODEL SETTINGS_JSON FEEDS CALL`.

CALL is `engine`, checks of the inputs and all; `plain` for `InferenceSession.run` as its
documentation has it; or `bare` for nothing but the run, as kernels are timed.

Loads the session, then waits: each line on stdin is a number of runs to time, each reply the
microseconds of every run. Between turns it is stopped by the race, so that its thread pool cannot
spin against the one whose turn it is.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from planner.runtime.engine import as_engine
from planner.runtime.ort import bind_all, feed_dict, make_session
from planner.runtime.parent import die_with_parent
from planner.runtime.tensors import read_tensors
from planner.spec.session import SessionSettings

Call = Literal["engine", "plain", "bare"]
WARM_UP_RUNS = 2
"""Runs before each turn that are not kept: caches hold what the previous contestant left."""


def _called(session: Any, call: str) -> Callable[[dict[str, Any]], object]:
    if call == "engine":
        return as_engine(session)
    return bind_all(session, is_direct=call == "bare")[1]


def main(arguments: list[str]) -> None:
    """Serves turns until stdin ends."""
    die_with_parent()
    model, settings, feeds_path, call = arguments
    session = make_session(Path(model), SessionSettings.model_validate_json(settings))
    feeds = feed_dict(read_tensors(Path(feeds_path)))
    run = _called(session, call)
    run(feeds)
    print("ready", flush=True)
    gc.disable()
    for line in sys.stdin:
        times = []
        for _ in range(WARM_UP_RUNS):
            run(feeds)
        for _ in range(int(line)):
            start = time.perf_counter_ns()
            run(feeds)
            times.append((time.perf_counter_ns() - start) / 1e3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"times_us": times, "peak_size_bytes": peak}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
