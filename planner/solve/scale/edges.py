"""Makes the forest of a labelled problem: whose form each consumer pays for, and how much."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from planner.ir.problem import Problem, State
from planner.solve.data import FloatArray
from planner.solve.scale.clock import look_at_clock
from planner.solve.scale.forest import Edge, Forest
from planner.solve.scale.labels import Labelled, hand_over
from planner.solve.scale.routes import Router, Routes
from planner.solve.scale.sharing import Sharing

Class = tuple[Hashable, int, int]
"""What a label leaves or wants, its place, and its store where a group must agree in it."""
ANY = ""
"""A label that leaves nothing, or wants nothing."""


def forest(
    labelled: Labelled, end: str, *, free_moves: bool = False, deadline: float = np.inf
) -> Forest:
    """Each operator's primary consumer and the costs on the way. O(options).

    Args:
        free_moves: transfers are not charged here, because stages are charged for receiving.
    """
    problem = labelled.problem
    router = Router(problem, labelled.places, labelled.row, end, free_moves=free_moves)
    sharing = Sharing(problem, labelled.covering)
    after, tensors = _primary(labelled)
    known: dict[Hashable, int] = {}
    edges: list[Edge] = []
    edge_of = np.full(labelled.ops, -1, dtype=np.int64)
    before: list[list[int]] = [[] for _ in problem.ops]
    maker = _Maker(labelled, router, sharing)
    for op, target in enumerate(after):
        look_at_clock(op, deadline)
        if target < 0:
            continue
        before[target].append(op)
        key = maker.key(op, target, tensors[op])
        if key not in known:
            known[key] = len(edges)
            edges.append(maker.edge(op, target, tensors[op]))
        edge_of[op] = known[key]
    return Forest(np.array(after, dtype=np.int64), edge_of, edges, labelled.kind_of, before)


def _primary(labelled: Labelled) -> tuple[list[int], list[str]]:
    """Next operator of each, and the tensor that is handed on (empty: none is named)."""
    problem = labelled.problem
    after = hand_over(problem)
    needed: list[set[str]] = [set() for _ in problem.ops]
    made: list[dict[str, None]] = [{} for _ in problem.ops]
    for op, members in enumerate(labelled.covering):
        for g in members:
            option = problem.options[g]
            needed[op].update(state.tensor for state in option.needs)
            if len(option.ops) == 1:
                made[op].update(dict.fromkeys(state.tensor for state in option.makes))
    tensors = []
    for op, target in enumerate(after):
        common = [t for t in made[op] if target >= 0 and t in needed[target]]
        tensors.append(common[0] if common else "")
    return after, tensors


class _Maker:
    """Makes edges."""

    def __init__(self, labelled: Labelled, router: Router, sharing: Sharing) -> None:
        self._labelled, self._router, self._sharing = labelled, router, sharing
        self._problem: Problem = labelled.problem
        self._metrics = len(self._problem.shape_weights) + 1
        known: dict[tuple[bytes, ...], int] = {}
        names = [(k.rank.tobytes(), k.place.tobytes(), k.store.tobytes()) for k in labelled.kinds]
        self._alike = [known.setdefault(name, len(known)) for name in names]
        """Equal for kinds whose labels differ in their costs only."""

    def _left(self, op: int, target: int, tensor: str) -> list[Hashable]:
        """By option: the forms it leaves, or the group it shares with the target."""
        inside = {g: rank for rank, g in enumerate(self._labelled.covering[target])}
        found: list[Hashable] = []
        for g in self._labelled.covering[op]:
            if g in inside:
                found.append(inside[g])
            else:
                found.append(_forms(self._problem.options[g].makes, tensor))
        return found

    def _wanted(self, op: int, target: int, tensor: str) -> list[Hashable]:
        """By option of the target: the group, or the form it wants."""
        shared = set(self._labelled.covering[op])
        found: list[Hashable] = []
        for rank, g in enumerate(self._labelled.covering[target]):
            if g in shared:
                found.append(rank)
            else:
                forms = _forms(self._problem.options[g].needs, tensor)
                found.append(forms[0] if forms else ANY)
        return found

    def key(self, op: int, target: int, tensor: str) -> Hashable:
        """Equal for edges that cost the same."""
        left, wanted = self._left(op, target, tensor), self._wanted(op, target, tensor)
        a, b = (self._alike[int(self._labelled.kind_of[each])] for each in (op, target))
        changes = self._router.alike(tensor) if tensor else -1
        division = self._sharing.division(tensor)
        return a, b, tuple(left), tuple(wanted), changes, division

    def edge(self, op: int, target: int, tensor: str) -> Edge:
        """Classes of labels, and what lies between them."""
        left, wanted = self._left(op, target, tensor), self._wanted(op, target, tensor)
        a, b = self._labelled.kind(op), self._labelled.kind(target)
        outs = [
            _class(left[rank], k, r)
            for rank, k, r in zip(a.rank.tolist(), a.place.tolist(), a.store.tolist(), strict=True)
        ]
        ins = [
            _class(wanted[rank], k, r)
            for rank, k, r in zip(b.rank.tolist(), b.place.tolist(), b.store.tolist(), strict=True)
        ]
        out_ids = {name: n for n, name in enumerate(dict.fromkeys(outs))}
        in_ids = {name: n for n, name in enumerate(dict.fromkeys(ins))}
        leaves = np.array([out_ids[name] for name in outs], dtype=np.int64)
        order = np.argsort(leaves, kind="stable")
        starts = np.searchsorted(leaves[order], np.arange(len(out_ids)))
        routes = None
        if tensor:
            forms = _all_forms(left, wanted)
            routes = self._router.routes(tensor, forms, self._sharing.division(tensor))
        costs = self._costs(list(out_ids), list(in_ids), routes)
        possible = np.isfinite(costs[0])
        wants = np.array([in_ids[name] for name in ins], dtype=np.int64)
        return Edge(order, starts, leaves, wants, np.where(possible, costs, 0.0), possible)

    def _costs(self, outs: list[Class], ins: list[Class], routes: Routes | None) -> FloatArray:
        """What it takes from one class to another: (metrics, outs, ins)."""
        costs = np.full((self._metrics, len(outs), len(ins)), np.inf)
        column = {name: j for j, name in enumerate(ins)}
        for i, name in enumerate(outs):
            if isinstance(name[0], int) and name in column:
                costs[:, i, column[name]] = 0.0
        for left, rows in _by_form(outs).items():
            for wanted, columns in _by_form(ins).items():
                block = np.ix_(range(self._metrics), rows, columns)
                if wanted == ANY or routes is None:
                    costs[block] = 0.0
                elif isinstance(left, tuple) and left:
                    k = np.array([outs[i][1] for i in rows])[:, None]
                    j = np.array([ins[i][1] for i in columns])[None, :]
                    target = routes.forms[str(wanted)]
                    each = [routes.times[:, k, routes.forms[f], j, target] for f in left]
                    costs[block] = np.minimum.reduce(each)
        return costs


def _by_form(classes: Sequence[Class]) -> dict[Hashable, list[int]]:
    """Numbers of the classes by form; groups are left out."""
    found: dict[Hashable, list[int]] = {}
    for number, (what, _, _) in enumerate(classes):
        if not isinstance(what, int):
            found.setdefault(what, []).append(number)
    return found


def _forms(states: Iterable[State], tensor: str) -> tuple[str, ...]:
    return tuple(state.form for state in states if state.tensor == tensor)


def _all_forms(left: Iterable[Hashable], wanted: Iterable[Hashable]) -> tuple[str, ...]:
    """Every form that is named, in a stable order."""
    found = {str(form): None for forms in left if isinstance(forms, tuple) for form in forms}
    found.update({form: None for form in wanted if isinstance(form, str) and form != ANY})
    return tuple(found)


def _class(what: Hashable, place: int, store: int) -> Class:
    """Labels of one class are alike on an edge; groups agree in their store as well."""
    return (what, place, store if isinstance(what, int) else 0)
