"""How much work operators are: counted, so that the same request always measures the same."""

from __future__ import annotations

import numpy as np

from planner.ir.graph import Graph, Op

_CALL_MULTIPLICATIONS = 4e5
"""What calling one operator costs, in multiplications: 10 us at 4e10 per second."""


def cost_of(op: Op, graph: Graph) -> float:
    """Multiplications of one run of an operator, and what calling it costs in their terms."""
    output = graph.tensors.get(op.outputs[0]) if op.outputs else None
    elements = output.size_bytes / 4 if output else 0.0
    weight = graph.tensors.get(op.inputs[1]) if len(op.inputs) > 1 else None
    first = graph.tensors.get(op.inputs[0]) if op.inputs else None
    each = 1.0
    if weight is not None and weight.shape:
        if op.kind == "Conv":
            each = float(np.prod(weight.shape[1:]))
        elif op.kind in ("MatMul", "Gemm") and first is not None and first.shape:
            each = float(first.shape[-1])
        elif op.kind in ("LSTM", "GRU", "RNN"):
            each = 4.0 * weight.shape[-1]
    return elements * each + _CALL_MULTIPLICATIONS
