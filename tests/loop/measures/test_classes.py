"""Scores of three labels, against scikit-learn."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from wizloop.loop.measures.calibration import Calibration, DevRow, calibrate
from wizloop.loop.measures.metrics import score
from wizloop.loop.measures.promotion import Candidate, LabeledVerdicts, decide
from wizloop.loop.words import Declaration

THREE = Declaration(request=("harmful", "controversial", "unharmful"), completion=(), response=())
WORDS = THREE.request


def drawn(n: int, right: float, seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    labels = [str(rng.choice(WORDS)) for _ in range(n)]
    return labels, [label if rng.random() < right else str(rng.choice(WORDS)) for label in labels]


def test_each_label_macro_and_accuracy_are_those_of_scikit_learn() -> None:
    labels, verdicts = drawn(200, 0.6, 1)
    clusters = [str(n) for n in range(200)]
    found = score(
        labels, verdicts, [None] * 200, positive="harmful", clusters=clusters, rng=np.random.default_rng(0),
        resamples=50, classes=WORDS,
    )  # fmt: skip
    each = f1_score(labels, verdicts, labels=list(WORDS), average=None)
    assert [found.by_label[word].f1 for word in WORDS] == pytest.approx(list(each))
    assert found.macro_f1 == pytest.approx(each.mean())
    assert found.accuracy == pytest.approx(accuracy_score(labels, verdicts))
    assert found.f1 == pytest.approx(each[0])
    assert found.macro_f1_low is not None
    assert found.macro_f1_low < each.mean()


def test_two_labels_are_scored_as_before() -> None:
    found = score(["a", "b"], ["a", None], [1.0, 0.5], positive="a", clusters=["1", "2"], rng=np.random.default_rng(0))
    assert "by_label" not in found.to_json()


def verdicts(labels: list[str], said: list[str | None]) -> Candidate:
    return Candidate(
        {"request": LabeledVerdicts(range(len(labels)), labels, said, [str(n) for n in range(len(labels))])}
    )


@pytest.mark.parametrize(("blocks", "over_refusal"), [("first", 2 / 3), ("all but last", 1 / 2)])
def test_the_gate_holds_all_labels_and_what_blocks(
    blocks: Literal["first", "all but last"], over_refusal: float
) -> None:
    labels = ["harmful", "controversial", "unharmful", "unharmful"]
    said = ["harmful", "harmful", "unharmful", None]
    found = decide(
        verdicts(labels, list(labels)), verdicts(labels, said), margin=0.0, max_unparsable=1.0,
        max_over_refusal_rise=0.0, rng=np.random.default_rng(0), declared=replace(THREE, blocks=blocks),
    )  # fmt: skip
    macro = f1_score(labels, [each or "none" for each in said], labels=list(WORDS), average="macro", zero_division=0)
    assert found.differences["macro_f1"].challenger == pytest.approx(macro)
    assert found.differences["over_refusal"].challenger == pytest.approx(over_refusal)
    assert not found.passed


def test_of_the_labels_below_the_threshold_the_likeliest_is_the_verdict() -> None:
    known = Calibration(thresholds={"request": {"direct": 0.4}}, declared=THREE)
    signals = {"p_direct_request": 0.3, "p_direct_request:controversial": 0.5, "p_direct_request:unharmful": 0.2}
    assert known.verdict(signals, "request") == "controversial"
    assert known.verdict(signals | {"p_direct_request": 0.4}, "request") == "harmful"
    strict = replace(known, declared=replace(THREE, blocks="all but last"))
    cells = [each.apply(signals, ("request",), "request").cell for each in (known, strict)]
    assert cells == ["uncertain_pass", "uncertain_block"]


def test_thresholds_hold_the_first_label_against_all_others() -> None:
    ps = {"harmful": 0.9, "controversial": 0.45, "unharmful": 0.1}
    rows = [DevRow({"p_direct_request": ps[word]}, {"request": word}, "request") for word in WORDS * 4]
    known = calibrate(rows, lowest_groups=[], window=4, keep_top_percent=10, declared=THREE)
    assert 0.45 < known.threshold("request", "direct") < 0.9
    assert Calibration.from_json(known.to_json(), THREE) == replace(known, declared=THREE)
    assert "declared" not in known.to_json()
