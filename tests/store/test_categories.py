"""Categories of samples and of predictions in the store."""

from datetime import UTC, datetime
from pathlib import Path

from wizloop.store import categories, models, samples
from wizloop.store.db import Store

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_sample_keeps_its_first_categories_and_none_differs_from_unknown(tmp_path: Path) -> None:
    new = [samples.NewSample("dev", text, None, "made", text, request="harmful") for text in ("a", "b", "c")]
    digests = [samples.digest_of(samples.kept(*one)) for one in new]
    with Store.create(tmp_path) as store, store.write() as db:
        samples.add(db, new, NOW)
        assert categories.label(db, {digests[0]: ("hate", "arson", "hate"), digests[1]: (), b"\0" * 32: ("x",)}) == 2
        assert categories.label(db, {digests[0]: ("violence",)}) == 0
        ids = {one.prompt: one.id for one in samples.page(db, "dev", 0, 9)}
        assert categories.labels(db, list(ids.values())) == {ids["a"]: ("arson", "hate"), ids["b"]: ()}


def test_a_prediction_of_categories_stays(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store, store.write() as db:
        samples.add(db, [samples.NewSample("dev", "a", None, "made", "1")], NOW)
        kept = {"role": "base", "round": 0, "parent_id": None, "path": "models/base", "sha256": "ab"}
        models.add(db, name="base", meta_json="{}", now=NOW, **kept)  # type: ignore[arg-type]
        categories.predict(db, 1, {1: {"hate": 0.5}})
        categories.predict(db, 1, {1: {"hate": 0.9}})
        assert categories.predicted(db, 1, [1, 2]) == {1: {"hate": 0.5}}
