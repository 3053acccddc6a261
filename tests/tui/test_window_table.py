"""The table that holds a few pages of many rows: every row is reached in order, both ways, and none is shown twice."""

import asyncio
from collections.abc import Sequence

import pytest
from textual.app import App, ComposeResult

from wizloop.tui.window_table import Column, Row, WindowTable, fitted

N = 1500


def reader(key: int | None, limit: int, back: bool) -> Sequence[Row]:
    keys = range(0, N * 10, 10)
    found = [one for one in keys if key is None or (one < key if back else one > key)]
    part = found[-limit:] if back else found[:limit]
    return [Row(one, (str(one), f"row {one}")) for one in part]


class TableApp(App[None]):
    def compose(self) -> ComposeResult:
        yield WindowTable((Column("key", 6), Column("what")), empty="none")


def held(table: WindowTable) -> list[int]:
    return [row.key for row in table.rows]


@pytest.mark.parametrize(("key", "end", "last"), [("pagedown", "start", (N - 1) * 10), ("pageup", "end", 0)])
def test_every_row_is_reached_in_order(key: str, end: str, last: int) -> None:
    async def play() -> None:
        app = TableApp()
        async with app.run_test(size=(40, 60)) as pilot:
            table = app.query_one(WindowTable)
            table.show_rows(reader, at="start" if end == "start" else "end")
            table.focus()
            await pilot.pause(0.05)
            seen, keys = set[int](), -1
            while table.key != last and len(seen) != keys:
                keys = len(seen)
                shown = held(table)[table.top : table.top + table.size.height - 1]
                assert shown == list(range(shown[0], shown[-1] + 10, 10))
                assert len(table.rows) <= 4 * max(120, 3 * 59) + 59
                seen.update(shown)
                await pilot.press(key)
                while any(worker.is_running for worker in app.workers):
                    await pilot.pause(0.005)
            assert table.key == last
            assert len(seen) >= N - 59

    asyncio.run(play())


@pytest.mark.parametrize(
    "keys", ["down", "pagedown", "pagedown up", "end", "down home", "end pageup", "pagedown pageup"]
)
def test_what_is_drawn_is_what_is_held(keys: str) -> None:
    async def play() -> None:
        app = TableApp()
        async with app.run_test(size=(40, 20)) as pilot:
            table = app.query_one(WindowTable)
            table.show_rows(reader)
            table.focus()
            await pilot.pause(0.05)
            for key in keys.split():
                await pilot.press(key)
                await pilot.pause(0.05)
            drawn = [strip.text for strip in app.screen._compositor.render_strips()[1:20]]
            held = [
                f"{'> ' if at == table.cursor else '  '}{table.rows[at].cells[0]:6} "
                for at in range(table.top, table.top + 19)
            ]
            assert [line[:9] for line in drawn] == held

    asyncio.run(play())


def test_nothing_to_show_says_so() -> None:
    async def play() -> None:
        app = TableApp()
        async with app.run_test(size=(40, 10)) as pilot:
            table = app.query_one(WindowTable)
            table.show_rows(lambda key, limit, back: [])
            await pilot.pause(0.05)
            await pilot.press("down", "end", "pageup", "enter")
            assert table.key is None
            assert table.render_line(1).text.startswith("none")

    asyncio.run(play())


@pytest.mark.parametrize(
    ("text", "width", "said"),
    [
        ("short", 8, "short   "),
        ("exactly8", 8, "exactly8"),
        ("longer than eight", 8, "longer …"),
        ("two\nlines", 9, "two lines"),
        ("漢字漢字", 6, "漢字 …"),
        ("\x1b[2J", 8, "␛[2J    "),
    ],
)
def test_a_cell_is_as_wide_as_its_column(text: str, width: int, said: str) -> None:
    assert fitted(text, width) == said
