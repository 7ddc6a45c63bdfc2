"""The planning problem as numbers and names: what may be chosen, what it costs, what must hold.

Sets        O  operators            G  options: a group of operators with a variant (format, kernel)
            T  tensor states        V  conversions between states
            S  settings: plan-wide choices (threads, graph level, ...), exactly one is used
            W  workload shapes, each with a weight
            K  places: device type x tensor-parallel degree      P  pipeline stages, in order
            R  stores of weights: host, peer
Data        latency_us[g][s][w]   None where option g does not exist under setting s
            size_bytes[g], error[g], needs[g] ⊆ T, makes[g] ⊆ T, place[g] ∈ K

Everything but operators, options and settings is optional. Three shapes of problem share it:
    one device        no places: C1, C4, C5, C8, C9, C10, pair costs, memory over time
    pipeline          `places` and `stages`: C1 to C11
    free assignment   `places` and `assignment`: C12
`docs/method.md` says which field belongs to which constraint; the formulation stands in
`planner/solve`, one function a constraint (C1, C4, ...).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from planner.ir.assignment import Assignment
from planner.ir.devices import Device, Hold, Link, Place, Store


class Objective(StrEnum):
    """What is minimised; a problem holds a sequence, minimised lexicographically."""

    LATENCY = "latency"
    """Weighted expected latency over the workload, microseconds."""
    MEMORY = "memory"
    """Bytes in use on the fullest device."""
    ERROR = "error"
    """Sum of error contributions (NMSE at the outputs)."""
    COST = "cost"
    """Price per hour: the setting's, the devices' and the stores'."""
    ENERGY = "energy"
    """Joules per inference."""
    DEVICES = "devices"
    """Number of devices (C11)."""
    PERIOD = "period"
    """Time of the slowest stage or device, microseconds: one over the throughput (C9)."""
    QUERY_COST = "query_cost"
    """Price of one inference: price per hour times period (C11)."""


@dataclass(frozen=True, slots=True)
class State:
    """A tensor in one form: `plain` as the model declares it, else a format or layout like `q8`."""

    tensor: str
    form: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds: the ends of a 95 % interval and what is expected."""

    low_us: float
    expected_us: float
    high_us: float


@dataclass(frozen=True, slots=True)
class Option:
    """A group of operators with a variant: the thing the solver may choose (x[g,k])."""

    name: str
    """Unique and stable across runs."""
    ops: tuple[str, ...]
    """Names of the operators it computes; a convex set."""
    format: str
    latency: tuple[tuple[Latency | None, ...], ...]
    """`latency[setting][shape]`; None where this option does not exist under that setting."""
    needs: tuple[State, ...] = ()
    """Tensor states it reads (constants are not listed)."""
    makes: tuple[State, ...] = ()
    """Tensor states it leaves behind for others."""
    weight_size_bytes: int = 0
    workspace_size_bytes: int = 0
    """Scratch memory while it runs; groups run one after the other, so only the largest counts."""
    error: float = 0.0
    """Contribution to the NMSE of the model's outputs."""
    energy_j: float = 0.0
    place: str | None = None
    """Name of the `Place` it is made for; None: it exists everywhere, at the same cost. All bytes
    and latencies are those of one device of that place (one rank)."""
    holds: tuple[Hold, ...] = ()
    """Activations it keeps in memory, over time (C4)."""
    cache_size_bytes: int = 0
    """KV cache and other state: resident wherever the weights live."""
    stores: tuple[str, ...] | None = None
    """Stores its weights may stream from (C7); None: all that reach the device."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """An optional operation that makes one tensor state from another (C5): a cast, a collective.

    Paid once per state, and on each stage that wants the state and does not receive it.
    """

    name: str
    source: State
    target: State
    latency: tuple[tuple[Latency | None, ...], ...]
    place: str | None = None
    """Name of the `Place` it exists at; None: everywhere."""
    energy_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """An optional operation that brings a state to a later stage, paid once a destination (C6).

    It takes the time of the link between the two stages' device types, on the receiving stage.
    """

    name: str
    source: State
    """On the earlier stage."""
    target: State
    """On the later one; the same tensor."""
    size_bytes: tuple[int, ...]
    """What crosses, per workload shape."""
    holds: tuple[Hold, ...] = ()
    """Memory of the copy, on each device of the destination."""
    energy_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """What two choices cost together: the matrix form of C5.

    Row-major: `latency_us[i * n + j]` for the i-th option that computes `first` and the j-th of the
    n options that compute `second`, in the order of `Problem.options`. Infinite: forbidden. Added
    to every shape's latency (all ends), and to the stage that runs `second`. Pairs of the same two
    operators add up.
    """

    first: str
    second: str
    latency_us: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A plan-wide choice (threads, graph level, ...) with what it costs by itself."""

    name: str
    overhead: tuple[Latency, ...]
    """Per workload shape: call overhead that belongs to no option."""
    size_bytes: int = 0
    price_per_hour: float = 0.0
    tail_factors: tuple[float, ...] = ()
    """Per workload shape: latency at the SLO's percentile divided by the expected latency,
    measured; >= 1 (C8). None given: all 1."""
    tail_low_factors: tuple[float, ...] = ()
    """The same at the lower end of what is believed, where it proves that nothing keeps an SLO.
    None given: as above."""

    def tail(self, shape: int, *, is_low: bool = False) -> float:
        """The tail factor of one workload shape, at the lower end or not."""
        factors = (is_low and self.tail_low_factors) or self.tail_factors
        return factors[shape] if factors else 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold; None means no limit. Each field is one of the user's own requests."""

    latency_us: float | None = None
    """Upper end of every workload shape's latency at the SLO's percentile (C8)."""
    memory_size_bytes: int | None = None
    """Per device: resident weights + peak activations + largest workspace + the setting's own +
    slots (C4). A device's own capacity holds besides."""
    error: float | None = None
    """Sum of error contributions (C10)."""
    throughput_per_s: float | None = None
    """Inferences per second of one engine: weighted expected time of the slowest stage
    <= 1 / rate (C9)."""
    devices: int | None = None
    """Devices in use, all types together (C11)."""
    price_per_hour: float | None = None
    """Price of setting, devices and stores (C11)."""
    query_cost: float | None = None
    """Price per hour times period, per inference (C11)."""
    energy_j: float | None = None
    """Per inference."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Choose options that cover every operator exactly once, under one setting, within limits."""

    ops: tuple[str, ...]
    """Operator names in topological order."""
    edges: tuple[tuple[str, str], ...]
    """(producer op, consumer op)."""
    options: tuple[Option, ...]
    settings: tuple[Setting, ...]
    shape_weights: tuple[float, ...] = (1.0,)
    """How often each workload shape runs per inference: the weighted latency is their weighted
    sum (prefill x1 + decode x128 has the weights 1 and 128; shares add up to 1)."""
    conversions: tuple[Conversion, ...] = ()
    given: tuple[State, ...] = ()
    """States available without anybody making them: the model's inputs."""
    wanted: tuple[State, ...] = ()
    """States that must exist in the end: the model's outputs."""
    activation_size_bytes: int = 0
    """Bytes that every device holds whatever is chosen: peak of live activations (upper bound)
    where options carry no `holds`, and anything fixed."""
    tied: tuple[tuple[str, ...], ...] = ()
    """Groups of operator names that must share one format (repeated blocks, shared weights)."""
    limits: Limits = field(default_factory=Limits)
    objectives: tuple[Objective, ...] = (Objective.LATENCY, Objective.ERROR)
    forbidden: tuple[frozenset[str], ...] = ()
    """No-good cuts: sets of option names that must not all be chosen together."""
    places: tuple[Place, ...] = ()
    """Where stages may run; none: one device, and the setting says which."""
    devices: tuple[Device, ...] = ()
    """Types of the places."""
    links: tuple[Link, ...] = ()
    """What connects stages; types without a link cannot follow each other with data between."""
    stages: int = 1
    """At most this many pipeline stages (C2, C3); one where there are no places."""
    stores: tuple[Store, ...] = ()
    """Where weights may live besides the devices (C7)."""
    transfers: tuple[Transfer, ...] = ()
    pairs: tuple[Pair, ...] = ()
    repeatable: frozenset[str] = frozenset()
    """Operators that may be computed more than once: C1 is >= 1 for them. Only where there are
    places."""
    assignment: Assignment | None = None
    """Free assignment to devices (C12) in place of stages."""
