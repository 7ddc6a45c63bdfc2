"""Weights that no session keeps: fetched one part ahead, let go when their part has run.

    mapped    a file of weights in the address space, its pages there or not
    on_device the same for a GPU: page-locked host memory, and two places on the device
    stream    who fetches what when: two parts' weights at a time, never more
    session   an engine of such parts; one call at a time

Why two: while one part computes, the weights of the next arrive. A third would take memory that the
plan has not counted and hide nothing more, since one link carries all of them in order.
"""
