"""Hand-made problems with known answers."""

from __future__ import annotations

from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
)

Table = tuple[tuple[Latency | None, ...], ...]


def flat(*expected_us: float, spread: float = 0.0) -> Table:
    """One latency a setting, one workload shape; `spread` is the interval's relative half-width."""
    return tuple((Latency(us * (1 - spread), us, us * (1 + spread)),) for us in expected_us)


def plain(tensor: str) -> State:
    """A tensor as the model declares it."""
    return State(tensor, "plain")


def q8(tensor: str) -> State:
    """A tensor as 8-bit integers."""
    return State(tensor, "q8")


SETTING = Setting("s0", (Latency(1.0, 1.0, 1.0),))


def chain(ops: int, limits: Limits | None = None, spread: float = 0.0) -> Problem:
    """x -> o0 -> o1 -> ...: each in fp32 (10 us) or int8 (4 us, error 0.001), casts for 1 us."""
    options, conversions = [], []
    for n in range(ops):
        source, target = ("x" if n == 0 else f"t{n - 1}"), f"t{n}"
        fp32, int8 = flat(10.0, spread=spread), flat(4.0, spread=spread)
        options += [
            Option(f"o{n}:fp32", (f"o{n}",), "fp32", fp32, (plain(source),), (plain(target),), 400),
            Option(
                f"o{n}:int8",
                (f"o{n}",),
                "int8",
                int8,
                (q8(source),),
                (q8(target),),
                weight_size_bytes=100,
                workspace_size_bytes=50,
                error=0.001,
            ),
        ]
    for tensor in ("x", *(f"t{n}" for n in range(ops))):
        conversions += [
            Conversion(f"quantise:{tensor}", plain(tensor), q8(tensor), flat(1.0, spread=spread)),
            Conversion(f"dequantise:{tensor}", q8(tensor), plain(tensor), flat(1.0, spread=spread)),
        ]
    return Problem(
        ops=tuple(f"o{n}" for n in range(ops)),
        edges=tuple((f"o{n}", f"o{n + 1}") for n in range(ops - 1)),
        options=tuple(options),
        settings=(SETTING,),
        conversions=tuple(conversions),
        given=(plain("x"),),
        wanted=(plain(f"t{ops - 1}"),),
        activation_size_bytes=10,
        limits=limits or Limits(),
        objectives=(Objective.LATENCY, Objective.ERROR),
    )


def interleaved() -> Problem:
    """Two convex groups {a, d} and {b, c} that wait for each other: a -> b, c -> d."""
    alone = [Option(f"{op}:alone", (op,), "fp32", flat(10.0)) for op in "abcd"]
    return Problem(
        ops=("a", "c", "b", "d"),
        edges=(("a", "b"), ("c", "d")),
        options=(
            *alone,
            Option("ad", ("a", "d"), "fp32", flat(1.0)),
            Option("bc", ("c", "b"), "fp32", flat(1.0)),
        ),
        settings=(SETTING,),
    )


def circular() -> Problem:
    """t stays inside the cheap group; only conversions that feed each other would make it up."""
    return Problem(
        ops=("a", "b", "c"),
        edges=(("a", "b"), ("a", "c")),
        options=(
            Option("ab", ("a", "b"), "fp32", flat(1.0)),
            Option("a", ("a",), "fp32", flat(10.0), makes=(plain("t"),)),
            Option("b", ("b",), "fp32", flat(10.0), needs=(plain("t"),)),
            Option("c", ("c",), "fp32", flat(1.0), needs=(plain("t"),)),
        ),
        settings=(SETTING,),
        conversions=(
            Conversion("1", plain("t"), q8("t"), flat(1.0)),
            Conversion("2", q8("t"), State("t", "f16"), flat(1.0)),
            Conversion("3", State("t", "f16"), plain("t"), flat(1.0)),
        ),
    )


def every_family() -> Problem:
    """Small, with a row of every constraint."""
    base = chain(2)
    two = tuple(
        Option(
            option.name,
            option.ops,
            option.format,
            (option.latency[0], option.latency[0] if option.format == "fp32" else (None,)),
            option.needs,
            option.makes,
            option.weight_size_bytes,
            option.workspace_size_bytes,
            option.error,
        )
        for option in base.options
    )
    return Problem(
        ops=base.ops,
        edges=base.edges,
        options=two,
        settings=(SETTING, Setting("s1", (Latency(0.5, 0.5, 0.5),), tail_factors=(1.5,))),
        conversions=tuple(
            Conversion(c.name, c.source, c.target, c.latency * 2) for c in base.conversions
        ),
        given=base.given,
        wanted=base.wanted,
        activation_size_bytes=10,
        tied=(("o0", "o1"),),
        limits=Limits(40.0, 1000, 0.01, 20_000.0, price_per_hour=5.0, query_cost=1.0, energy_j=8.0),
        objectives=(Objective.COST, Objective.LATENCY, Objective.MEMORY),
        forbidden=(frozenset({"o0:int8", "o1:fp32"}),),
    )
