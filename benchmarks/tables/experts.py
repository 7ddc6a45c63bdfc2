"""Rows that time one fused layer of experts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.tables.precision import format_of
from benchmarks.tables.rows import Row, UnpredictableError, refuse_empty
from planner.cost.work import Experts

_NAME = re.compile(r"(?i)(?<![a-z])(?:fused_?)?(?:moe|experts?)(?![a-z])")
_ONE_PART = re.compile(
    r"(?i)gate|rout|top_?k_?soft|align|sort|permut|dispatch|combine|all_?to_?all"
)
"""Words of what is a part of such a layer."""
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "tokens": ("num_tokens", "tokens", "m"),
    "hidden": ("hidden_size", "hidden", "hidden_dim", "k"),
    "inner": (
        *("inter_size", "moe_inter_size", "intermediate_size", "moe_intermediate_size"),
        *("inter", "inner", "ffn", "ffn_dim", "n"),
    ),
    "active": ("topk", "top_k", "active_experts", "experts_per_token", "num_experts_per_tok"),
    "experts": ("num_experts", "experts", "n_experts", "e"),
    "shared": ("moe_tp_size", "moe_tp", "tp_size", "tp"),
    "spread": ("moe_ep_size", "moe_ep", "ep_size", "ep"),
}
"""What a layer's price depends on -> its names, those of vLLM's tuning files (E, N, K, M) among
them."""


def expert_layer(row: Row, sizes: Mapping[str, int]) -> Experts | None:
    """The layer of experts that a row times; None where its name means none.

    Args:
        sizes: that its name states, by lower case.

    Raises:
        UnpredictableError: they do not fit each other.
    """
    if not _NAME.search(row.model) or _ONE_PART.search(re.sub(r"\w+\s*=\S+", "", row.model)):
        return None
    stated = dict(re.findall(r"(\w+)\s*[=:]\s*(\d+)\b", row.params.lower()))
    known = {**{name: int(text) for name, text in stated.items()}, **sizes}
    found = {
        key: next((known[name] for name in names if name in known), 0)
        for key, names in _SPELLINGS.items()
    }
    if not all(found[name] for name in ("hidden", "inner", "active", "experts")):
        return None
    tokens = found["tokens"] or row.number("batch")
    shared, spread = found["shared"] or row.number("tp", 1), found["spread"] or 1
    refuse_empty(tokens, found["inner"] // shared, found["experts"] // spread)
    if found["active"] > found["experts"]:
        raise UnpredictableError("more experts a token than there are")
    return Experts(
        tokens=tokens,
        calls=-(-tokens * found["active"] // spread),
        hidden=found["hidden"],
        inner=found["inner"] // shared,
        experts=found["experts"] // spread,
        is_gated=re.search(r"gated=f|not_gated|non_gated", row.params.lower()) is None,
        format=format_of(row.precision, row.sparsity),
    )
