"""Which pairs HS-DPO is trained on: mined from the new models' own traces, against the approved verdicts."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.loop.branching import Branch, model
from tests.loop.small_night import NOW, Night
from wizloop.loop.context import standalone
from wizloop.loop.guard.grammar import render_sentence
from wizloop.loop.measures.mining import ORDER
from wizloop.loop.phases import hard_samples
from wizloop.loop.phases.contradictions import taught_with
from wizloop.loop.phases.training_examples import collect, sft_examples
from wizloop.loop.words import DEFAULT, Task
from wizloop.store import predictions, reviews, training
from wizloop.store.predictions import GuardTrace
from wizloop.store.training import Pair

MINERS = ("r00-sft", "r00-m1", "r00-m2")
Verdicts = Mapping[int, Mapping[str, str | None]]


def mined(night: Night) -> list[Pair]:
    with night.store.read() as db:
        return training.pairs(db, 0)


def approved(night: Night) -> Verdicts:
    with night.store.read() as db:
        return {one.sample_id: one.verdict for one in reviews.approved(db, 0)}


def traces(night: Night, name: str) -> dict[int, list[GuardTrace]]:
    """Return a miner's traces by sample."""
    found: dict[int, list[GuardTrace]] = {}
    miner = model(night, name).id
    with night.store.read() as db:
        for one in predictions.traces_of(db, miner, list(range(1, 300))):
            found.setdefault(one.sample_id, []).append(one)
    return found


def counted(drawn: list[GuardTrace], truth: Mapping[str, str | None]) -> dict[str, tuple[int, int]]:
    """Return by task how many of the traces that can be read are right, and how many wrong."""
    read = [one.verdict for one in drawn if one.verdict is not None]
    right = {task: sum(one.get(task) == truth.get(task) for one in read) for task in ORDER if truth.get(task)}
    return {task: (n, len(read) - n) for task, n in right.items()}


def test_a_pair_is_a_right_trace_over_a_wrong_one_of_the_same_miner(trained: Night) -> None:
    truths, pairs = approved(trained), mined(trained)
    drawn = {name: traces(trained, name) for name in MINERS}
    assert len({one.miner for one in pairs}) > 1
    for pair in pairs:
        by_text = {one.text: one.verdict or {} for one in drawn[pair.miner][pair.sample_id]}
        truth = truths[pair.sample_id]
        assert by_text[pair.chosen].get(pair.task) == truth[pair.task]
        assert by_text[pair.rejected].get(pair.task) != truth[pair.task]
        counts = counted(drawn[pair.miner][pair.sample_id], truth)
        assert (pair.n_right, pair.n_wrong) == counts[pair.task]
        assert pair.task == next(task for task, (right, wrong) in counts.items() if right and wrong)


def test_a_sample_without_a_pair_was_hard_for_no_miner(trained: Night) -> None:
    truths, found = approved(trained), {one.sample_id for one in mined(trained)}
    easy = set(truths) - found
    assert easy
    for name in MINERS:
        for sample in easy:
            counts = counted(traces(trained, name)[sample], truths[sample])
            assert all(0 in both for both in counts.values())


def test_the_weights_spread_over_each_miners_own_pairs(trained: Night) -> None:
    for name in {one.miner for one in mined(trained)}:
        pairs = [one for one in mined(trained) if one.miner == name]
        d = [one.n_wrong - one.n_right for one in pairs]
        low, width = min(d), max(d) - min(d)
        expected = [0.8 + 0.4 * (one - low) / width if width else 1.0 for one in d]
        assert [one.weight for one in pairs] == pytest.approx(expected)
    of_sft = [one.weight for one in mined(trained) if one.miner == "r00-sft"]
    assert (min(of_sft), max(of_sft)) == pytest.approx((0.8, 1.2))


def test_a_miner_writes_as_many_traces_as_the_recipe_says_and_cuts_none(trained: Night) -> None:
    drawn = [of_sample for name in MINERS for of_sample in traces(trained, name).values()]
    assert {len(of_sample) for of_sample in drawn} == {trained.recipe.dpo.k}
    assert {one.stop for of_sample in drawn for one in of_sample} == {"stop"}
    assert set(traces(trained, "r00-sft")) == set(approved(trained))


def test_what_was_mined_is_what_the_backend_is_given(trained: Night) -> None:
    job, pairs = trained.backend.jobs[-1], mined(trained)
    assert job.kind == "dpo"
    prompts = {one.id: one.prompt for one in trained.backend.jobs[0].lessons[::2]}
    given = [(one.id, one.chosen, one.rejected, one.weight, one.prompt) for one in job.lessons]
    assert given == [(one.sample_id, one.chosen, one.rejected, one.weight, prompts[one.sample_id]) for one in pairs]
    assert all(one[-1] != other.prompt for one in given for other in trained.backend.jobs[0].lessons[1::2])


def test_right_and_wrong_follow_what_a_person_approved(taught: Night, trained: Night, tmp_path: Path) -> None:
    before = {one.sample_id: one for one in mined(trained) if one.miner == "r00-sft" and one.task == "request"}
    night = Branch(taught, tmp_path / "a")
    with night.store.write() as db:
        traces_of = {one.sample_id: one for one in reviews.approved(db, 0)}
        for sample in before:
            label = traces_of[sample].verdict["request"]
            other = "unharmful" if label == "harmful" else "harmful"
            reviews.review(
                db,
                trace_id=traces_of[sample].id,
                decision="edit",
                by="person:ann",
                edited_json=json.dumps(
                    {"verdict": traces_of[sample].verdict | {"request": other}, "explanation": "So a person says."}
                ),
                now=NOW,
                decision_id=f"ann-{sample}",
            )
    night.phase(0, "train")
    after = {one.sample_id: one for one in mined(night)}
    turned = [after[sample] for sample in before]
    assert len(turned) > 3
    for one in turned:
        assert (one.n_right, one.n_wrong) == (before[one.sample_id].n_wrong, before[one.sample_id].n_right)
        assert f"Request: {traces_of[one.sample_id].verdict['request']}\n" in one.rejected
        assert f"Request: {traces_of[one.sample_id].verdict['request']}\n" in before[one.sample_id].chosen


def test_a_verdict_that_a_person_changed_alone_is_taught_without_its_reasoning(taught: Night, tmp_path: Path) -> None:
    night = Branch(taught, tmp_path / "a")
    with night.store.write() as db:
        one = next(trace for trace in reviews.approved(db, 0) if trace.verdict["request"] == "unharmful")
        edited = json.dumps({"verdict": one.verdict | {"request": "harmful"}})
        given = {"decision": "edit", "by": "person:ann", "edited_json": edited, "now": NOW, "decision_id": "ann"}
        reviews.review(db, trace_id=one.id, **given)  # type: ignore[arg-type]
    ctx = standalone(night.store, night.folder, night.recipe, "train", NOW)
    ctx.given = night.backend
    lessons = {lesson.sample.id: lesson for lesson in collect(ctx, ctx.guard(model(night, "base"))).lessons}
    assert "harmful" in lessons[one.sample_id].direct.completion
    assert sft_examples([lessons[one.sample_id]]) == [lessons[one.sample_id].direct]
    assert len(sft_examples(lessons.values())) == 2 * len(lessons) - 1


def test_a_trace_that_turns_a_taught_sentence_round_is_mined_as_a_contradiction(trained: Night) -> None:
    row = next(one for rows in traces(trained, "r00-sft").values() for one in rows if one.verdict is not None)
    sentence = "No policy is touched."
    for label, against in (("harmful", True), ("unharmful", False)):
        verdict: dict[Task, str | None] = {"request": label, "completion": None, "response": None}
        of_words = {str(task): said for task, said in verdict.items()}
        turned = replace(row, text=render_sentence(sentence, verdict), verdict=of_words)
        taught = taught_with([render_sentence(sentence, {**verdict, "request": "unharmful"})])
        assert hard_samples.generation(turned, taught, DEFAULT, has_response=False).contradicts is against
