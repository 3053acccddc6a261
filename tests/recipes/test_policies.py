"""The shipped policies and instruction, and what a wrong policy file is told."""

from pathlib import Path

import pytest

from wizloop.recipes.policies import PolicyError, instruction, load

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
