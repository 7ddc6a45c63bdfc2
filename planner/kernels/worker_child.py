"""The process of a worker: reads a function and a job, answers, until nobody is there to ask."""

from __future__ import annotations

import os
import pickle
import signal
import sys


def main() -> None:
    """One answer for each request: whether the function raised, and what it raised or returned."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds: scratch folders are removed
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what compilers print is no answer
        while True:
            try:
                function, job = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer = (False, function(job))
            except Exception as error:  # noqa: BLE001 - raised again where it was asked for
                answer = (True, error)
            answers.write(pickle.dumps(answer))
            answers.flush()


if __name__ == "__main__":
    main()
