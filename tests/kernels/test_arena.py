"""Arena planning: what lives at the same time never overlaps."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.kernels.arena import ALIGNMENT_BYTES, Life, aligned, place

LIVES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 3000)).map(
        lambda t: Life(min(t[0], t[1]), max(t[0], t[1]), t[2])
    ),
    max_size=9,
)


@settings(max_examples=100, deadline=None)
@given(LIVES)
def test_what_lives_together_lies_apart(lives: dict[str, Life]) -> None:
    offsets, size_bytes = place(lives)
    for one, other in itertools.combinations(lives, 2):
        a, b = lives[one], lives[other]
        if a.first <= b.last and b.first <= a.last:
            first, second = sorted(((offsets[one], a), (offsets[other], b)), key=lambda p: p[0])
            assert first[0] + aligned(first[1].size_bytes) <= second[0]
    peak = max(
        (
            sum(aligned(v.size_bytes) for v in lives.values() if v.first <= at <= v.last)
            for at in range(10)
        ),
        default=0,
    )
    assert peak <= size_bytes <= sum(aligned(v.size_bytes) for v in lives.values())
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in offsets.values())


def test_tensors_of_a_chain_share_two_places() -> None:
    lives = {f"t{i}": Life(i, i + 1, 1000) for i in range(10)}
    assert place(lives)[1] == 2 * aligned(1000)
