"""What a unit of time and a byte of each kind of slot are worth, so that work fits slots tightly.

Work is any weight of the groups that no slot does more of than its time and memory allow. For any
rates s_k, μ_k >= 0 let

    w_v = min over the kinds k that can run v of  s_k·t_kv + μ_k·size_kv

A slot of kind k with a load below T and memory C_k then holds less than s_k·T + μ_k·C_k of it, and
all slots together

    T >= (Σ_v w_v - Σ_k n_k·μ_k·C_k) / Σ_k n_k·s_k

The rates that say most are the duals of spreading all groups over the kinds in any parts. (Fastest
times and the largest ratio of them to a kind's own are rates too: they say little of slots that few
groups suit, and nothing of memory.) Any rates are valid, so the solver's rounding harms no bound.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix

from planner.solve.assign.glue import is_memory_slack, least_load_us
from planner.solve.assign.instance import Groups, Rates
from planner.solve.lp import LinearProgram, NoVertex, minimise

GAIN = 1e-6
"""Relative: below this the bound by fastest times is as good."""
LIMIT_S, SHARE = 2.0, 0.1
"""Of the linear program, at most, and of the time: it takes 0.1 s for 3,000 groups."""


def with_rates(groups: Groups, remaining_s: float = np.inf) -> Groups:
    """The groups with the rates that bound loads best; as they are where those gain nothing."""
    if any(kind.is_unlimited or kind.capacity_bytes < 0 for kind in groups.kinds):
        return groups
    if not groups.count or len(groups.kinds) < 2:
        return groups
    found = _rates(groups, min(LIMIT_S, SHARE * remaining_s))
    if found is None:
        return groups
    rated = replace(groups, rates=found)
    return rated if least_load_us(rated) > least_load_us(groups) * (1 + GAIN) else groups


def _rates(groups: Groups, limit_s: float) -> Rates | None:
    """Duals of min T: Σ_k x_kv = 1, Σ_v t_kv·x_kv <= n_k·T, Σ_v size_kv·x_kv <= n_k·C_k, x >= 0."""
    kinds, count = len(groups.kinds), groups.count
    slots = np.array([len(kind.slots) for kind in groups.kinds], dtype=np.float64)
    room = np.array([kind.capacity_bytes for kind in groups.kinds])
    tight = np.array([not is_memory_slack(groups, k) for k in range(kinds)])
    tight &= np.isfinite(room) & (room > 0)
    k, v = np.nonzero(np.isfinite(groups.time_us))
    column = np.arange(len(k))
    scale_us = float(groups.time_us.min(axis=0).sum()) / float(slots.sum())
    if not 0 < scale_us < np.inf:
        return None
    held = tight[k]
    values = [np.ones(len(k)), groups.time_us[k, v] / scale_us, -slots]
    values.append(groups.size_bytes[k, v][held] / (slots * room)[k[held]])
    rows = [v, count + k, count + np.arange(kinds), count + kinds + k[held]]
    columns = [column, column, np.full(kinds, len(k)), column[held]]
    shape = count + 2 * kinds, len(k) + 1
    triplets = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    vertex = minimise(
        LinearProgram(
            costs=np.append(np.zeros(len(k)), 1.0),
            matrix=coo_matrix(triplets, shape=shape).tocsr(),
            rhs=np.concatenate((np.ones(count), np.zeros(kinds), np.ones(kinds))),
            lower=np.zeros(len(k) + 1),
            upper=np.full(len(k) + 1, np.inf),
            is_equality=np.arange(shape[0]) < count,
        ),
        limit_s=limit_s,
    )
    if isinstance(vertex, NoVertex):
        return None
    duals = np.maximum(-vertex.duals[count:], 0.0)
    fastest = float(duals[:kinds].max())
    if fastest <= 0:
        return None
    per_byte = np.where(tight, duals[kinds:] * scale_us / np.where(tight, slots * room, 1.0), 0.0)
    return Rates(tuple((duals[:kinds] / fastest).tolist()), tuple((per_byte / fastest).tolist()))
