"""A table that draws only visible lines and reads only nearby rows: by key, in pages, in a thread.

Holds a few pages around the cursor, however many rows there are, and never counts them. A reader supplies the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import work
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from wizloop.store import errors
from wizloop.store.display import shown

PAGE = 120
"""Fewest rows read at once; more on a tall terminal, three screens of them."""
MOST = 4
"""Pages kept; beyond that the rows farthest from the cursor are dropped, and read again when needed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: its key for paging, its cells as stored, and a Rich style."""

    key: int
    cells: tuple[str, ...]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and its width in cells; a width of 0 takes the rest."""

    title: str
    width: int = 0


Reader = Callable[[int | None, int, bool], Sequence[Row]]
"""(key, limit, back): the next rows after the key, or the last before it, by ascending key; None for that end."""
_Part = Literal["start", "end", "more", "earlier"]


class WindowTable(Widget, can_focus=True):
    """The table. Give it a reader with `show_rows`; it posts Chosen and Failed."""

    DEFAULT_CSS = "WindowTable { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "jump('start')", "First", show=False),
        Binding("end", "jump('end')", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """The user opened a row."""

        key: int

    @dataclass
    class Failed(Message):
        """The reader raised an error."""

        error: errors.StoreError

    @dataclass
    class Got(Message):
        """A page of at most `limit` rows was read; it is stale if `turn` is not the current one."""

        turn: int
        part: _Part
        rows: Sequence[Row]
        limit: int

    def __init__(self, columns: Sequence[Column], *, empty: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.rows: list[Row] = []
        self.cursor = 0
        self.top = 0
        self.follows = False
        """Whether the cursor stays on the last row when `poke` finds more."""
        self._empty = empty
        self._reader: Reader | None = None
        self._base: Style | None = None
        self._drawn: tuple[list[int], int] = ([], 0)
        """The visible keys and the cursor's place among them, as they were drawn."""
        self._turn = 0
        self._reading = False
        self._ends = {"earlier": True, "more": True}
        """Whether there are no rows before, or after, those held."""

    @property
    def key(self) -> int | None:
        """Key of the row under the cursor."""
        return None if self.row is None else self.row.key

    @property
    def row(self) -> Row | None:
        """Row under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    def show_rows(self, reader: Reader, *, at: Literal["start", "end"] = "start") -> None:
        """Show the rows of a reader, from its first or its last."""
        self._reader = reader
        self._turn += 1
        self._read(at)

    def poke(self) -> None:
        """Look for new rows after the last one."""
        if self._ends["more"] and not self._reading and self._reader is not None:
            self._read("more" if self.rows else "start")

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by pages."""
        step = by * max(self._height - 1, 1)
        self.top += step
        self._go(self.cursor + step)

    def action_jump(self, to: Literal["start", "end"]) -> None:
        """Move the cursor to the first or the last row."""
        held = self._ends["earlier" if to == "start" else "more"]
        if held:
            self._go(0 if to == "start" else len(self.rows) - 1)
        elif self._reader is not None:
            self._turn += 1
            self._read(to)

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.key is not None:
            self.post_message(self.Chosen(self.key))

    def on_click(self, event: Click) -> None:
        """Move the cursor to the clicked row."""
        if event.y > 0:
            self._go(self.top + event.y - 1)

    def on_mouse_scroll_down(self) -> None:
        """Move the cursor down."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """Move the cursor up."""
        self.action_move(-3)

    def on_resize(self) -> None:
        """Keep the cursor visible."""
        self._go(self.cursor)

    @property
    def _height(self) -> int:
        """Rows that fit below the heading."""
        return max(self.size.height - 1, 1)

    @property
    def _page(self) -> int:
        """Rows read at once."""
        return max(PAGE, 3 * self._height)

    def _go(self, to: int) -> None:
        """Put the cursor on a held row, keep it visible, and read ahead."""
        self.cursor = max(min(to, len(self.rows) - 1), 0)
        lowest = max(self.cursor - self._height + 1, 0)
        self.top = min(max(self.top, lowest), self.cursor, max(len(self.rows) - self._height, 0))
        if len(self.rows) - self.cursor <= 2 * self._height and not self._ends["more"]:
            self._read("more")
        elif self.cursor < 2 * self._height and not self._ends["earlier"]:
            self._read("earlier")
        self._draw_again()

    def _draw_again(self) -> None:
        """Redraw the old and the new line of the cursor, or everything if other rows are visible."""
        sight = [row.key for row in self.rows[self.top : self.top + self._height]]
        place = self.cursor - self.top
        (before, left), self._drawn = self._drawn, (sight, place)
        if not sight or sight != before:
            self.refresh()
        elif place != left:
            self.refresh(*(Region(0, y + 1, self.size.width, 1) for y in (left, place)))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render lines as Textual does, computing the style, which is slower than a line, once for all of them."""
        self._base = self.rich_style
        return super().render_lines(crop)

    def _read(self, part: _Part) -> None:
        if self._reading and part in ("more", "earlier"):
            return
        self._reading = True
        keys = {"more": self.rows[-1].key, "earlier": self.rows[0].key} if self.rows else {}
        self._fetch(self._reader, self._turn, part, keys.get(part), self._page)

    @work(thread=True, group="table")
    def _fetch(self, reader: Reader, turn: int, part: _Part, key: int | None, limit: int) -> None:
        try:
            rows = reader(key, limit, part in ("end", "earlier"))
        except errors.StoreError as error:
            self.post_message(self.Failed(error))
            return
        self.post_message(self.Got(turn, part, rows, limit))

    def on_window_table_failed(self, failed: Failed) -> None:
        """Allow reading again; the message bubbles to the screen."""
        self._reading = False

    def on_window_table_got(self, got: Got) -> None:
        """Add the rows of a page, unless it is stale."""
        got.stop()
        if got.turn != self._turn:
            return
        self._reading = False
        full = len(got.rows) == got.limit
        if got.part in ("start", "end"):
            self.rows, self.top, self.cursor, self._drawn = list(got.rows), 0, 0, ([], 0)
            self._ends = {"earlier": got.part == "start" or not full, "more": got.part == "end" or not full}
            self._go(0 if got.part == "start" else len(self.rows) - 1)
        elif got.part == "more":
            self._take_more(got.rows, full)
        else:
            self._take_earlier(got.rows, full)

    def _take_more(self, new: Sequence[Row], full: bool) -> None:
        at_end = self.cursor >= len(self.rows) - 1
        self.rows += new
        self._ends["more"] = not full
        excess = min(max(len(self.rows) - MOST * self._page, 0), self.top)
        if excess:
            del self.rows[:excess]
            self.top -= excess
            self.cursor -= excess
            self._ends["earlier"] = False
        self._go(len(self.rows) - 1 if self.follows and at_end else self.cursor)

    def _take_earlier(self, new: Sequence[Row], full: bool) -> None:
        self.rows[:0] = new
        self.top += len(new)
        self.cursor += len(new)
        self._ends["earlier"] = not full
        if len(self.rows) > MOST * self._page:
            keep = max(MOST * self._page, self.top + self._height)
            self._ends["more"] = self._ends["more"] and len(self.rows) <= keep
            del self.rows[keep:]
        self._go(self.cursor)

    def render_line(self, y: int) -> Strip:
        """Render one line: the heading, a row, or nothing."""
        base, width = self._base or self.rich_style, self.size.width
        if y == 0:
            return self._strip(tuple(column.title for column in self.columns), "  ", base + Style(bold=True), width)
        at = self.top + y - 1
        if not self.rows and y == 1:
            return Strip([Segment(set_cell_size(self._empty, width), base)], width)
        if at >= len(self.rows):
            return Strip.blank(width, base)
        row, here = self.rows[at], at == self.cursor
        style = base + Style.parse(row.style) + (Style(reverse=self.has_focus, bold=True) if here else Style())
        return self._strip(row.cells, "> " if here else "  ", style, width)

    def _strip(self, cells: Sequence[str], mark: str, style: Style, width: int) -> Strip:
        left = width - len(mark) - sum(column.width + 1 for column in self.columns)
        parts = [fitted(cell, column.width or max(left, 4)) for cell, column in zip(cells, self.columns, strict=True)]
        return Strip([Segment(set_cell_size(mark + " ".join(parts), width), style)], width)


def fitted(text: str, width: int) -> str:
    """Sanitize a stored text and fit it to exactly `width` cells of one line, with an ellipsis if it is longer."""
    line = shown(text[: 4 * width + 16], max(8 * width, 64)).replace("\n", " ")
    if cell_len(line) <= width and len(text) <= 4 * width + 16:
        return set_cell_size(line, width)
    return set_cell_size(line, max(width - 1, 0)) + "…"
