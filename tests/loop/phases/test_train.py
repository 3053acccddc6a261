"""What a round trains on, from where, and what it leaves on record."""

import json
from pathlib import Path

import pytest

from tests import stored
from tests.loop.branching import Branch, change, model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends.guard_types import LoraShape
from wizloop.loop.guard import grammar
from wizloop.loop.phases.training_examples import LEAKED, kept_by_member
from wizloop.loop.words import TASKS
from wizloop.store import events, reviews, samples, selections, steps, training
from wizloop.store.events import Event
from wizloop.store.samples import Sample


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night in which every trace of the seed waits for a person."""
    night = Night(tmp_path_factory.mktemp("waiting") / "a", recipe(review={"rule": "everything"}))
    run(night, 0, "import", "review")
    return night


@pytest.fixture(scope="module")
def second(trained: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The same night after the training of its first round."""
    night = Branch(trained, tmp_path_factory.mktemp("second") / "a")
    run(night, 0, "evaluate", "gate")
    run(night, 1, "classify", "train")
    return night


def decide(night: Night, trace_id: int, decision: str, edited: object = None) -> None:
    """Let a person decide on a trace."""
    with night.store.write() as db:
        reviews.review(
            db,
            trace_id=trace_id,
            decision=decision,
            by="person:ann",
            edited_json=None if edited is None else json.dumps(edited),
            now=NOW,
            decision_id=f"ann-{trace_id}",
        )


def taught_ids(night: Night, name: str) -> list[int]:
    """Return the samples of which the backend was given examples for a model."""
    (job,) = [one for one in night.backend.jobs if one.name == name]
    return sorted({one.id for one in job.lessons})


def of_split(night: Night, split: str) -> list[Sample]:
    with night.store.read() as db:
        return samples.page(db, split, 0, 1000)


def said(night: Night) -> list[Event]:
    with night.store.read() as db:
        return events.page(db, 0, 1000)


def test_only_what_was_approved_is_trained_on_and_an_edit_counts_as_edited(waiting: Night, tmp_path: Path) -> None:
    night = Branch(waiting, tmp_path / "a")
    with night.store.read() as db:
        found = [one.trace for one in reviews.waiting(db, 100)]
    approved, rejected, edited = found[:9], found[9:14], found[14]
    for one in approved:
        decide(night, one.id, "approve")
    for one in rejected:
        decide(night, one.id, "reject")
    flipped = {"request": "unharmful" if edited.verdict["request"] == "harmful" else "harmful"}
    decide(night, edited.id, "edit", {"verdict": flipped, "explanation": "A person knows better."})
    run(night, 0, "train", "train")
    expected = sorted(one.sample_id for one in [*approved, edited])
    assert taught_ids(night, "r00-sft") == expected
    (sft, *_) = night.backend.jobs
    texts = {one.completion for one in sft.lessons if one.id == edited.sample_id}
    block = f"Request: {flipped['request']}\nCompletion: None\nResponse: None"
    assert texts == {f"A person knows better.\nAnswers:\n{block}", block.removeprefix("Request:")}
    with night.store.read() as db:
        used = stored.uses(db, model(night, "r00-sft").id)
    traces = {one.sample_id: one.id for one in [*approved, edited]}
    assert {(one.sample_id, one.trace_id) for one in used} == set(traces.items())


def test_every_lesson_teaches_the_approved_verdict_in_a_trace_and_at_once(trained: Night) -> None:
    (job,) = [one for one in trained.backend.jobs if one.name == "r00-sft"]
    with trained.store.read() as db:
        verdicts = {one.sample_id: one.verdict for one in reviews.approved(db, 0)}
        texts = {one.id: one for one in samples.get(db, list(verdicts))}
    assert len(job.lessons) == 2 * len(verdicts) == 60
    for by_trace, at_once in zip(job.lessons[::2], job.lessons[1::2], strict=True):
        assert by_trace.id == at_once.id
        verdict = {task: verdicts[by_trace.id].get(task) for task in TASKS}
        words = [label for label in verdict.values() if label]
        for one, opening in ((by_trace, "Reasoning:\n"), (at_once, "Answers:\nRequest:")):
            asked = bytes(one.prompt.body).decode()
            assert texts[one.id].prompt in asked
            assert asked.endswith(opening)
            read = grammar.parse(opening + one.completion)
            assert read is not None
            assert read.verdict == verdict
            assert [one.completion[first:last] for first, last in one.strong] == words
            assert one.weight == 1.0


def test_the_recipe_says_how_it_is_trained(trained: Night) -> None:
    jobs = {one.name: one for one in trained.backend.jobs}
    assert list(jobs) == ["r00-sft", "r00-m1", "r00-m2", "r00"]
    how, dpo = trained.recipe.train, trained.recipe.dpo
    for name, one in jobs.items():
        assert one.job.lora == LoraShape(how.rank, how.scale, how.dropout, how.layers)
        settings = one.job.settings
        assert settings.checkpoint_every == how.checkpoint_every
        assert settings.max_tokens == trained.recipe.guard.max_prompt_tokens + trained.recipe.guard.max_trace_tokens
        section = dpo if name == "r00" else how
        assert (settings.batch, settings.lr) == (section.batch, section.lr)
    sft, last = jobs["r00-sft"].job.settings, jobs["r00"].job.settings
    assert (sft.verdict_weight, sft.prompt_weight, sft.word_dropout) == (
        how.verdict_weight,
        how.prompt_weight,
        how.word_dropout,
    )
    assert (last.beta, last.sft_weight, last.epochs) == (dpo.beta, dpo.sft_weight, dpo.epochs)
    assert len({one.job.settings.seed for one in jobs.values()}) == 4


def test_hs_dpo_goes_on_from_the_r_sft_model_and_makes_the_challenger(trained: Night) -> None:
    dpo = trained.backend.jobs[-1]
    sft, challenger = model(trained, "r00-sft"), model(trained, "r00")
    assert (dpo.kind, dpo.job.start) == ("dpo", trained.folder / sft.path)
    assert (challenger.role, challenger.parent_id, challenger.path) == ("challenger", sft.id, "models/r00")
    assert challenger.sha256 != sft.sha256
    with trained.store.read() as db:
        pairs = training.pairs(db, 0)
        used = stored.uses(db, challenger.id)
        losses = [one.step for kind in ("sft", "dpo") for one in stored.losses(db, challenger.id, kind)]
        record = steps.get_round(db, 0)
    assert [(one.sample_id, one.trace_id, one.kind) for one in used] == [(one.sample_id, None, "dpo") for one in pairs]
    assert losses == [10, 12]
    assert record is not None
    assert record.record["train"] == {
        "examples": 30,
        "left_out_leaking": 0,
        "left_out_otherwise": 0,
        "pairs": len(pairs),
        "members": 2,
    }


def test_a_member_is_trained_on_its_own_share_which_later_rounds_keep(second: Night, trained: Night) -> None:
    everything = {0: {*taught_ids(trained, "r00-sft")}, 1: {*taught_ids(second, "r01-sft")}}
    assert len(everything[0]) == 30
    for night, round in ((trained, 0), (second, 1)):
        shares = []
        for number in (1, 2):
            share = taught_ids(night, f"r{round:02}-m{number}")
            assert share == [one for one in sorted(everything[round]) if kept_by_member(7, number, one, 0.67)]
            assert 0.4 < len(share) / len(everything[round]) < 0.9
            with night.store.read() as db:
                used = stored.uses(db, model(night, f"r{round:02}-m{number}").id)
            assert sorted({one.sample_id for one in used}) == share
            shares.append(share)
        assert shares[0] != shares[1]


def test_a_round_trains_on_the_lessons_of_all_rounds_before_it(second: Night, trained: Night) -> None:
    with second.store.read() as db:
        picked = sorted(one.sample_id for one in selections.of_round(db, 1))
    assert len(picked) == 16
    assert taught_ids(second, "r01-sft") == sorted([*taught_ids(trained, "r00-sft"), *picked])


def test_what_stands_in_dev_is_not_trained_on_and_is_told(taught: Night, tmp_path: Path) -> None:
    night = Branch(taught, tmp_path / "a")
    seeds = of_split(night, "seed")
    with night.store.write() as db:
        again = samples.NewSample("dev", f"{seeds[3].prompt.upper()}!", None, "late", "1", request="harmful")
        samples.add(db, [again], NOW)
    change(night, [seeds[5].id], excluded="a person took it out")
    night.phase(0, "train")
    with night.store.read() as db:
        record, dropped = steps.get_round(db, 0), stored.dropped(db, 0)
    left_out = {seeds[3].id, seeds[5].id}
    kept = sorted(one.id for one in seeds if one.id not in left_out)
    assert taught_ids(night, "r00-sft") == kept
    assert all(not left_out & set(taught_ids(night, one.name)) for one in night.backend.jobs)
    assert record is not None
    assert record.record["train"]["left_out_leaking"] == 2
    assert dropped == {"sft": {LEAKED: 2}}
    assert f"Approved traces left out of training: 2: {LEAKED}." in [one.message for one in said(night)]


def test_an_example_that_was_too_long_is_on_record(taught: Night, tmp_path: Path) -> None:
    long = of_split(taught, "seed")[4].id
    night = Branch(taught, tmp_path / "a", drops=(long,))
    night.phase(0, "train")
    with night.store.read() as db:
        dropped = stored.dropped(db, 0)
    assert dropped["sft-sft"] == {"prompt and trace together are too long": 1}
    assert json.loads(model(night, "r00-sft").meta_json)["dropped"] == [long, long]


def test_no_member_is_trained_where_the_recipe_wants_none(taught: Night, tmp_path: Path) -> None:
    night = Branch(taught, tmp_path / "a", recipe(members={"count": 0}))
    assert night.phase(0, "train") == "30 samples, " + str(len(night.backend.jobs[-1].lessons)) + " pairs, 0 members"
    assert [one.name for one in night.backend.jobs] == ["r00-sft", "r00"]


def test_without_hs_dpo_the_r_sft_model_is_the_challenger_and_its_parent(taught: Night, tmp_path: Path) -> None:
    night = Branch(taught, tmp_path / "a", recipe(members={"count": 0}, dpo={"enabled": False}))
    night.phase(0, "train")
    sft = model(night, "r00-sft")
    assert (model(night, "r00").parent_id, model(night, "r00").sha256) == (sft.id, sft.sha256)


def test_a_round_without_an_approved_trace_warns_that_it_has_no_challenger(waiting: Night, tmp_path: Path) -> None:
    night = Branch(waiting, tmp_path / "a")
    assert (night.phase(0, "train") or "").startswith("no challenger: ")
    assert [one.level for one in said(night) if "has no challenger" in one.message] == ["warn"]
