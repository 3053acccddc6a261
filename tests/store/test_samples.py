"""Samples, their hashes and their counters."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import stored
from wizloop.store import hashing, samples
from wizloop.store.db import Connection, Store
from wizloop.store.samples import Added, NewSample


def _new(prompt: str, split: str = "pool", response: str | None = None, **labels: str | None) -> NewSample:
    return NewSample(split, prompt, response, "made", "row", **labels)


def test_adding_again_changes_nothing(db: Connection, now: datetime) -> None:
    new = [_new("a"), _new("b", response="c"), _new("b")]
    assert samples.add(db, new, now) == Added(3, 0, 0, 0)
    assert samples.add(db, new, now) == Added(0, 3, 0, 0)
    assert samples.counts(db) == {"pool": 3, "seed": 0, "dev": 0, "test": 0}


@pytest.mark.parametrize(
    ("second", "outcome"),
    [
        (_new("a", request="harmful"), Added(0, 1, 0, 0)),
        (_new("a"), Added(0, 1, 0, 0)),
        (_new("a", request="harmful", completion="refusal"), Added(0, 1, 0, 0)),
        (_new("a", request="unharmful"), Added(0, 0, 1, 0)),
        (_new("a", "dev", request="harmful"), Added(0, 1, 0, 1)),
        (_new("a", "dev", request="unharmful"), Added(0, 0, 1, 0)),
        (_new("a", "dev", response=""), Added(1, 0, 0, 0)),
        (_new("A", "dev"), Added(1, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_one_text_is_in_one_split_with_one_label(
    db: Connection, now: datetime, second: NewSample, outcome: Added, together: bool
) -> None:
    first = _new("a", request="harmful")
    if together:
        both = Added(outcome.added + 1, outcome.duplicates, outcome.conflicts, outcome.elsewhere)
        assert samples.add(db, [first, second], now) == both
    else:
        samples.add(db, [first], now)
        assert samples.add(db, [second], now) == outcome
    (kept,) = samples.get(db, [1])
    assert (kept.split, kept.request, kept.completion) == ("pool", "harmful", None)


def test_a_page_ends_where_the_next_begins(db: Connection, pool: list[int]) -> None:
    samples.exclude(db, [pool[1], pool[4]], "leaked")
    seen: list[int] = []
    while found := samples.page(db, "pool", seen[-1] if seen else 0, 3):
        seen += [sample.id for sample in found]
    assert seen == [n for n in pool if n not in (pool[1], pool[4])] == samples.ids(db, "pool")
    assert len(samples.page(db, "pool", 0, 100, include_excluded=True)) == 10
    assert samples.page(db, "dev", 0, 100) == []


def test_many_ids_are_more_than_one_statement_takes(db: Connection, now: datetime) -> None:
    samples.add(db, [_new(f"{n}") for n in range(2500)], now)
    wanted = [*range(2500, 0, -1), 9999]
    assert [sample.id for sample in samples.get(db, wanted)] == list(range(1, 2501))


def test_an_excluded_sample_keeps_its_first_reason_and_leaves_the_counts(db: Connection, now: datetime) -> None:
    samples.add(db, [_new("a", request="harmful"), _new("b", request="harmful", response_label="unharmful")], now)
    assert samples.label_counts(db) == {"pool": {"request": {"harmful": 2}, "response": {"unharmful": 1}}}
    assert samples.exclude(db, [2, 2, 99], "wrong label") == 1
    assert samples.exclude(db, [2], "leaked") == 0
    assert samples.get(db, [2])[0].excluded == "wrong label"
    assert samples.label_counts(db) == {"pool": {"request": {"harmful": 1}}}
    assert samples.counts(db)["pool"] == 1
    assert stored.excluded(db)["pool"] == 1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello,   World!", "hello world"),
        ("ＦＵＬＬ　ｗｉｄｔｈ ﬁ", "full width fi"),
        ("STRASSE straße", "strasse strasse"),
        ("कि की", "कि की"),
        ("a_b-c\td", "a_b c d"),
        ("क्षि, \u0301x", "क्षि x"),
        ("love ❤\ufe0f 1\ufe0f\u20e3!", "love 1\ufe0f\u20e3"),
        ("!?", ""),
        ("", ""),
    ],
)
def test_what_of_a_text_is_compared(text: str, normal: str) -> None:
    assert hashing.words(text) == normal


def test_the_content_hash_is_sha256_of_length_prompt_and_response() -> None:
    # printf '\0\0\0\0\0\0\0\1a\0' | sha256sum, and '\0\0\0\0\0\0\0\1a\1b'
    assert hashing.content_digest("a", None).hex() == "e35cf1746c014a44cf6c00d0c0df904218ea91138dc00f8b64169be214878a17"
    assert hashing.content_digest("a", "b").hex() == "fa8b31aa6ba413027a050109332df2c72732c0349a5f47e70d96a7acce123635"


TEXT = st.text(alphabet="a\0\1b", max_size=6)


@given(TEXT, st.none() | TEXT, TEXT, st.none() | TEXT)
def test_two_texts_never_make_the_same_bytes(p: str, r: str | None, q: str, s: str | None) -> None:
    assert (hashing.content_digest(p, r) == hashing.content_digest(q, s)) == ((p, r) == (q, s))


LABEL = st.none() | st.sampled_from(["harmful", "unharmful"])
ROW = st.builds(
    NewSample,
    split=st.sampled_from(samples.SPLITS),
    prompt=st.sampled_from([f"p{n}" for n in range(12)]),
    response=st.none() | st.just("r"),
    source=st.just("made"),
    row_ref=st.just("row"),
    request=LABEL,
    completion=st.none() | st.just("refusal"),
    response_label=LABEL,
)
WORK = st.lists(st.lists(ROW, max_size=8) | st.sets(st.integers(1, 20), max_size=4), max_size=8)


@settings(max_examples=25, deadline=None)
@given(WORK)
def test_the_counters_are_the_real_counts(work: list[list[NewSample] | set[int]]) -> None:
    moment = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    with TemporaryDirectory() as folder, Store.create(Path(folder)) as store, store.write() as db:
        given_rows = 0
        for task in work:
            if isinstance(task, set):
                samples.exclude(db, list(task), "random")
            else:
                added = samples.add(db, task, moment)
                given_rows = added.added + added.duplicates + added.conflicts
                assert given_rows == len(task)
        there = [row for split in samples.SPLITS for row in samples.page(db, split, 0, 1000, include_excluded=True)]
        usable = [row for row in there if row.excluded is None]
        assert +Counter(samples.counts(db)) == Counter(row.split for row in usable)
        assert sum(stored.excluded(db).values()) == len(there) - len(usable)
        counted = {
            (split, task, label): n
            for split, tasks in samples.label_counts(db).items()
            for task, labels in tasks.items()
            for label, n in labels.items()
        }
        real = [
            (row.split, task, label)
            for row in usable
            for task, label in (
                ("request", row.request),
                ("completion", row.completion),
                ("response", row.response_label),
            )
            if label
        ]
        assert counted == Counter(real)
