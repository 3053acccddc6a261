"""Samples to train on that stand in dev or test are found in the store by their prompt, whatever the response."""

from datetime import UTC, datetime
from pathlib import Path

from wizloop.loop.data import leaks
from wizloop.loop.data.similarity import Overlap
from wizloop.store import samples
from wizloop.store.db import Store
from wizloop.store.samples import NewSample

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _new(prompt: str, split: str, response: str | None = None) -> NewSample:
    return NewSample(split, prompt, response, "made", "row")


def test_a_text_that_is_held_out_is_found_among_the_learned(tmp_path: Path) -> None:
    new = [
        _new("How  do I?", "pool"),
        _new("how do i", "test"),
        _new("HOW DO I", "dev"),
        _new("other", "test", "a"),
        _new("Other.", "seed", "b"),
        _new("mine", "pool"),
        _new("🙂 ", "pool"),
        _new("🙂", "dev"),
    ]
    with Store.create(tmp_path) as store:
        with store.write() as db:
            samples.add(db, new, NOW)
            learned = samples.get(db, [1, 6, 7])
        seen: list[int] = []
        assert leaks.find(store, progress=seen.append) == [
            Overlap(1, 3, True, 1.0),
            Overlap(5, 4, True, 1.0),
            Overlap(7, 8, True, 1.0),
        ]
        assert seen == [1, 2, 3, 4]
        assert leaks.find(store, after=4) == [Overlap(5, 4, True, 1.0), Overlap(7, 8, True, 1.0)]
        assert leaks.among(store, learned) == {1, 7}
        with store.write() as db:
            samples.exclude(db, [3], "wrong label")
        assert leaks.find(store)[0] == Overlap(1, 2, True, 1.0)


WORDS = "please tell me in plain words how the old lighthouse keeper mended his broken lamp before the storm"


def test_a_sweep_goes_on_where_the_last_came_to_its_end(tmp_path: Path) -> None:
    seen: list[int] = []
    with Store.create(tmp_path) as store:
        with store.write() as db:
            samples.add(db, [_new(WORDS, "test"), _new(WORDS + " came", "pool"), _new("other", "pool")], NOW)
        # A search that was killed before its end: what it found is known, and it is done again.
        leaks.find(store)
        assert leaks.sweep(store, NOW, seen.append) == 1
        assert seen == [1, 2]
        assert leaks.sweep(store, NOW, seen.append) == 0
        assert seen == [1, 2]
        with store.write() as db:
            samples.add(db, [_new("Other!", "pool"), _new(WORDS.upper(), "seed")], NOW)
        assert leaks.sweep(store, NOW) == 1
        with store.read() as db:
            assert [(one.leak.sample_id, one.leak.held_id) for one in leaks.listed(db)] == [(2, 1), (5, 1)]


def test_what_nearly_repeats_a_sample_that_was_moved_to_a_measuring_split_is_found(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        with store.write() as db:
            samples.add(db, [_new("one", "pool"), _new(WORDS, "pool"), _new(WORDS + " came", "pool")], NOW)
        assert leaks.sweep(store, NOW) == 0
        with store.write() as db:
            row = samples.kept("test", WORDS, None, "made", "row 9", None, None, None, None)
            assert leaks.settle(db, [(row, 2, "pool")], NOW) == {2}
        assert leaks.sweep(store, NOW) == 1
        with store.read() as db:
            assert samples.ids(db, "pool") == [1]
