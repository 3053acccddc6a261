"""The model card of an export, and the parity of its answers."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import against
from wizloop.loop.guard.inference import Direct
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases.export import agreement
from wizloop.loop.phases.model_card import Beside, Facts, render
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
    beside=Beside(
        [Evaluation(9, 0, "dev", "request", 300, 0, json.dumps({"f1": 0.6, "low": 0.5, "high": 0.7}))],
        {"tfidf": {"dev": {"request": {"f1": 0.84, "low": 0.8, "high": 0.88}}}},
        {"odd | [name](x)": {"request": {"base": against(0.8, 0.6), "tfidf": against(0.8, 0.82)}}},
    ),
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
    assert "- request: positive from a raw probability of 0.250 of the direct answer\n" in text
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


def test_a_threshold_is_told_on_both_scales() -> None:
    text = render(replace(FACTS, scales={"request": {"direct": (0.5, 0.0)}}))
    # Half the log-odds of 0.25.
    assert "from a raw probability of 0.250 of the direct answer; wizloop shows probabilities Platt-scaled, " in text
    assert "this one as 0.366" in text


@pytest.mark.parametrize(("base", "named"), [("/home/me/secret/base", "base"), ("owner/guard", "owner/guard")])
def test_the_path_of_a_base_is_private(base: str, named: str) -> None:
    text = render(replace(FACTS, base=base))
    assert f"- base: `{named}`;" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("format", "said"), [("gguf", "ollama create"), ("adapter", "PeftModel"), ("adapter-mlx", "adapter_path=DIR")]
)
def test_the_card_says_how_a_format_is_loaded(format: str, said: str) -> None:
    assert said in render(replace(FACTS, format=format))
    assert said not in render(FACTS)


def test_a_hostile_name_breaks_no_table() -> None:
    assert "| `odd    name ` | response | 1 | 0 | undefined | not measured |" in render(FACTS)


def test_the_card_has_the_baselines_and_says_where_the_model_does_not_beat_them() -> None:
    text = render(FACTS)
    assert "| F1 (95 % interval) | base | all harmful | TF-IDF |" in text
    assert "| 81.2 (75.0 to 87.0) | 60.0 (50.0 to 70.0) | not measured | 84.0 (80.0 to 88.0) |" in text
    assert (
        "- **Not better than a baseline**: on odd    name (x) request its F1 of 80.0 cannot be told apart from the "
        "82.0 of TF-IDF with logistic regression on the same labels (-2.0 points, 95 % interval -6.0 to +2.0)."
    ) in text


@pytest.mark.parametrize(
    ("compared", "told"),
    [
        ({}, "- It was not compared with its baselines."),
        ({"test": {"request": {"base": against(0.8, 0.6)}}}, "- Its F1 is above that of every baseline on every set"),
    ],
)
def test_the_card_says_so_where_it_beats_them_or_nothing_was_compared(compared: dict[str, Any], told: str) -> None:
    assert told in render(replace(FACTS, beside=replace(FACTS.beside, compared=compared)))


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


def test_recall_at_a_rate_and_speed_stand_on_the_card_where_they_were_measured() -> None:
    at = {"0.01": {"value": 0.5, "low": 0.4, "high": 0.6}, "0.05": {"value": None, "low": None, "high": None}}
    measured = Evaluation(1, 1, "dev", "request", 300, 0, json.dumps({"f1": 0.8, "recall_at_fpr": at}))
    text = render(replace(FACTS, evaluations=[measured], speed={"on": "Metal", "rows_per_s": 12.0}))
    assert "- Recall on dev request by false-positive rate (95 % interval): at 1 % 50.0 % (40-60).\n" in text
    assert "- Speed on Metal: 12.0 rows a second.\n" in text
    assert "Recall on" not in render(FACTS)
    assert "Speed on" not in render(FACTS)
