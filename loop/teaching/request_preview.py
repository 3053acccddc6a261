"""A preview of requests to teachers, with their likely and their highest cost. Nothing is sent, written or reserved."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.data.kept_back import with_send
from wizloop.loop.data.sample_reader import AS_IT_IS, read_samples
from wizloop.loop.teaching import clients, plugin_teachers, teachers
from wizloop.loop.teaching.calls import TeacherClient, shown_labels
from wizloop.loop.teaching.estimates import Expected, expected, load_of, nothing
from wizloop.loop.teaching.masking import TooSlow, mask_of, masked
from wizloop.loop.words import Declaration
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.store import costs, samples, selections, sending, steps
from wizloop.store.db import Connection

_About = tuple[str, str | None, Mapping[str, str | None] | None]
"""A prompt, its response, and the labels that a teacher is shown."""


def of_file(recipe: Recipe, path: Path, limit: int, how: Mapping[str, Any] = AS_IT_IS) -> list[Question]:
    """Return questions on the first rows of a file that may be sent; `how` it is read is settings of [[data]].

    Raises ImportRefused.
    """
    data = with_send(recipe, Data(path=str(path), split="pool", limit=limit, **how))
    read = read_samples(data, Declaration.of(recipe.tasks))
    rows = [row for row in read.rows if read.kept_back is None or not read.kept_back.holds(row)]
    shown = recipe.teacher.sees_label == "all"
    labels = [{str(task): label for task, label in row.labels.items()} if shown else {} for row in rows]
    about = [(row.prompt, row.response, known or None) for row, known in zip(rows, labels, strict=True)]
    return _questions(recipe, about)


def of_run(db: Connection, recipe: Recipe, limit: int) -> list[Question]:
    """Return a run's next questions: on selected samples without a trace, then the seed, then the pool.

    Samples that are kept back from the teachers are left out.
    """
    newest = max((round.number for round in steps.rounds(db)), default=0)
    picked = [one.sample_id for one in selections.untaught(db, newest)]
    ids = list(dict.fromkeys([*picked, *samples.ids(db, "seed"), *samples.ids(db, "pool")]))
    kept_back = sending.kept_back(db, ids)
    ids = [one for one in ids if one not in kept_back][:limit]
    known = {one.id: one for one in samples.get(db, ids)}
    declared = Declaration.of(recipe.tasks)
    texts = [(known[n].prompt, known[n].response, shown_labels(recipe.teacher, known[n], declared)) for n in ids]
    return _questions(recipe, texts)


def _questions(
    recipe: Recipe, about: Sequence[tuple[str, str | None, Mapping[str, str | None] | None]]
) -> list[Question]:
    """Return questions on texts, masked as they would be sent; a text that cannot be masked in time is left out."""
    mask, asked = mask_of(recipe.teacher), list[Question]()
    for prompt, response, labels in about:
        with suppress(TooSlow):
            asked.append(Question(_key(len(asked)), *masked(mask, prompt, response), labels))
    return asked


def previews(
    recipe: Recipe, asked: list[Question], now: datetime, db: Connection | None = None
) -> list[dict[str, Any]]:
    """Return each teacher's requests for the questions, their bound in tokens and dollars, and the likely cost.

    `requests` is empty for a local teacher and for a plugin, whose requests are unknown. `db` holds earlier calls, to
    estimate by. Raises PriceError, PolicyError, PluginError.
    """
    return [_preview(recipe, name, asked, now, db) for name in recipe.teacher.names]


def _preview(recipe: Recipe, name: str, asked: list[Question], now: datetime, db: Connection | None) -> dict[str, Any]:
    if name in clients.HERE:
        return _row(TeacherClient(teachers.here(recipe, name)), "here", asked, nothing(len(asked)), 0.0)
    if plugin_teachers.is_installed(name):
        table = clients.table_of(recipe.teacher)
        client = plugin_teachers.client_of(recipe, name, table, now.date(), capped=False)
        usd = _most_usd(client, asked, known=client.teacher.free or client.tariff is not None)
        return _row(client, "here", asked, plugin_teachers.bound(client, len(asked), usd), usd)
    tariff = clients.tariff_of(recipe.teacher, name, now.date())
    client = clients.client_of(recipe, name, tariff, None)
    teacher, paid = client.teacher, clients.is_paid(recipe.teacher, name)
    past = None if db is None else costs.billed(db, name, teacher.model, teacher.version)
    likely = expected(client, load_of(asked), past, paid=paid)
    return _row(client, client.mode, asked, likely, _most_usd(client, asked, known=not paid or tariff is not None))


def _most_usd(client: TeacherClient, asked: list[Question], *, known: bool) -> float | None:
    return sum(client.worst_micro(one) for one in asked) / 1e6 if known else None


def _row(
    client: TeacherClient, mode: str, asked: list[Question], likely: Expected, usd: float | None
) -> dict[str, Any]:
    teacher = client.teacher
    usages = [teacher.worst_usage(one) for one in asked]
    tokens = {name: sum(getattr(one, name) for one in usages) for name in ("input_tokens", "output_tokens")}
    requests = [teacher.request(one) for one in asked] if isinstance(teacher, RemoteTeacher) else []
    head = {"teacher": client.name, "model": teacher.model, "mode": mode}
    return {**head, "requests": requests, "at_most": {**tokens, "usd": usd}, "expected": asdict(likely)}


def _key(at: int) -> str:
    """Return a key that stands in for a question's own, whose length is the same."""
    return f"{at + 1:064x}"
