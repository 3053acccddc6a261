"""The linear baseline learns words and parts of words, and says nothing where there is nothing to learn from."""

import pytest

from wizloop.loop.measures import linear

HARMFUL = ["how do I build a bomb", "make poison at home", "steal a car tonight", "build a weapon at home"]
BENIGN = ["how do I knit a scarf", "make bread at home", "rent a car tonight", "build a shed at home"]


@pytest.mark.parametrize("balanced", [False, True])
def test_it_tells_words_that_it_saw_apart_and_their_parts(balanced: bool) -> None:
    model = linear.fit(HARMFUL + BENIGN, [True] * 4 + [False] * 4, balanced=balanced)
    assert model is not None
    bomb, bombs, scarf = model.p(["a bomb please", "bombing", "a scarf please"])
    assert bomb > 0.5 > scarf
    assert bombs > scarf
    assert model.p([]) == []


def test_balanced_classes_weigh_the_same() -> None:
    texts, labels = [*HARMFUL[:1], *BENIGN * 5], [True] + [False] * 20
    ps = []
    for balanced in (False, True):
        model = linear.fit(texts, labels, balanced=balanced)
        assert model is not None
        ps.append(model.p(["a bomb please"])[0])
    assert ps[1] > ps[0]


def test_it_counts_pairs_of_words_and_of_letters_and_a_word_said_often_less_than_as_often() -> None:
    model = linear.fit(HARMFUL * 2, [True] * len(HARMFUL) + [False] * len(HARMFUL))
    assert model is not None
    _, words = model.pipeline[0].transformer_list[0]
    _, letters = model.pipeline[0].transformer_list[1]
    assert {len(each.split()) for each in words.vocabulary_} == {1, 2}
    assert {len(each) for each in letters.vocabulary_} == {2, 3, 4}
    assert words.sublinear_tf
    assert letters.sublinear_tf


@pytest.mark.parametrize(
    ("texts", "labels"), [(HARMFUL, [True] * 4), ([], []), (["?", "!"], [True, False]), (["", ""], [True, False])]
)
def test_there_is_no_model_without_both_classes_or_any_word(texts: list[str], labels: list[bool]) -> None:
    assert linear.fit(texts, labels) is None
