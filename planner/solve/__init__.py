"""The joint optimisation: from a `Problem` to a `Solution` with its certificate.

A tour, in reading order:
    formulation  sets, data, variables and the whole formulation on one page (`data`: as arrays)
    constraints  C1, C4, C5, ...: one function a constraint, its formula first
    render       prints any problem as LP-like text, row by row
    validate     refuses a problem that makes no sense, naming the thing
    solve        `solve(problem)`: settings, objectives in order, proof, the final check
    presolve     options that cannot be missed; `seeds`: first plans without a solver
    relax        bounds proved by our own arithmetic; infeasibility too
    search       one setting's search by reduced cost; the incumbent is kept here
    support      cuts for choices that can never run
    cpsat, highs the solvers, behind `backend`; nothing they say is believed unchecked
    check        re-prices and re-verifies every answer, free of any solver
    explain      runner-ups (`neighbours`), binding `limits` and their prices, minimal conflicts
    pareto       the exact frontier between two objectives

Status is a returned value: this floor raises only for a problem that makes no sense.
"""
