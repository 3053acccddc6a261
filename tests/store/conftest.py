"""Workspaces in tmp_path, and rows to fill them with."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import single_calls
from wizloop.store import models, samples
from wizloop.store.db import Connection, Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture
def db(store: Store) -> Iterator[Connection]:
    """One write transaction around the whole test."""
    with store.write() as connection:
        yield connection


@pytest.fixture
def pool(db: Connection) -> list[int]:
    """Ten samples of the pool."""
    new = [samples.NewSample("pool", f"question {n}", None, "made", f"row {n}") for n in range(10)]
    samples.add(db, new, NOW)
    return samples.ids(db, "pool")


@pytest.fixture
def model(db: Connection) -> int:
    """A base model."""
    described = {
        "role": "base",
        "round": 0,
        "parent_id": None,
        "path": "models/tiny",
        "sha256": "ab",
        "meta_json": "{}",
    }
    return models.add(db, name="tiny", now=NOW, **described)  # type: ignore[arg-type]


@pytest.fixture
def ask(db: Connection, pool: list[int]) -> Callable[..., int]:
    """Plan a teacher call for the n-th sample of the pool."""

    def plan(n: int = 0, round: int = 1, attempt: int = 1) -> int:
        key = f"{n:060x}{round:02x}{attempt:02x}"
        asked = {"sample_id": pool[n], "round": round, "attempt": attempt}
        return single_calls.plan(db, key=key, teacher="policy", model="p1", request_json="{}", now=NOW, **asked)

    return plan


@pytest.fixture
def taught(db: Connection, ask: Callable[..., int]) -> Callable[..., int]:
    """A teacher's trace of the n-th sample of the pool."""

    def trace(n: int = 0, round: int = 1) -> int:
        return single_calls.add_trace(
            db,
            call_id=ask(n, round),
            verdict={"request": "harmful"},
            confidence_word="high",
            trace_json='{"reading": "plain"}',
            explanation="It asks for harm.",
            steps_json="[]",
            now=NOW,
        )

    return trace
