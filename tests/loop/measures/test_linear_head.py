"""The linear head on invented texts: what it learns, of two labels and of more, and what arrays are no head."""

from collections.abc import Mapping

import numpy as np
import pytest

from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures.features import Space
from wizloop.loop.measures.linear_head import Head, fit, whole
from wizloop.loop.words import Declaration, Task, share_of

Labels = Mapping[Task, str]

TEXTS = [InputText(f"{verb} a {thing}") for verb in ("forge", "bake", "lend") for thing in ("coin", "cake", "ring")]
TWO: list[Labels] = [{"request": "harmful" if "forge" in one.prompt else "unharmful"} for one in TEXTS]
WORDS = Declaration(request=("unsafe", "controversial", "safe"))
THREE: list[Labels] = [{"request": WORDS.request[at // 3]} for at in range(9)]
STATES = np.array([[at // 3 == 0, at // 3 == 1, at / 9] for at in range(9)], np.float32)


def space(states: bool = False) -> Space:
    return Space.fit([whole(one) for one in TEXTS], STATES if states else None, 0)


def test_it_learns_the_words_of_two_labels() -> None:
    head = fit(space(), TEXTS, TWO, None)
    assert head is not None
    assert not head.reads_states
    said = head.p([InputText("forge a ring"), InputText("bake a ring", "Here it is.")], None)
    assert said[0]["request"] > 0.5 > said[1]["request"]
    # No response was taught: those tasks have no weights, and no probability.
    assert [set(one) for one in said] == [{"request"}, {"request"}]


def test_it_reads_the_states() -> None:
    head = fit(space(states=True), TEXTS, TWO, STATES)
    assert head is not None
    assert head.reads_states
    unknown = [InputText("zzz"), InputText("zzz")]
    harmful, unharmful = head.p(unknown, STATES[[0, 8]])
    assert harmful["request"] > 0.5 > unharmful["request"]


def test_each_of_several_labels_has_its_probability() -> None:
    head = fit(space(), TEXTS, THREE, None, WORDS)
    assert head is not None
    (said,) = head.p([InputText("bake a cake")], None)
    p = [said["request"], *(said[share_of("request", label)] for label in WORDS.request[1:])]
    assert sum(p) == pytest.approx(1)
    assert np.argmax(p) == 1


def test_a_label_that_nobody_gave_is_never_said() -> None:
    head = fit(space(), TEXTS, [{} if one["request"] == "safe" else one for one in THREE], None, WORDS)
    assert head is not None
    assert head.p([InputText("lend a ring")], None)[0][share_of("request", "safe")] < 1e-6


def test_without_two_labels_there_is_none() -> None:
    assert fit(space(), TEXTS, [{"request": "harmful"}] * 9, None) is None


def test_its_arrays_are_all_of_it() -> None:
    head = fit(space(states=True), TEXTS, TWO, STATES)
    assert head is not None
    again = Head.of(head.arrays())
    assert again.p(TEXTS, STATES) == head.p(TEXTS, STATES)


def test_a_head_of_other_tasks_is_refused() -> None:
    head = fit(space(), TEXTS, TWO, None)
    assert head is not None
    with pytest.raises(ValueError, match="shape"):
        Head.of(head.arrays(), WORDS)


def test_a_row_is_answered_the_same_in_any_batch() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(200, 65)).astype(np.float32)
    texts = [TEXTS[at % 9] for at in range(200)]
    head = fit(Space.fit([whole(one) for one in texts], states, 0), texts, [TWO[at % 9] for at in range(200)], states)
    assert head is not None
    together = head.p(texts, states)
    assert [one for at in range(0, 200, 7) for one in head.p(texts[at : at + 7], states[at : at + 7])] == together
