"""Sets of outputs to rate, made up: knives and whetstones, every second one with a response."""

import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from wizloop.store import ratings, sqlite
from wizloop.store.db import Store
from wizloop.store.ratings import Answer, NewOutput

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
HARM, REFUSAL = ("harmful", "unharmful"), ("refusal", "compliance")
ANNA, BOB = "person:anna", "person:bob"


def output(n: int, *, reasoning: str = "It is about a kitchen.\nNobody is hurt.", says: str = "unharmful") -> NewOutput:
    """The n-th output; every second has a response."""
    pair = n % 2 == 1
    questions = [("request", HARM), *([("completion", REFUSAL), ("response", HARM)] if pair else [])]
    response = "With a whetstone." if pair else None
    return NewOutput(None, f"made:{n}", f"how sharp is knife {n}", response, reasoning, questions, {"request": says})


@cache
def _empty() -> bytes:
    """A new workspace's database: migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        Store.create(Path(folder)).close()
        return (Path(folder) / sqlite.DB_NAME).read_bytes()


def begin(folder: Path) -> None:
    """Make a workspace without a run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sqlite.DB_NAME).write_bytes(_empty())


def add(folder: Path, n: int = 4, **of_each: str) -> int:
    """Add a set of n outputs to a workspace, which need not be there; its id."""
    if not (folder / sqlite.DB_NAME).exists():
        begin(folder)
    with Store.open(folder) as store, store.write() as db:
        outputs = [output(at, **of_each) for at in range(n)]
        return ratings.add_set(db, of="file", name="made.jsonl", round=None, seed=1, outputs=outputs, now=NOW)


def answer(n: int, request: str = "unharmful", coherence: int | None = 4) -> Answer:
    """A whole answer on the n-th output."""
    pair = {"completion": "compliance", "response": "unharmful"} if n % 2 == 1 else {}
    return Answer({"request": request, **pair}, coherence)


def rate(folder: Path, by: str, answers: dict[int, Answer]) -> None:
    """Record a rater's answers on the outputs with these numbers, from 0, of the newest set."""
    with Store.open(folder) as store, store.write() as db:
        outputs = ratings.outputs(db, ratings.get_set(db).id)
        for n, given in answers.items():
            ratings.rate(db, outputs[n].id, by, given, now=NOW, rating_id=f"{by}-{outputs[n].id}")
