"""Plans for devices that are not here: read, offered, posed, searched, written down.

The story of this package, a file a step; `dispatch.plan_elsewhere` is the way in:

    target    which device, which machine, how many
    offers    groups, formats and options: one Problem for the solver
    search    the fewest devices, and the alternatives people ask about
    document  plan.json, with where the time and the memory go
"""
