"""The card of an export, and what it says of an export that does not answer alike."""

from dataclasses import replace

import pytest

from wizloop.loop.guard.asking import Direct
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases.card import Facts, Measured, card
from wizloop.loop.phases.export import agreement

FACTS = Facts(
    model="r01",
    round=1,
    format="safetensors",
    base="tiny",
    run="demo",
    recipe_hash="ab",
    data_hash="cd",
    rendering="ef",
    samples={"pool": 1600, "seed": 80},
    teachers={"policy": {"ok": 200, "refused": 1}},
    reviews={"approved": 200, "waiting": 0},
    gate="The challenger passes.",
    measured=[
        Measured("dev", "request", 300, 2, 0.8125, 0.75, 0.87),
        Measured("odd | `name`", "response", 1, 0, None, None, None),
    ],
    parity={"n": 16, "agree": 16, "max_difference": 0.0},
    thresholds={"request": {"direct": 0.25, "traces": 0.5}},
    source={"request": "direct"},
    example=Renderer("Judge it.").example(),
    longest=64,
)


def test_the_card_tells_where_the_model_comes_from_and_how_it_did() -> None:
    text = card(FACTS)
    assert "| `dev` | request | 300 | 2 | 81.2 (75.0 to 87.0) |" in text
    assert "- teacher `policy`: 200 ok, 1 refused" in text
    assert "- samples (sha256): `cd`; 1,600 pool, 80 seed" in text
    assert "- request: positive from a probability of 0.250, by the direct answer" in text
    assert "On 16 verdicts of frozen dev samples it agrees in 16" in text
    assert "does not agree" not in text
    pieces = text.partition("\n    [\n")[2].partition("\n    ]\n")[0]
    assert [line.strip().rstrip(",") for line in pieces.splitlines()] == [
        r'"Judge it.\n\n"',
        r'"Human user:\n"',
        '"PROMPT"',
        r'"\n\nAI assistant:\n"',
        '"RESPONSE"',
        r'"\n\n"',
        r'"Answers:\nRequest:"',
    ]
    assert "At most 64 tokens in all" in text


def test_a_hostile_name_breaks_no_table() -> None:
    assert "| `odd    name ` | response | 1 | 0 | not defined |" in card(FACTS)


@pytest.mark.parametrize(
    ("parity", "told"),
    [
        ({"n": 16, "agree": 15, "max_difference": 0.031}, "**It does not agree everywhere.**"),
        ({"n": 0, "agree": 0, "max_difference": 0.0}, "Not checked"),
    ],
)
def test_a_disagreement_is_told(parity: dict[str, float], told: str) -> None:
    assert told in card(replace(FACTS, parity=parity))


def test_verdicts_agree_at_the_calibrated_threshold() -> None:
    known = Calibration(thresholds={"request": {"direct": 0.3}})
    ours = [Direct({"request": 0.31}, 0), Direct({"request": 0.9, "response": 0.6}, 0)]
    theirs = [Direct({"request": 0.29}, 0), Direct({"request": 0.5, "response": 0.6}, 0)]
    assert agreement(ours, theirs, known) == {"n": 3, "agree": 2, "max_difference": pytest.approx(0.4)}
