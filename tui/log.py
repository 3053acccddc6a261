"""The fifth screen: the event log with a filter; follows new events until the user stops it."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizloop.console.tables import plain
from wizloop.store import events
from wizloop.store.paging import Page
from wizloop.tui.base_screen import FilterScreen
from wizloop.tui.dialogs import TextView, paragraphs
from wizloop.tui.static import CachedStatic
from wizloop.tui.window_table import Column, Row, WindowTable
from wizloop.tui.workspace import Snapshot

_STYLES = {"info": "", "warn": "yellow", "error": "bold red"}


class LogScreen(FilterScreen):
    """The events."""

    NAME = "log"
    ABOUT = "All events, oldest first. f follows new events, / filters by words, level, phase, round; Enter opens one."
    FILTER = events.EventFilter
    FILTER_HELP = (
        "Which events?\n\nWords of the message, level:warn (info, error), phase:teach, round:1. Empty shows all."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow"),
        Binding("slash", "filter", "Filter", key_display="/"),
    ]

    def body(self) -> Iterable[Widget]:
        """Yield the state line and the table."""
        yield CachedStatic(id="state")
        columns = (Column("time", 15), Column("level", 5), Column("phase", 10), Column("what"))
        yield WindowTable(columns, empty="no events")

    def begin(self) -> None:
        """Show the newest events and follow."""
        table = self.query_one(WindowTable)
        table.follows = True
        table.focus()
        self._show_rows()

    def _show_rows(self) -> None:
        self.query_one(WindowTable).show_rows(self._rows, at="end")
        self._show_state()

    def _rows(self, key: int | None, limit: int, back: bool) -> Sequence[Row]:
        with self.workspace.store.read() as db:
            return [_row(event) for event in events.lines(db, self.filter, Page(limit, key, back))]

    def show(self, snapshot: Snapshot) -> None:
        """Look for new events."""
        self.query_one(WindowTable).poke()

    def action_follow(self) -> None:
        """Start or stop following new events."""
        table = self.query_one(WindowTable)
        table.follows = not table.follows
        if table.follows:
            table.action_jump("end")
        self._show_state()

    def on_window_table_chosen(self, chosen: WindowTable.Chosen) -> None:
        """Show the whole message of an event."""
        row = self.query_one(WindowTable).row
        if row is not None:
            time, level, phase, message = row.cells
            self.app.push_screen(TextView(paragraphs((f"{time}  {level}  {phase}", message))))

    async def filtered(self) -> None:
        """Show the newest events of the new filter."""
        self._show_rows()

    def _show_state(self) -> None:
        following = "following" if self.query_one(WindowTable).follows else "not following"
        self.set_text("#state", plain(f"{following}; filter: {self.filter_text or 'none'}"))


def _row(event: events.Event) -> Row:
    where = f"{event.phase or ''} {'' if event.round is None else event.round}".strip()
    cells = (f"{event.at.astimezone():%d %b %H:%M:%S}"[:15], event.level, where, event.message)
    return Row(event.id, cells, _STYLES[event.level])
