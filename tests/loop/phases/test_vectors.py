"""The base's vectors of samples: read once, in batches, kept through interruptions and made again when lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.loop.branching import Branch
from tests.loop.small_night import NOW, Night, recipe
from tests.loop.stand_in import StandIn, StandInGuard
from wizloop.loop.context import Context
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.phases import vectors
from wizloop.loop.stored_samples import usable
from wizloop.store import events, steps
from wizloop.store.samples import Sample

SERVER = {"engine": "vllm", "server": {"base_url": "http://127.0.0.1:1/v1"}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("prepared") / "a", recipe(classify={"batch": 16}))
    night.round(0, "prepare")
    return night


@pytest.fixture
def night(prepared: Night, tmp_path: Path) -> Night:
    return Branch(prepared, tmp_path / "a")


def context(night: Night, stop_asked: Callable[[], bool] = lambda: False) -> Context:
    return Context(night.store, night.folder, night.recipe, 0, "prepare", lambda: NOW, stop_asked, given=night.backend)


def pool(night: Night) -> list[Sample]:
    return list(usable(night.store, "pool"))[:50]


def file(night: Night) -> Path:
    [found] = (night.folder / "vectors").iterdir()
    return found


def test_a_sample_is_read_once_and_given_in_any_order(night: Night) -> None:
    some = pool(night)
    night.backend.at_once.clear()
    first = vectors.of(context(night), some[:40])
    again = vectors.of(context(night), some[::-1])
    assert night.backend.at_once == [16, 16, 8, 10]
    assert first is not None
    assert again is not None
    assert first.dtype == np.float16
    assert len(np.unique(first, axis=0)) == 40
    np.testing.assert_array_equal(again[:-41:-1][:40], first[:40])
    np.testing.assert_array_equal(vectors.of(context(night), some[:40]), first)
    assert night.backend.at_once == [16, 16, 8, 10]


def test_what_was_read_before_an_interruption_is_kept(night: Night) -> None:
    asked: Iterator[bool] = iter([False] * 5 + [True])
    night.backend.at_once.clear()
    with pytest.raises(Interrupted):
        vectors.of(context(night, lambda: next(asked)), pool(night))
    before = sum(night.backend.at_once)
    assert 0 < before < 50
    assert vectors.of(context(night), pool(night)) is not None
    assert sum(night.backend.at_once) == 50


def test_progress_is_shown_before_the_model_is_loaded(night: Night) -> None:
    asked: Iterator[bool] = iter([False, True])
    with pytest.raises(Interrupted):
        vectors.of(context(night, lambda: next(asked)), pool(night))
    with night.store.read() as db:
        step = steps.step(db, 0, "prepare")
    assert step is not None
    assert (step.done, step.total, step.note) == (0, 50, "reading the hidden states of 50 texts")


@pytest.mark.parametrize(
    "lose",
    [Path.unlink, lambda path: path.write_bytes(b"x" * 99), lambda path: path.write_bytes(path.read_bytes()[:-30])],
    ids=["removed", "overwritten", "cut"],
)
def test_vectors_that_are_lost_are_read_again(night: Night, lose: Callable[[Path], object]) -> None:
    first = vectors.of(context(night), pool(night))
    assert first is not None
    lose(file(night))
    night.backend.at_once.clear()
    np.testing.assert_array_equal(vectors.of(context(night), pool(night)), first)
    assert 0 < sum(night.backend.at_once) <= 50


def test_another_way_of_asking_has_a_file_of_its_own(night: Night, tmp_path: Path) -> None:
    vectors.of(context(night), pool(night))
    other = Branch(night, tmp_path / "b", recipe(guard={"max_prompt_tokens": 99}))
    vectors.of(context(other), pool(other)[:3])
    assert file(other).name != file(night).name
    assert file(other).stat().st_size < file(night).stat().st_size


def test_a_served_guard_has_none_and_nothing_is_asked(night: Night, tmp_path: Path) -> None:
    served = Branch(night, tmp_path / "b", recipe(guard=SERVER))
    assert vectors.of(context(served), pool(served)) is None
    assert not vectors.wanted(served.recipe)
    assert not (served.folder / "vectors").exists()


class Stateless(StandIn):
    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> StandInGuard:
        guard = super().load(base, adapter, quantise=quantise)
        guard.states = lambda prompts, depth: None  # type: ignore[method-assign, misc]
        return guard


def test_a_base_without_hidden_states_is_asked_and_told_of_once(night: Night) -> None:
    night.backend = Stateless()
    for _ in range(3):
        assert vectors.of(context(night), pool(night)) is None
    with night.store.read() as db:
        said = [one.message for one in events.last(db, 50) if "hidden states" in one.message]
    assert said == ["tiny has no hidden states of one kind: what would use them does without."]


def test_states_too_large_for_half_precision_are_its_largest_numbers() -> None:
    found = vectors._halved(np.array([[1e6, -1e6, 1.5, np.inf, np.nan]], np.float32))
    assert found.tolist() == [[65504.0, -65504.0, 1.5, 65504.0, 0.0]]


@pytest.mark.parametrize(
    ("members", "reads"),
    [({"count": 0}, True), ({"count": 1}, False), ({"count": 0, "others": [{"temperature": 0.7}]}, False)],
)
def test_all_vectors_are_read_where_a_committee_stands_in_for_members(members: dict[str, object], reads: bool) -> None:
    assert vectors.wanted(recipe(members=members)) is reads


@pytest.mark.parametrize(("answer", "reads"), [("direct", False), ("linear", True), ("auto", True)])
def test_all_vectors_are_read_where_the_linear_head_may_answer(answer: str, reads: bool) -> None:
    assert vectors.wanted(recipe(members={"count": 2}, guard={"answer": answer})) is reads
