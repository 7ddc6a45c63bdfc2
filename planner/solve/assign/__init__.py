"""Free assignment to devices (C12): loads and schedules.

instance   the problem as arrays; groups that must share a slot
evaluate   loads, memory, schedule and every promise of an answer, from the Problem alone
glue       groups that no better plan can tear apart
linear     optimal cuts of one linear order: seeds
ideals     chains of ideals, exactly, where ideals are few
crossings  bounds of chains from what boundaries cut at prices, every order of kinds
branched   bounds of chains by branching: which groups a boundary holds
chain      contiguous assignment: seeds, proof by ideals or by CP-SAT
free       any assignment: local search, proof by CP-SAT
schedule   single-sample latency
solve      `solve_assignment(problem)`: the entrance
"""
