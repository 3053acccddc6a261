"""The model card of an export, and the parity of its answers."""

import json
from dataclasses import replace

import pytest

from wizloop.loop.guard.inference import Direct
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases.export import agreement
from wizloop.loop.phases.model_card import Facts, render
from wizloop.store.evaluations import Evaluation

FACTS = Facts(
    model="r01",
    round=1,
    format="safetensors",
    base="tiny",
    base_is={"sha256": "0123"},
    run="demo",
    recipe_hash="ab",
    data_hash="cd",
    rendering="ef",
    samples={"pool": 1600, "seed": 80},
    teachers={"policy": {"ok": 200, "refused": 1}},
    reviews={"approved": 200, "waiting": 0},
    gate="The challenger passes.",
    evaluations=[
        Evaluation(1, 1, "dev", "request", 300, 2, json.dumps({"f1": 0.8125, "low": 0.75, "high": 0.87})),
        Evaluation(1, 1, "odd | `name`", "response", 1, 0, json.dumps({"f1": None, "low": None, "high": None})),
    ],
    parity={"n": 16, "agree": 16, "max_difference": 0.0},
    thresholds={"request": {"direct": 0.25, "traces": 0.5}},
    source={"request": "direct"},
    example=Renderer("Judge it.").example(),
    longest=64,
)


def test_the_card_tells_where_the_model_comes_from_and_how_it_did() -> None:
    text = render(FACTS)
    assert "| `dev` | request | 300 | 2 | 81.2 (75.0 to 87.0) |" in text
    assert "- base (sha256): `0123`" in text
    assert "- teacher `policy`: 200 ok, 1 refused" in text
    assert "- samples (sha256): `cd`; 1,600 pool, 80 seed" in text
    assert "- request: positive from a probability of 0.250 of the direct answer" in text
    assert "It agrees on 16 of 16 verdicts on dev samples" in text
    assert "Some verdicts differ" not in text
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
    assert "At most 64 tokens in total" in text


def test_a_hostile_name_breaks_no_table() -> None:
    assert "| `odd    name ` | response | 1 | 0 | undefined |" in render(FACTS)


@pytest.mark.parametrize(
    ("parity", "told"),
    [
        ({"n": 16, "agree": 15, "max_difference": 0.031}, "**Some verdicts differ.**"),
        ({"n": 0, "agree": 0, "max_difference": 0.0}, "Not checked"),
    ],
)
def test_a_disagreement_is_told(parity: dict[str, float], told: str) -> None:
    assert told in render(replace(FACTS, parity=parity))


def test_verdicts_agree_at_the_calibrated_threshold() -> None:
    known = Calibration(thresholds={"request": {"direct": 0.3}})
    ours = [Direct({"request": 0.31}, 0), Direct({"request": 0.9, "response": 0.6}, 0)]
    theirs = [Direct({"request": 0.29}, 0), Direct({"request": 0.5, "response": 0.6}, 0)]
    assert agreement(ours, theirs, known) == {"n": 3, "agree": 2, "max_difference": pytest.approx(0.4)}
