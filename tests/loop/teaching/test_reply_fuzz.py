"""Replies of every shape against the wire formats: no neighbour is lost, nothing is charged twice, all is stored.

Every second reply is a good one: it must be taught, whatever came beside it.
"""

import copy
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import context
from tests.servers.claude_wire import ClaudeServer
from tests.servers.gemini_wire import GeminiServer
from tests.servers.openai_wire import OpenAIWire
from tests.servers.pairs import KINDS, teacher
from tests.servers.provider import Provider
from wizloop.backends.http.exchange import Exchange
from wizloop.backends.teachers.base import Answer, Question
from wizloop.loop.context import Context
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.prices import Price, Tariff
from wizloop.recipes.teaching import Batching, Remote
from wizloop.store import spending, teacher_calls

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 10**30, -(10**30), 1e308, "", "x", "\ud800", "a\udfffb", "9" * 400, "\0"),
    *([], {}, [[]], [None], {"a": {}}, ["x", 1], {"text": 3}, "x" * 9_000, [{"type": "text", "text": None}]),
)
SERVERS: dict[str, type[Provider]] = {"claude": ClaudeServer, "gemini": GeminiServer, "openai": OpenAIWire}
RATE = {"provider": "s", "model": "m", "from": "2026-01-01", "input": 1, "output": 1, "cache_read": 1, "cache_write": 1}
TARIFF = Tariff((Price.model_validate(RATE),))


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in parsed JSON."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(one for name, value in inner for one in places(value, (*path, name)))]


def spoiled(reply: Any, rng: random.Random) -> bytes:
    """A reply with up to three of its values replaced or gone, or cut off, or with bytes that are no text."""
    made = copy.deepcopy(reply)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(places(made))
        if not path:
            continue
        at = made
        for name in path[:-1]:
            at = at[name]
        if rng.random() < 0.2 and isinstance(at, dict):
            del at[path[-1]]
        else:
            at[path[-1]] = copy.deepcopy(rng.choice(ODD))
    whole = json.dumps(made).encode()
    if rng.random() < 0.15:
        whole = whole[: rng.randrange(len(whole))]
    return whole.replace(b"a", b"\xed\xa0\x80", 1) if rng.random() < 0.1 else whole


class Books:
    """What was sent, and how often."""

    def __init__(self, kind: str, seed: int) -> None:
        self.wire, self.seed, self.asked, self.lock = SERVERS[kind](), seed, Counter[str](), threading.Lock()

    def reply(self, asking: Any, asked: Question, *, batch: bool) -> Any:
        """A good reply to a question."""
        with self.lock:
            self.asked[asked.key] += 1
        return self.wire.message(asking.request(asked), None, batch)[0]

    def sent(self, asked: Question, whole: Any) -> bytes:
        """A whole reply as it is sent: spoiled, unless the question is one whose answer must not be lost."""
        rng = random.Random(f"{self.seed} {asked.prompt}")
        return json.dumps(whole).encode() if is_good(asked.prompt) else spoiled(whole, rng)


def is_good(prompt: str) -> bool:
    return int(prompt.split()[-1]) % 2 == 0


def fuzzed(kind: str, seed: int) -> tuple[Any, Books]:
    """A teacher whose connection gives such replies: all of its reading is its own."""
    asking, books, local = teacher(kind, "http://127.0.0.1:9"), Books(kind, seed), threading.local()

    def ask(asked: Question) -> Answer:
        body = books.sent(asked, books.reply(asking, asked, batch=False))
        local.exchange = Exchange(0.0, 10_000_000, sent=True, status=200, body=body)
        found: Answer = type(asking).ask(asking, asked)
        return found

    asking.ask, asking.call = ask, lambda *_, **__: local.exchange
    return asking, books


def rows_of(kind: str, books: Books, asking: Any, held: Mapping[str, Question]) -> list[dict[str, Any]]:
    """The rows of a batch's results, as far as their lines are JSON."""
    lines = []
    for asked in held.values():
        reply = books.reply(asking, asked, batch=True)
        succeeded = {"custom_id": asked.key, "result": {"type": "succeeded", "message": reply}}
        lines.append(books.sent(asked, succeeded if kind == "claude" else {"key": asked.key, "response": reply}))
    exchange = Exchange(0.0, 10**9, status=200, body=b"\n".join(lines))
    return [row for row in exchange.lines() if row is not None]


def batched(kind: str, seed: int) -> tuple[Any, Books]:
    """A teacher whose batches give such rows."""
    asking, books, held = teacher(kind, "http://127.0.0.1:9"), Books(kind, seed), dict[str, dict[str, Question]]()

    def submit(questions: Sequence[Question], tag: str) -> str:
        held[tag] = {one.key: one for one in questions}
        return tag

    asking.submit, asking.ended = submit, lambda batch_id: True
    asking.results = lambda batch_id: (rows_of(kind, books, asking, held[batch_id]), None)
    asking.missing_rows = lambda batch_id, missing, rows: iter(())
    return asking, books


def checked(ctx: Context, books: Books, samples: int) -> None:
    """Every good reply is taught, every call was sent once, and the sums of money are those of the calls."""
    with ctx.store.read() as db:
        made, money = teacher_calls.calls(db, 0), spending.budget(db)
        taught = {one.sample_id for one in teacher_calls.traces(db, 0)}
    assert {at for at in range(1, samples + 1) if at % 2 == 0} <= taught
    assert set(books.asked.values()) == {1}
    assert {call.key for call in made} == set(books.asked)
    assert {call.state for call in made} <= {"parsed", "refused", "failed", "ambiguous"}
    assert money.settled_micro == sum(call.cost_micro or 0 for call in made)
    assert money.reserved_micro == sum(call.reserved_micro for call in made)
    assert {call.state for call in made if call.reserved_micro} <= {"ambiguous"}
    assert all(call.cost_micro for call in made if call.state == "parsed")


def fuzz_live(folder: Path, kind: str, seed: int, samples: int) -> None:
    asking, books = fuzzed(kind, seed)
    ctx = context(folder, samples, second_ask=False, tries=1)
    settings = Remote(model=asking.model, concurrency=16)
    for _ in range(samples):
        told = teach(ctx, [TeacherClient(asking, TARIFF, settings=settings)])
        if not _left(ctx, samples, books):
            break
    assert told
    checked(ctx, books, samples)


def fuzz_batches(folder: Path, kind: str, seed: int, samples: int) -> None:
    asking, books = batched(kind, seed)
    ctx = context(folder, samples, second_ask=False, tries=1)
    settings = Batching(model=asking.model, poll_s=0.01, settle_s=0.0, batch_size=200)
    for _ in range(samples):
        teach(ctx, [TeacherClient(asking, TARIFF, settings=settings, batches=asking)])
        if not _left(ctx, samples, books):
            break
    checked(ctx, books, samples)


def _left(ctx: Context, samples: int, books: Books) -> int:
    """Samples that nobody was asked about: a reply may have given the teacher up for the rest."""
    with ctx.store.read() as db:
        asked = {call.sample_id for call in teacher_calls.calls(db, 0) if call.state not in ("planned", "reserved")}
    return samples - len(asked)


CASES: list[tuple[Callable[[Path, str, int, int], None], str]] = [
    *((fuzz_live, kind) for kind in KINDS),
    *((fuzz_batches, kind) for kind in ("claude", "gemini")),
]


@pytest.mark.parametrize(("fuzz", "kind"), CASES)
def test_two_thousand_replies(tmp_path: Path, fuzz: Callable[[Path, str, int, int], None], kind: str) -> None:
    fuzz(tmp_path, kind, 1, 400)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("fuzz", "kind"), CASES)
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_hundred_thousand_replies(
    tmp_path: Path, fuzz: Callable[[Path, str, int, int], None], kind: str, seed: int
) -> None:
    fuzz(tmp_path, kind, seed, 2_000)
