"""The third screen: every sample, searched by words, split, verdict, cell, policy or disagreement; and one's story."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from wizloop.console.tables import plain
from wizloop.store import browsing
from wizloop.store.browsing import Judge, SampleFilter, SampleLine, Story
from wizloop.store.paging import Page
from wizloop.tui import story_view
from wizloop.tui.base_screen import Room
from wizloop.tui.dialogs import Line
from wizloop.tui.filters import BadFilter, parsed
from wizloop.tui.reading import Reading
from wizloop.tui.static import Still
from wizloop.tui.window_table import Column, Row, WindowTable

_HELP = (
    "Words of the text, split:pool policy:violence verdict:harmful, cell:uncertain_pass (uncertain compliance; also "
    "uncertain_block, confident_pass, confident_block), disagreement:0.5 (at least)."
)
_COLUMNS = (Column("id", 7), Column("split", 5), Column("request", 9), Column("sure", 5), Column("cell", 15))


class Opened(Message):
    """A sample's story has been read."""

    def __init__(self, story: Story | None) -> None:
        super().__init__()
        self.story = story


class SamplesRoom(Room):
    """The samples, with what the guard says of each."""

    NAME = "samples"
    ABOUT = "Every sample with the guard's verdict. / searches, Enter opens all that happened to one sample."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", "Search", key_display="/")]

    def __init__(self) -> None:
        super().__init__()
        self._wanted, self._asked = SampleFilter(), ""
        self._judge: Judge | None = None

    def body(self) -> Iterable[Widget]:
        yield Still(id="state")
        yield WindowTable((*_COLUMNS, Column("prompt")), empty="no sample passes the filter")

    def begin(self) -> None:
        self._show()
        self.query_one(WindowTable).focus()

    def _show(self) -> None:
        self.query_one(WindowTable).show_rows(self._rows)
        self.query_one("#state", Still).say(plain(f"search: {self._asked or 'none, / begins one'}; Enter opens"))

    def _rows(self, key: int | None, limit: int, back: bool) -> Sequence[Row]:
        with self.desk.store.read() as db:
            if key is None:
                self._judge = browsing.judge_of_pool(db)
            model = None if self._judge is None else self._judge.model_id
            found = browsing.sample_lines(db, self._wanted, model, Page(limit, key, back))
        return [_row(line) for line in found]

    def action_filter(self) -> None:
        self.app.push_screen(Line(f"Which samples?\n\n{_HELP} Empty: all.", self._asked), self._filtered)

    def _filtered(self, line: str | None) -> None:
        if line is None:
            return
        try:
            self._wanted = parsed(line, SampleFilter)
        except BadFilter as error:
            self.wizloop.say(str(error), "warning")
            return
        self._asked = line
        self._show()

    def on_window_table_chosen(self, chosen: WindowTable.Chosen) -> None:
        self._open(chosen.key)

    @work(thread=True, exclusive=True, group="story")
    def _open(self, sample_id: int) -> None:
        with self.desk.store.read() as db:
            self.post_message(Opened(browsing.story(db, sample_id)))

    def on_opened(self, message: Opened) -> None:
        if message.story is not None:
            self.app.push_screen(Reading(story_view.story_text(message.story)))


def _row(line: SampleLine) -> Row:
    request = (line.verdict or {}).get("request") or ""
    sure = "" if line.confidence is None else f"{line.confidence:.2f}"
    cells = (str(line.id), line.split, request, sure, (line.cell or "").replace("_", " "), line.prompt)
    return Row(line.id, cells)
