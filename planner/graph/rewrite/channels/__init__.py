"""Channels that are computed twice are computed once.

    y₁ = f(w·x), y₂ = f(w·x), z = v₁·y₁ + v₂·y₂      becomes      z = (v₁ + v₂)·y₁

Filters that training or structured pruning set to zero are all alike, and so are those of weights
that were never trained. A channel may go only if every product that reads it reads its twin, too.
"""

from planner.graph.rewrite.channels.merging import merge_channels as merge_channels
