"""Pairwise choice under memory over time: one option per node, costs on nodes and edges.

What sharding planners solve (Alpa, XLA's auto-sharding, the ASPLOS 2025 contest). Reading order:
    data        the problem as arrays; `check` re-prices any plan from it alone
    presolve    what follows something else is merged (`contract`), moments and options that
                cannot matter are dropped (`memory`); `rebuild` makes every smaller problem
    messages    TRW-S; `bound` turns messages and memory prices into a proof in integers
    dual        the loop: messages, plans (`decode`, `forests`), prices (`master`)
    linear      the rest, exactly, by HiGHS and CP-SAT
    solve       `solve_pairwise(problem)`
    adapt       planning problems (`ir.Problem`) of this structure, and back
"""
