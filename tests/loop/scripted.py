"""A teacher that answers as it is told, for tests of what the loop makes of each outcome. It is no provider."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wizloop.backends.teachers.base import Answer, Question, Usage, answer_from_raw
from wizloop.backends.teachers.batch_teacher import BatchFault
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.loop.context import Context
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.prices import Price, Tariff
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.recipes.teaching import Batching
from wizloop.store import control, samples, selections, steps
from wizloop.store.db import Store

NOW = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
PRICE = Price.model_validate(
    {"provider": "s", "model": "m", "from": "2026-01-01", "input": 0, "output": 1, "cache_read": 0, "cache_write": 0}
)
WORST, COST = 100, 60
"""Micro-dollars: what a call may cost, and what an answer does cost (half of it in a batch)."""
ROOM = 3000
"""Tokens that an answer may have, if the question does not say more: what it costs at worst grows with them."""

Say = Callable[[Question, int], Answer]
"""What is answered to a question that is asked for the how-manieth time (by its prompt), from 1."""


def ok(asked: Question) -> Answer:
    inner = RecordedTeacher({text_sha(asked.prompt, None): {"request": "unharmful"}})
    return replace(inner.ask(asked), usage=Usage(output_tokens=COST), model="m")


def fault(outcome: Any, category: str = "it broke", **more: Any) -> Answer:
    return Answer(outcome=outcome, category=category, model="m", **{"raw": "{}", "billed": "no", **more})


class Scripted:
    """Asks `say`; counts what was asked, and the most calls at once."""

    name, model, version, free = "scripted", "m", "1", False

    def __init__(self, say: Say, seconds: float = 0.0) -> None:
        self._say, self._seconds, self._lock = say, seconds, threading.Lock()
        self.asked: Counter[str] = Counter()
        self.complaints: list[str | None] = []
        self.rooms: list[int | None] = []
        self.at_once = self.most_at_once = 0

    def worst_usage(self, question: Question) -> Usage:
        return Usage(output_tokens=WORST * (question.max_tokens or ROOM) // ROOM)

    def ask(self, question: Question) -> Answer:
        with self._lock:
            self.asked[question.prompt] += 1
            self.complaints.append(question.complaint)
            self.rooms.append(question.max_tokens)
            number = self.asked[question.prompt]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self._seconds)
        with self._lock:
            self.at_once -= 1
        return self._say(question, number)

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        return answer_from_raw(raw, question, model=self.model, usage=Usage(), stop_reason=stop_reason)


class ScriptedBatches(Scripted):
    """The same in batches, with a provider's memory that outlives this object: `held` is what it has."""

    def __init__(self, say: Say, held: dict[str, tuple[str, list[Question]]], looks: int = 1) -> None:
        super().__init__(say)
        self.held, self._looks = held, looks
        self.refuse: list[BatchFault] = []
        """Raised by the next submissions, in order."""
        self.polls = 0

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        if self.refuse:
            raise self.refuse.pop(0)
        return self.take(questions, tag)

    def take(self, questions: Sequence[Question], tag: str) -> str:
        batch_id = f"batch-{len(self.held) + 1}"
        self.held[batch_id] = (tag, list(questions))
        return batch_id

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        return next((batch_id for batch_id, (held, _) in self.held.items() if held == tag), None)

    def ended(self, batch_id: str) -> bool:
        self.polls += 1
        return self.polls % self._looks == 0

    def collect(self, batch_id: str, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        for asked in reversed(self.held[batch_id][1]):
            yield asked.key, self.ask(asked)


def client(teacher: Scripted, concurrency: int = 4, settle_s: float = 0.0) -> TeacherClient:
    """The teacher as one that costs, live or in batches."""
    settings = Batching(
        model="m", concurrency=concurrency, max_tokens=ROOM, batch_size=8, poll_s=0.01, settle_s=settle_s
    )
    if isinstance(teacher, ScriptedBatches):
        return TeacherClient(teacher, Tariff((PRICE,)), settings=settings, batches=teacher)
    return TeacherClient(teacher, Tariff((PRICE,)), settings=settings)


def context(folder: Path, n: int, cap_micro: int | None = None, **teacher: Any) -> Context:
    """A run at its phase teach with `n` picked samples; `teacher` are settings of the recipe's section."""
    section = {"backoff_s": 0.01, **teacher}
    recipe = Recipe.model_validate_json(json.dumps({"name": "small", "source": "demo", "teacher": section}))
    store = Store.create(folder)
    with store.write() as db:
        control.create_run(
            db,
            name="small",
            recipe_json=canonical_json(recipe),
            recipe_hash=recipe_hash(recipe),
            seed=1,
            cap_micro=cap_micro,
            until=None,
            rounds_wanted=1,
            now=NOW,
        )
        new = [samples.NewSample("seed", f"question {at}", None, "made", "row") for at in range(1, n + 1)]
        samples.add(db, new, NOW)
        steps.begin_round(db, 0, None, NOW)
        steps.begin_step(db, 0, "teach", NOW)
        selections.add(db, [selections.Selection(0, at, "seed", 0.0, at, None, "A seed.") for at in range(1, n + 1)])
    return Context(store, folder, recipe, 0, "teach", lambda: NOW, lambda: False)
