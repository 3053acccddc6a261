"""The fifth screen: what happened, line by line, with a filter; it follows what is new until told not to."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizloop.console.tables import plain
from wizloop.store import events
from wizloop.store.paging import Page
from wizloop.tui.base_screen import Room
from wizloop.tui.dialogs import Line, paragraphs
from wizloop.tui.filters import BadFilter, parsed
from wizloop.tui.reading import Reading
from wizloop.tui.static import Still
from wizloop.tui.window_table import Column, Row, WindowTable
from wizloop.tui.workspace import Look

_STYLES = {"info": "", "warn": "yellow", "error": "bold red"}
_HELP = "Words that the line holds, level:warn (info, error), phase:teach, round:1. Empty shows all."


class LogRoom(Room):
    """The events."""

    NAME = "log"
    ABOUT = "What happened, oldest first. f follows what is new, / filters by words, level, phase, round; Enter opens."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow"),
        Binding("slash", "filter", "Filter", key_display="/"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._wanted, self._asked = events.EventFilter(), ""

    def body(self) -> Iterable[Widget]:
        yield Still(id="state")
        columns = (Column("time", 15), Column("level", 5), Column("phase", 10), Column("what"))
        yield WindowTable(columns, empty="nothing has happened yet")

    def begin(self) -> None:
        table = self.query_one(WindowTable)
        table.follows = True
        table.show_rows(self._rows, at="end")
        table.focus()
        self._tell()

    def _rows(self, key: int | None, limit: int, back: bool) -> Sequence[Row]:
        with self.desk.store.read() as db:
            found = events.lines(db, self._wanted, Page(limit, key, back))
        return [_row(event) for event in found]

    def show(self, look: Look) -> None:
        """There may be more."""
        self.query_one(WindowTable).poke()

    def action_follow(self) -> None:
        table = self.query_one(WindowTable)
        table.follows = not table.follows
        if table.follows:
            table.action_jump("end")
        self._tell()

    def action_filter(self) -> None:
        self.app.push_screen(Line(f"Which events?\n\n{_HELP}", self._asked), self._filtered)

    def on_window_table_chosen(self, chosen: WindowTable.Chosen) -> None:
        """Show the whole of one event, which is longer than a line perhaps."""
        row = self.query_one(WindowTable).row
        if row is not None:
            time, level, phase, message = row.cells
            self.app.push_screen(Reading(paragraphs((f"{time}  {level}  {phase}", message))))

    def _filtered(self, line: str | None) -> None:
        if line is None:
            return
        try:
            self._wanted = parsed(line, events.EventFilter)
        except BadFilter as error:
            self.wizloop.say(str(error), "warning")
            return
        self._asked = line
        self.query_one(WindowTable).show_rows(self._rows, at="end")
        self._tell()

    def _tell(self) -> None:
        following = "following" if self.query_one(WindowTable).follows else "not following"
        self.query_one("#state", Still).say(plain(f"{following}; filter: {self._asked or 'none'}"))


def _row(event: events.Event) -> Row:
    where = f"{event.phase or ''} {'' if event.round is None else event.round}".strip()
    cells = (f"{event.at.astimezone():%d %b %H:%M:%S}"[:15], event.level, where, event.message)
    return Row(event.id, cells, _STYLES[event.level])
