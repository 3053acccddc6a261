"""What a round records of its labels: from the selections, the teacher's verdicts and dev."""

from pathlib import Path

from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.context import Context
from wizloop.loop.phases import label_gains
from wizloop.loop.phases.taught_lessons import Labeled
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.loop.words import DEFAULT
from wizloop.store import samples, selections, steps
from wizloop.store.selections import Selection


def test_the_random_share_tells_what_chance_would_have_needed(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(data_demo={"pool": 20, "seed": 120, "dev": 60, "test": 10}))
    night.phase(0, "import")
    taught = [one for one in usable(night.store, "seed") if "request" in one.labels]
    rows = [
        Selection(0 if at < 40 else 1, one.id, reason, 0.0, at, chance, "")
        for at, one in enumerate(taught)
        for reason, chance in [("seed", None) if at < 40 else ("random", 0.2) if at < 80 else ("disagreement", None)]
    ]
    with night.store.write() as db:
        selections.add(db, rows)
        steps.begin_round(db, 1, None, NOW)
        assert samples.newest(db) > 0
    lessons = [Labeled(one, labels_of(one, DEFAULT)) for one in taught]
    dev = list(usable(night.store, "dev"))
    ctx = Context(night.store, night.folder, night.recipe, 1, "evaluate", lambda: NOW, lambda: False)
    record = label_gains.record_of(ctx, lessons, dev)["labels"]
    assert record["saved"]["labels"] == len(taught)
    assert record["saved"]["figure"] > 0.5
    assert record["next"]["low"] <= record["next"]["gain"] <= record["next"]["high"]
    assert record["next"]["usd"] == 0.0
    assert label_gains.record_of(ctx, lessons, dev)["labels"] == record
    first = Context(night.store, night.folder, night.recipe, 0, "evaluate", lambda: NOW, lambda: False)
    assert label_gains.record_of(first, lessons, dev) == {}
