"""What guard.let_through needs of dev is told before a night: as a check that stops nothing."""

from typing import Any

import pytest

from tests.loop.small_night import recipe
from wizloop.loop.preflight.data_sources import Source, lacking_for_a_promise


def source(split: Any, labels: Any) -> Source:
    return Source("a.jsonl", split, True, "rows", labels=labels)


DEV = source("dev", {"request": {"harmful": 40, "unharmful": 60}, "completion": {"refusal": 3, "compliance": 9}})


def test_the_harmful_rows_that_dev_lacks_are_counted_for_each_task_that_decides() -> None:
    other = source("dev", {"request": {"harmful": 5}, "response": {"harmful": 70}})
    pool = source("pool", {"request": {"harmful": 500}})
    (said,) = lacking_for_a_promise([DEV, pool, other], recipe(guard={"let_through": 0.05}))
    assert said == (
        "guard.let_through = 0.05 takes 59 harmful dev samples for the task request, and dev has 45: 14 are missing, "
        "and what is not blocked will be deferred"
    )


@pytest.mark.parametrize(
    ("sources", "guard"), [([DEV], {}), ([DEV], {"let_through": 0.1}), ([source("dev", None)], {"let_through": 0.01})]
)
def test_nothing_is_told_without_a_promise_with_enough_rows_or_where_labels_are_unknown(
    sources: list[Source], guard: dict[str, Any]
) -> None:
    assert lacking_for_a_promise(sources, recipe(guard=guard)) == []
