"""Attention and recurrences: samples and heads are parallel; time is not."""

from __future__ import annotations

from planner.ops.sharding.base import Axis, Call, Index, parallel, results


def attention(call: Call) -> list[Index]:
    """Q, K, V as [B, H, S, d] or [B, S, H * d]; heads that share keys stay together."""
    is_merged = call.rank(0) == 3
    heads = int(call.attributes.get("q_num_heads", 0)) if is_merged else call.shape(0)[1]
    shared = int(call.attributes.get("kv_num_heads", heads)) if is_merged else call.shape(1)[1]
    if not heads or not shared or len([s for s in call.outputs if s is not None]) == 4:
        return []
    axis = 2 if is_merged else 1
    head_inputs, samples = [], []
    for slot in (0, 1, 2, 4, 5):
        if not call.has(slot):
            continue
        shape = call.shape(slot)
        own = axis if slot < 3 else 1
        head_inputs.append(Axis(slot, own, shape[own] // shared))
        samples.append(Axis(slot, 0))
    mask = call.shape(3) if call.has(3) else ()
    if len(mask) == 4 and mask[1] == heads:
        head_inputs.append(Axis(3, 1, heads // shared))
    if len(mask) == 4 and mask[0] == call.made[0]:
        samples.append(Axis(3, 0))
    made = [
        Axis(slot, axis if slot == 0 else 1, shape[axis if slot == 0 else 1] // shared)
        for slot, shape in enumerate(call.outputs)
        if shape is not None
    ]
    return [
        *parallel(call.shape(0)[0], samples, results(call, 0)),
        *parallel(shared, head_inputs, made),
    ]


def recurrent(call: Call) -> list[Index]:
    """X [T, B, n]: samples are parallel; units feed each other through time."""
    if call.attributes.get("layout", 0):
        return []
    batch = call.shape(0)[1]
    inputs = [Axis(0, 1)]
    inputs += [Axis(4, 0)] if call.has(4) else []
    inputs += [Axis(slot, 1) for slot in (5, 6) if call.has(slot)]
    places = ((slot, 2 if slot == 0 else 1) for slot in range(len(call.outputs)))
    made = [Axis(slot, axis) for slot, axis in places if call.outputs[slot] is not None]
    return parallel(batch, inputs, made)


RULES = {"Attention": attention, **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent)}
