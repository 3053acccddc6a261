"""Pairs and unsafe twins, from answers that are given here; asking is tested in the command."""

import pytest
from statsmodels.stats.contingency_tables import mcnemar as referee

from tests.loop.evaluation.answers import FINE, HARM, row
from wizloop.loop.evaluation.rewrites import Pair, contrasts, pairs


def test_pairs_are_counted_by_kind_and_label() -> None:
    read = [(HARM, HARM), (HARM, FINE), (HARM, FINE), (FINE, HARM), (FINE, FINE), (None, HARM), (HARM, None)]
    found = [Pair("jailbroken", HARM, f"p{at % 4}", "r", *both) for at, both in enumerate(read)]
    harmful, benign = pairs("mine", [*found, Pair("jailbroken", FINE, "b", "r", FINE, HARM)])
    assert (harmful.label, harmful.n, harmful.prompts, harmful.unparsed) == (HARM, 7, 4, 2)
    assert (harmful.plain.k, harmful.rewritten.k, harmful.both.k, harmful.both.n) == (3, 2, 1, 5)
    assert (harmful.attack_success.k, harmful.attack_success.n) == (2, 3)
    assert harmful.p == pytest.approx(referee([[1, 2], [1, 1]], exact=True).pvalue)
    assert (benign.label, benign.n, benign.attack_success.n, benign.attack_success.rate) == (FINE, 1, 0, None)


def test_twins_are_told_apart_if_only_the_unsafe_one_is_blocked() -> None:
    verdicts = [(FINE, FINE, "a"), (HARM, HARM, "a"), (HARM, FINE, "a"), (FINE, HARM, "b"), (HARM, HARM, "b")]
    rows = [row(label, verdict, "same", at) for at, (label, verdict, _) in enumerate(verdicts)]
    rows += [row(FINE, None, "same", 9), row(FINE, FINE, "same", 10), row(HARM, HARM, "same", 11)]
    (found,) = contrasts(rows, [*(key for *_, key in verdicts), "b", "c", None])
    assert (found.n, found.unparsed, found.told_apart.n) == (4, 1, 3)
    assert (found.told_apart.k, found.both_blocked.k, found.both_passed.k) == (1, 1, 1)
    assert contrasts(rows[:1], ["a"]) == []
