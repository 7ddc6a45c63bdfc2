"""infopt: from a trained ONNX model and a promise to the cheapest deployment that keeps it.

A tour, in the order in which data flows (`planner/pipeline.py` reads like this):

    spec        what is on disk: constraints, profiles, plans, engine manifests (pydantic)
    ir          what flows inside: graph, candidates, costs, problem, solution (dataclasses)
    graph       ONNX file -> simplified, shape-bound Graph
    compress    formats per layer, their error on the outputs, the accuracy budget
    fuse        which operators run as one kernel
    profiling   measures kernels on the target; keeps every measurement
    cost        measured first, else interpolated, else modelled
    solve       one exact optimisation, with its gap and an independent checker
    emit        plan.json and the engine directory
    runtime     runs engines; needs neither solver nor onnx
    serve       Open Inference Protocol v2
    report, cli what people see

This package imports nothing of its own: `import planner` and `infopt --help` answer at once.
"""

import os

__version__ = "0.1.0"

# infopt promises no telemetry. ONNX Runtime's packages report to their maker unless this is set
# before they load, in this process and in those it starts; whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
