"""The shipped policies and instruction, and what a wrong policy file is told."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from wizloop.recipes.policies import PolicyError, PolicyText, by_word, folded, instruction, load
from wizloop.recipes.sections import Guard

ONE = '[[policy]]\nid = "a"\nname = "A"\ndescription = "d"\nseverity = "high"\nkeywords = ["k"]\n'


def test_the_six_policies() -> None:
    policies = load()
    assert [policy.id for policy in policies] == [
        "hate_speech",
        "violence_and_weapons",
        "self_harm",
        "sexual_content",
        "harassment_and_privacy",
        "illegal_activities",
    ]
    assert all(policy.violating and policy.allowed and policy.indicators for policy in policies)
    assert max(len(policy.name.split()) for policy in policies) <= 3


@pytest.mark.parametrize("policy", load(), ids=lambda policy: policy.id)
def test_no_marker_is_listed_twice(policy: object) -> None:
    markers = [*getattr(policy, "keywords", ()), *getattr(policy, "indicators", ())]
    assert len(markers) == len(set(markers)) > 10


def test_the_instruction_is_short_and_asks_for_three_verdicts() -> None:
    assert 80 <= len(instruction().split()) <= 110
    assert all(word in instruction() for word in ("Request", "Completion", "Response", "None", "refusal", "compliance"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold"),
        ("x = 1\n" + ONE, "must hold"),
        (ONE + "colour = 1", "policy 1: colour"),
        (ONE.replace('"high"', '"huge"'), "policy 1: severity"),
        (ONE.replace('["k"]', "[]"), "policy 1: keywords"),
        (ONE + ONE, "used twice"),
        ("[[policy]", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=says) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (ONE.replace('"A"', '"A, b"'), "policy 1: name: a name is one line"),
        (ONE.replace('"A"', '"None"'), "policy 1: name: a name is one line"),
        (ONE.replace('"A"', '"A\\n"'), "policy 1: name: a name is one line"),
        (ONE.replace('"d"', '"d\\u001b[2J"'), "policy 1: description: it holds a control character"),
        (ONE.replace('"d"', f'"{"d" * 2001}"'), "policy 1: description"),
        (ONE + ONE.replace('"a"', '"b"'), "used twice"),
        (ONE + ONE.replace('"a"', '"b"').replace('"A"', '"a"'), "used twice"),
        ("\n".join(ONE.replace('"a"', f'"a{n}"').replace('"A"', f'"A{n}"') for n in range(65)), "65 policies"),
    ],
)
def test_names_are_names_and_texts_are_plain(tmp_path: Path, changed: str, says: str) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(PolicyError, match=says):
        load(path)


def test_a_guards_policy_needs_a_name_and_a_text(tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text('[[policy]]\nid = "a"\nname = "A"\ndescription = "d"\n', encoding="utf-8")
    assert load(path) == (PolicyText(id="a", name="A", description="d"),)


@pytest.mark.parametrize("word", ["self_harm", "Self-harm", "  SELF harm ", "self-harm"])
def test_a_label_names_a_policy_by_id_or_name(word: str) -> None:
    assert by_word(load())[folded(word)] == "self_harm"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"policies_ask": "each"}, "policies_ask is about the policies"),
        ({"policies_left_out": ("a",)}, "policies_left_out is about the policies"),
        ({"policies": "mine.txt"}, "policies"),
    ],
)
def test_keys_of_policies_need_policies(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Guard(**keys)


def test_the_keys_are_stored_only_where_they_are_given() -> None:
    assert not any(key.startswith("policies") for key in Guard().model_dump())
    assert {"policies", "policies_left_out"} == {
        key for key in Guard(policies="shipped", policies_left_out=("a",)).model_dump() if key.startswith("policies")
    }
