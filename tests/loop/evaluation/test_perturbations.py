"""Perturbations of a text: what each does, that a person reads the same, and that a seed gives the same again."""

import unicodedata
from collections.abc import Callable

import pytest

from wizloop.loop.evaluation.perturbations import HOMOGLYPHS, LEET, PERTURBATIONS, ZERO_WIDTH, chosen, perturbed

TEXT = "How do I bake the finest bread, and don't burn it?"
MANY = (
    " ".join(f"{word}{word}" for word in ["apple", "bread", "cake", "tomato", "salt", "pepper", "onion", "carrot"]) * 20
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("upper", "HOW DO I BAKE THE FINEST BREAD, AND DON'T BURN IT?"),
        ("lower", "how do i bake the finest bread, and don't burn it?"),
        ("title", "How Do I Bake The Finest Bread, And Don't Burn It?"),
        ("double-spaces", "How  do  I  bake  the  finest  bread,  and  don't  burn  it?"),
    ],
)
def test_what_draws_nothing_does_as_it_is_called(name: str, expected: str) -> None:
    assert perturbed(name, TEXT, 1) == expected


@pytest.mark.parametrize(
    ("name", "restored"),
    [
        ("upper", str.casefold),
        ("lower", str.casefold),
        ("title", str.casefold),
        ("random-case", str.casefold),
        ("double-spaces", lambda text: " ".join(text.split())),
        ("newlines", lambda text: " ".join(text.split())),
        ("letters", lambda text: text.replace(" ", "")),
        ("leetspeak", lambda text: text.translate(LEET)),
        ("homoglyphs", lambda text: text.translate(HOMOGLYPHS)),
        ("zero-width", lambda text: text.replace(ZERO_WIDTH, "")),
        ("punctuation", lambda text: text.replace(".", "")),
    ],
)
def test_the_text_changes_and_can_be_restored(name: str, restored: Callable[[str], str]) -> None:
    for seed in range(5):
        assert perturbed(name, TEXT, seed) != TEXT
        assert restored(perturbed(name, TEXT, seed)) == restored(TEXT)


def test_a_typo_keeps_the_ends_of_a_word_and_about_its_length() -> None:
    words = MANY.split()
    after = perturbed("typos", MANY, 3).split()
    assert len(after) == len(words)
    assert all(
        old[0] == new[0] and old[-1] == new[-1] and abs(len(old) - len(new)) < 2
        for old, new in zip(words, after, strict=True)
    )
    assert {len(new) - len(old) for old, new in zip(words, after, strict=True)} == {-1, 0, 1}


@pytest.mark.parametrize("name", ["letters", "leetspeak", "homoglyphs", "zero-width", "punctuation", "typos"])
def test_about_half_of_the_words_are_changed(name: str) -> None:
    gap = "  " if name == "letters" else " "
    after = perturbed(name, MANY.replace(" ", gap), 7).split(gap)
    kept = sum(old == new for old, new in zip(MANY.split(" "), after, strict=True))
    assert 0.3 < kept / len(after) < 0.7


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_same_seed_gives_the_same_text_and_another_one_another(name: str) -> None:
    assert perturbed(name, MANY, 1) == perturbed(name, MANY, 1)
    assert (perturbed(name, MANY, 1) == perturbed(name, MANY, 2)) == (
        name in ("upper", "lower", "title", "double-spaces")
    )


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("text", ["", " ", "?", "\n\n", "\U0001f600", "a", "\ud7ff"])
def test_any_text_can_be_perturbed(name: str, text: str) -> None:
    assert len(perturbed(name, text, 1)) <= 2 * len(text)


def test_a_script_without_case_or_spaces_is_left_as_it_is() -> None:
    text = "如何烤面包"
    same = {name for name in PERTURBATIONS if perturbed(name, text, 1) == text}
    assert same == {"upper", "lower", "title", "random-case", "double-spaces", "newlines", "leetspeak", "homoglyphs"}


def test_homoglyphs_are_of_another_script() -> None:
    assert all(unicodedata.name(chr(to)).startswith("CYRILLIC") for to in HOMOGLYPHS.values())
    assert all(unicodedata.name(chr(at)).startswith("LATIN") for at in HOMOGLYPHS)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("upper", ("upper",)),
        ("typos,upper", ("upper", "typos")),
        ("Spacing , upper", ("upper", "double-spaces", "newlines", "letters")),
        ("all", tuple(PERTURBATIONS)),
    ],
)
def test_names_and_families_can_be_chosen(names: str, expected: tuple[str, ...]) -> None:
    assert chosen(names) == expected


@pytest.mark.parametrize(
    ("names", "said"), [("leetspek", "did you mean 'leetspeak'"), (",", "no perturbation is named")]
)
def test_a_name_that_is_none_is_refused(names: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        chosen(names)
