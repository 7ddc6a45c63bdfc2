"""The joint optimisation: from a `Problem` to a `Solution` with its certificate.

A tour, in reading order:
    formulation   sets, data, variables and the whole formulation on one page
    constraints   C1, C4, C5, ...: one function a constraint, its formula first
    render        prints any problem as LP-like text, row by row
    validate      refuses a problem that makes no sense, naming the thing
    solve         `solve(problem)`: settings, seeds, bounds, search, proof
    presolve, seeds, relax, search, cpsat, highs    the parts `solve` is made of
    check         re-prices and re-verifies every answer, free of any solver
    explain       runner-ups, binding limits and their prices; conflict: why nothing is feasible
    pareto        the exact frontier between two objectives

Status is a returned value: this floor raises only for a problem that makes no sense.
"""
