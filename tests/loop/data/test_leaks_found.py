"""Samples to train on that stand in dev or test are found in the store by their prompt, whatever the response."""

from datetime import UTC, datetime
from pathlib import Path

from wizloop.loop.data import leaks
from wizloop.loop.data.leaks import Found
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
        assert leaks.find(store, progress=seen.append) == [Found(1, 3, 1.0), Found(5, 4, 1.0), Found(7, 8, 1.0)]
        assert seen == [1, 2, 3, 4]
        assert leaks.find(store, after=4) == [Found(5, 4, 1.0), Found(7, 8, 1.0)]
        assert leaks.among(store, learned) == {1, 7}
        with store.write() as db:
            samples.exclude(db, [3], "wrong label")
        assert leaks.find(store)[0] == Found(1, 2, 1.0)
