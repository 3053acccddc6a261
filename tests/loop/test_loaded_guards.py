"""How many guards a phase keeps in memory: two, or one where a card has no room for another."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.loop.stand_in import StandIn
from wizloop.backends import artifacts, devices
from wizloop.console.progress import pace_of
from wizloop.loop.context import Context
from wizloop.loop.interrupted import Interrupted
from wizloop.recipes import schema
from wizloop.store import models, steps
from wizloop.store.db import Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    with Store.create(tmp_path) as store:
        context = Context(
            store, tmp_path, schema.load("demo"), 0, "classify", lambda: NOW, lambda: False, given=StandIn()
        )
        with store.write() as db:
            steps.begin_step(db, 0, "classify", NOW)
        with artifacts.writing(Path(context.base()), {}) as folder:
            (folder / "config.json").write_text("{}")
        yield context


def three(ctx: Context) -> list[models.Model]:
    asked = {"role": "base", "round": 0, "parent_id": None, "path": "models/base", "sha256": "", "meta_json": "{}"}
    with ctx.store.write() as db:
        made = [models.add(db, name=name, now=NOW, **asked) for name in ("a", "b", "c")]  # type: ignore[arg-type]
        return [models.get(db, each) for each in made]


def test_two_are_kept_and_the_one_not_asked_for_longest_goes(ctx: Context) -> None:
    a, b, c = three(ctx)
    first, second = ctx.guard(a), ctx.guard(b)
    assert ctx.guard(a) is first
    ctx.guard(c)
    assert ctx.guard(a) is first
    assert ctx.guard(b) is not second


@pytest.mark.parametrize(("total", "held", "kept"), [(80, 16, True), (24, 16, False), (47, 16, False), (48, 16, True)])
def test_a_second_is_kept_where_the_card_has_twice_the_first_ones_room_left(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, total: int, held: int, kept: bool
) -> None:
    # A card that has kept 3 GB for later, which count as free.
    card = SimpleNamespace(
        is_initialized=lambda: True,
        mem_get_info=lambda: (total - held - 3, total),
        memory_allocated=lambda: held,
        memory_reserved=lambda: held + 3,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=card))
    assert devices.room_for_another() is kept
    a, b, _ = three(ctx)
    first = ctx.guard(a)
    ctx.guard(b)
    assert (ctx.guard(a) is first) is kept


def step(ctx: Context) -> steps.Step:
    with ctx.store.read() as db:
        (found,) = steps.steps(db, 0)
    return found


def test_what_is_loaded_is_told_before_the_first_progress_and_keeps_the_count(ctx: Context) -> None:
    a, b, _ = three(ctx)
    ctx.guard(a)
    at = NOW + timedelta(seconds=100)
    assert (step(ctx).note, pace_of(step(ctx), at)) == ("loading a", "1 min 40 s, loading a")
    ctx.progress(3, 3)
    ctx.guard(b)
    assert (step(ctx).note, step(ctx).done, step(ctx).total) == ("loading b", 3, 3)
    # It is in memory: there is nothing to wait for.
    ctx.progress(3, 3)
    ctx.guard(b)
    assert step(ctx).note == ""


def test_a_stop_is_heard_while_a_guard_is_waited_for(ctx: Context) -> None:
    a, *_ = three(ctx)
    ctx.stop_asked = lambda: True
    with pytest.raises(Interrupted):
        ctx.guard(a)
