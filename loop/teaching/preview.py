"""What teaching would send, what that would cost, about, and at most: nothing is sent, written or reserved."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.backends.teachers.base import Question, Usage
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.teaching import calls, clients, plugin_teachers, teachers
from wizloop.loop.teaching.expecting import Expected, expected, load_of, nothing
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.store import bills, samples, selections, steps
from wizloop.store.db import Connection


@dataclass(frozen=True)
class Text:
    """A prompt, with a response or without, and the labels that may be shown."""

    prompt: str
    response: str | None
    labels: dict[str, str | None] | None = None


def of_file(path: Path, limit: int) -> list[Text]:
    """The first rows of a file. Raises ImportRefused."""
    return [
        Text(row.prompt, row.response) for row in read_samples(Data(path=str(path), split="pool", limit=limit)).rows
    ]


def of_run(db: Connection, recipe: Recipe, limit: int) -> list[Text]:
    """What a run would ask next: the picked samples without a trace, then the seed, then the pool."""
    newest = max((round.number for round in steps.rounds(db)), default=0)
    picked = [one.sample_id for one in selections.untaught(db, newest)]
    ids = list(dict.fromkeys([*picked, *samples.ids(db, "seed"), *samples.ids(db, "pool")]))[:limit]
    known = {one.id: one for one in samples.get(db, ids)}
    shown = recipe.teacher.sees_label
    return [_text(known[one], shows=shown and known[one].split == "seed") for one in ids]


def told(recipe: Recipe, texts: Sequence[Text], now: datetime, db: Connection | None = None) -> list[dict[str, Any]]:
    """For each teacher: what it would be sent for each text, the most tokens and dollars, and about how many.

    `requests` is empty for a teacher that runs here. `db` holds calls of before, to measure by. Raises PriceError,
    PolicyError.
    """
    asked = [Question(f"{number:064x}", one.prompt, one.response, one.labels) for number, one in enumerate(texts, 1)]
    return [_teacher(recipe, name, asked, now, db) for name in recipe.teacher.names]


def _teacher(recipe: Recipe, name: str, asked: list[Question], now: datetime, db: Connection | None) -> dict[str, Any]:
    if plugin_teachers.is_one(name):
        return _installed(recipe, name, asked, now)
    if name in clients.HERE:
        free = teachers.here(recipe, name)
        return _row(name, free.model, "here", [], Usage(), 0.0, nothing(len(asked)))
    tariff = clients.tariff_of(recipe.teacher, name, now.date())
    seat = clients.seat_of(recipe, name, tariff, None)
    assert isinstance(seat.teacher, RemoteTeacher)
    bounds = [seat.teacher.worst_usage(one) for one in asked]
    most = Usage(sum(one.input_tokens for one in bounds), sum(one.output_tokens for one in bounds))
    paid = clients.is_paid(recipe.teacher, name)
    usd = None if paid and tariff is None else sum(seat.worst_micro(one) for one in asked) / 1e6
    past = None if db is None else bills.billed(db, name, seat.teacher.model, seat.teacher.version)
    about = expected(seat, load_of(asked), past, paid=paid)
    return _row(name, seat.teacher.model, seat.mode, [seat.teacher.request(one) for one in asked], most, usd, about)


def _installed(recipe: Recipe, name: str, asked: list[Question], now: datetime) -> dict[str, Any]:
    """What it sends is not known."""
    table = clients.table_of(recipe.teacher)
    seat = plugin_teachers.seat_of(recipe, name, table, now.date(), capped=False)
    known = seat.teacher.free or seat.tariff is not None
    usd = sum(seat.worst_micro(one) for one in asked) / 1e6 if known else None
    bounds = [seat.teacher.worst_usage(one) for one in asked]
    most = Usage(sum(one.input_tokens for one in bounds), sum(one.output_tokens for one in bounds))
    return _row(name, seat.teacher.model, "here", [], most, usd, plugin_teachers.bound(seat, len(asked), usd))


def _row(
    name: str,
    model: str,
    mode: str,
    requests: list[dict[str, Any]],
    most: Usage,
    usd: float | None,
    about: Expected,
) -> dict[str, Any]:
    bound = {"input_tokens": most.input_tokens, "output_tokens": most.output_tokens, "usd": usd}
    sums = {"at_most": bound, "expected": asdict(about)}
    return {"teacher": name, "model": model, "mode": mode, "requests": requests, **sums}


def _text(sample: samples.Sample, *, shows: bool) -> Text:
    return Text(sample.prompt, sample.response, calls.labels_of(sample) if shows else None)
