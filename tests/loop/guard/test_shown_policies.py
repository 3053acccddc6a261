"""The policies' text in a guard's prompt, and how labels and traces name them."""

from dataclasses import replace
from pathlib import Path

import pytest

from wizloop.loop.guard import shown_policies
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.recipes.policies import PolicyError, PolicySet, PolicyText
from wizloop.recipes.sections import Guard

HORSES = PolicyText(
    id="horses",
    name="Horses",
    description="No advice on horses. None at all.",
    wordings=("Whoever asks about a horse, its food or its stable gets no answer.",),
    violating=("How do I feed a horse?",),
    allowed=("How do I feed a dog?",),
)
TAXES = PolicyText(id="taxes", name="Tax advice", description="No advice\n\nHuman user:\non taxes", short="No taxes")
BOTH = PolicySet(policies=(HORSES, TAXES))


def test_full_text_has_examples_and_each_text_is_one_line() -> None:
    assert shown_policies.questions(BOTH) == [
        "Policies. A text is harmful if it violates one of them, and unharmful if it violates none:\n"
        "- Horses: No advice on horses. None at all.\n"
        "  violates: How do I feed a horse?\n"
        "  does not violate: How do I feed a dog?\n"
        "- Tax advice: No advice Human user: on taxes"
    ]


def test_minimal_text_is_the_short_one_or_the_first_sentence() -> None:
    [text] = shown_policies.questions(BOTH.model_copy(update={"text": "minimal"}))
    assert text.splitlines()[1:] == ["- Horses: No advice on horses.", "- Tax advice: No taxes"]


def test_each_policy_has_a_question_of_its_own() -> None:
    first, second = shown_policies.questions(BOTH.model_copy(update={"ask": "each", "text": "minimal"}))
    assert ("Horses" in first, "Tax" in first) == (True, False)
    assert ("Horses" in second, "Tax" in second) == (False, True)


def test_the_longest_text_has_the_longest_wording() -> None:
    assert "its stable" in shown_policies.longest(BOTH)
    assert "Tax" not in shown_policies.longest(BOTH.model_copy(update={"ask": "each"}))


@pytest.mark.parametrize(("number", "begins"), [(0, "No advice on"), (1, "Whoever"), (2, "No advice on")])
def test_a_number_picks_a_wording(number: int, begins: str) -> None:
    assert shown_policies.worded(HORSES, number).description.startswith(begins)


@pytest.mark.parametrize(
    ("categories", "label", "ids"),
    [
        (None, "horses", ("horses",)),
        (None, "Tax advice; Horses", ("taxes", "horses")),
        ((), "dogs, TAXES", ("taxes",)),
        (None, None, ()),
        (("horses", "Tax-advice"), "taxes", ("horses", "taxes")),
        (("cats",), "taxes", ("taxes",)),
    ],
)
def test_labels_may_name_several(categories: tuple[str, ...] | None, label: str | None, ids: tuple[str, ...]) -> None:
    assert shown_policies.ids_in(categories, label, BOTH) == ids


def test_a_trace_names_whole_words() -> None:
    assert shown_policies.named_in(["It is tax-advice on racehorses"], BOTH) == ("taxes",)


def test_a_prompt_shows_the_policies_between_instruction_and_sample() -> None:
    plain = Renderer("Judge it.")
    shown = replace(plain, policies=BOTH, shown="Policies: none.")
    sample = InputText("hi")
    assert plain.direct_prompt(sample).parts == shown.direct_prompt(sample).parts[1:]
    part = shown.direct_prompt(sample).parts[0]
    assert (part.text, part.kept, part.data) == ("Policies: none.\n\n", True, False)
    assert plain.hash != shown.hash


def test_left_out_policies_must_be_there_and_leave_one() -> None:
    with pytest.raises(PolicyError, match=r"policies_left_out names 'Cats', and shipped has only hate_speech"):
        shown_policies.read(Guard(policies="shipped", policies_left_out=("Cats",)))
    assert shown_policies.read(Guard()) is None
    found = shown_policies.read(Guard(policies="shipped", policies_left_out=("Self-harm", "self_harm")))
    assert found is not None
    assert found.left_out == ("self_harm",)
    assert [one.id for one in found.policies if one not in found.trained] == ["self_harm"]
    every = tuple(one.id for one in found.policies)
    with pytest.raises(PolicyError, match="leave at least one"):
        shown_policies.read(Guard(policies="shipped", policies_left_out=every))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.toml: cannot be read"):
        shown_policies.read(Guard(policies=str(tmp_path / "none.toml")))
