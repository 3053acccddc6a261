"""A table that draws the lines that are seen and reads the rows that are near: by key, in pages, in a thread.

It holds a few pages around the cursor, however many rows there are, and never counts them. What the rows are is its
reader's business.
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
"""Rows that are read at once at least; three screens of them on a high terminal."""
MOST = 4
"""Pages that are kept; beyond, the rows farthest from the cursor are dropped and read again when needed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: its key, by which more are read, its cells as stored, and a Rich style."""

    key: int
    cells: tuple[str, ...]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and its width in cells; a width of 0 takes what is left."""

    title: str
    width: int = 0


Reader = Callable[[int | None, int, bool], Sequence[Row]]
"""(key, limit, back): the next rows after the key, or the last ones before it, keys rising; None is the end there."""
_Part = Literal["start", "end", "more", "earlier"]


class WindowTable(Widget, can_focus=True):
    """The table. Give it a reader with `show_rows`; it posts Moved and Chosen."""

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

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, key: int) -> None:
            super().__init__()
            self.key = key

    class Chosen(Message):
        """The person wants to see this row."""

        def __init__(self, key: int) -> None:
            super().__init__()
            self.key = key

    class Failed(Message):
        """The reader raised."""

        def __init__(self, error: errors.StoreError) -> None:
            super().__init__()
            self.error = error

    class Got(Message):
        """A page has been read; `turn` tells whether anybody still wants it."""

        def __init__(self, turn: int, part: _Part, rows: Sequence[Row], asked: int) -> None:
            super().__init__()
            self.turn, self.part, self.rows, self.asked = turn, part, rows, asked

    def __init__(self, columns: Sequence[Column], *, empty: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.rows: list[Row] = []
        self.cursor = 0
        self.top = 0
        self.follows = False
        """Whether the cursor stays on the newest row as `poke` finds more."""
        self._empty = empty
        self._reader: Reader | None = None
        self._base: Style | None = None
        self._drawn: tuple[list[int], int] = ([], 0)
        """The keys in sight and the cursor's place among them, as they are on the screen."""
        self._turn = 0
        self._reading = False
        self._ends = {"earlier": True, "more": True}
        """Whether there is nothing before, or after, the rows that are held."""

    @property
    def key(self) -> int | None:
        """The key under the cursor."""
        return self.rows[self.cursor].key if self.rows else None

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    def show_rows(self, reader: Reader, *, at: Literal["start", "end"] = "start") -> None:
        """Show what this reader reads, from its first or its last row."""
        self._reader = reader
        self._turn += 1
        self._read(at)

    def poke(self) -> None:
        """There may be new rows after the last one."""
        if self._ends["more"] and not self._reading and self._reader is not None:
            self._read("more" if self.rows else "start")

    def action_move(self, by: int) -> None:
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        step = by * max(self._height - 1, 1)
        self.top += step
        self._go(self.cursor + step)

    def action_jump(self, to: Literal["start", "end"]) -> None:
        held = self._ends["earlier" if to == "start" else "more"]
        if held:
            self._go(0 if to == "start" else len(self.rows) - 1)
        elif self._reader is not None:
            self._turn += 1
            self._read(to)

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self.key))

    def on_click(self, event: Click) -> None:
        if event.y > 0:
            self._go(self.top + event.y - 1)

    def on_mouse_scroll_down(self) -> None:
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        self.action_move(-3)

    def on_resize(self) -> None:
        self._go(self.cursor)

    @property
    def _height(self) -> int:
        """Rows that fit under the heading."""
        return max(self.size.height - 1, 1)

    @property
    def _page(self) -> int:
        """Rows that are read at once."""
        return max(PAGE, 3 * self._height)

    def _go(self, to: int) -> None:
        """Put the cursor on a row that is held, keep it in sight, and read ahead of it."""
        before = self.key
        self.cursor = max(min(to, len(self.rows) - 1), 0)
        lowest = max(self.cursor - self._height + 1, 0)
        self.top = min(max(self.top, lowest), self.cursor, max(len(self.rows) - self._height, 0))
        if self.key is not None and self.key != before:
            self.post_message(self.Moved(self.key))
        if len(self.rows) - self.cursor <= 2 * self._height and not self._ends["more"]:
            self._read("more")
        elif self.cursor < 2 * self._height and not self._ends["earlier"]:
            self._read("earlier")
        self._draw_again()

    def _draw_again(self) -> None:
        """Draw the two lines that the cursor left and came to, or all where other rows are in sight than before."""
        sight = [row.key for row in self.rows[self.top : self.top + self._height]]
        place = self.cursor - self.top
        (before, left), self._drawn = self._drawn, (sight, place)
        if not sight or sight != before:
            self.refresh()
        elif place != left:
            self.refresh(*(Region(0, y + 1, self.size.width, 1) for y in (left, place)))

    def render_lines(self, crop: Region) -> list[Strip]:
        """As any widget does; the style, which takes longer than a line, is worked out once for all of them."""
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
        """Leave what is shown as it is; the message goes on to the screen."""
        self._reading = False

    def on_window_table_got(self, got: Got) -> None:
        got.stop()
        if got.turn != self._turn:
            return
        self._reading = False
        full = len(got.rows) == got.asked
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
        """One line: the heading, a row, or nothing."""
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
    """A stored text as exactly so many cells of one line, with an ellipsis where it is longer."""
    line = shown(text[: 4 * width + 16], max(8 * width, 64)).replace("\n", " ")
    if cell_len(line) <= width and len(text) <= 4 * width + 16:
        return set_cell_size(line, width)
    return set_cell_size(line, max(width - 1, 0)) + "…"
