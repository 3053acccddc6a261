"""What prompts share is found, and nothing of them is lost."""

import pytest

from wizloop.backends.guard_base import groups, with_longest_prefix
from wizloop.backends.guard_types import Encoded

Plain = list[tuple[tuple[int, ...], tuple[int, ...]]]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([((1, 2), (5, 6, 7)), ((1, 2), (5, 6, 8, 9))], [((1, 2, 5, 6), (7,)), ((1, 2, 5, 6), (8, 9))]),
        ([((), (5, 1)), ((), (5, 2)), ((), (5, 1, 3))], [((5,), (1,)), ((5,), (2,)), ((5,), (1, 3))]),
        ([((1,), (5, 6)), ((1,), (5, 6))], [((1, 5), (6,)), ((1, 5), (6,))]),
        ([((1,), (5, 6)), ((1,), (5, 6, 7))], [((1, 5), (6,)), ((1, 5), (6, 7))]),
        ([((1,), (5, 6)), ((1,), (4, 6))], [((1,), (5, 6)), ((1,), (4, 6))]),
        ([((1,), (5, 6)), ((2,), (5, 6))], [((1,), (5, 6)), ((2,), (5, 6))]),
        ([((1,), (5, 6))], [((1,), (5, 6))]),
        ([], []),
    ],
)
def test_what_all_bodies_begin_with_belongs_to_the_prefix(given: Plain, found: Plain) -> None:
    longer = with_longest_prefix([Encoded(shared, body, cut=3) for shared, body in given])
    assert [(one.shared, one.body) for one in longer] == found
    assert all(one.cut == 3 for one in longer)


def test_groups_end_where_padding_would_cost_more_than_it_keeps_busy() -> None:
    prompts = [Encoded((1,), (5,) * length) for length in (10, 40, 11, 12, 41, 13)]
    assert list(groups(prompts, rows=8, tokens=30)) == [[0, 2, 3], [5], [1, 4]]
    assert list(groups(prompts, rows=2, tokens=30)) == [[0, 2], [3, 5], [1, 4]]


def test_rows_of_equal_length_only_share_a_group_where_asked() -> None:
    prompts = [Encoded((1,), (5,) * length) for length in (10, 11, 10, 10)]
    assert list(groups(prompts, rows=2, equal=True)) == [[0, 2], [3], [1]]
