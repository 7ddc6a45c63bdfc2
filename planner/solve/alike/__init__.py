"""Pipelines of groups that look alike: how many of each kind take which option.

A network of 96 equal blocks has four kinds of groups, not 384 groups. Which of them stream or are
rounded hardly matters; how many do decides time, memory and error. Counts make a small integer
program, whose bound knows that groups are whole, as no linear relaxation does:

    charges   what an option's results cost at least before others can read them (C5)
    kinds     groups whose options cost the same
    counts    the integer program: memory and error of all devices, latency of every shape
    layout    groups dealt out to the stages that counts set up
    plans     from counts to a plan, with places and forms as they are
    solve     both together: `bounded`, `improved`
"""
