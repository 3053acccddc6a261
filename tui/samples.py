"""The third screen: all samples with a filter, and the history of one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from wizloop.console.tables import plain
from wizloop.store import browsing
from wizloop.store.browsing import History, PoolGuard, SampleFilter, SampleLine
from wizloop.store.paging import Page
from wizloop.tui.base_screen import FilterScreen
from wizloop.tui.dialogs import TextView
from wizloop.tui.history_view import history_text
from wizloop.tui.static import CachedStatic
from wizloop.tui.window_table import Column, Row, WindowTable

_COLUMNS = (Column("id", 7), Column("split", 5), Column("request", 9), Column("sure", 5), Column("cell", 15))


@dataclass
class Opened(Message):
    """A sample's history, read in a thread."""

    history: History | None


class SamplesScreen(FilterScreen):
    """The samples, with the guard's predictions."""

    NAME = "samples"
    ABOUT = "Every sample with the guard's verdict. / searches, Enter opens all that happened to one sample."
    FILTER = SampleFilter
    FILTER_HELP = (
        "Which samples?\n\nWords of the text, split:pool policy:violence verdict:harmful, cell:uncertain_pass "
        "(uncertain compliance; also uncertain_block, confident_pass, confident_block), disagreement:0.5 (at least), "
        "wrong:any (against the known label; or wrong:request, completion, response), deferred:yes (under a promised "
        "error). Empty: all."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", "Search", key_display="/")]

    def __init__(self) -> None:
        super().__init__()
        self._guard: PoolGuard | None = None

    def body(self) -> Iterable[Widget]:
        """Yield the state line and the table."""
        yield CachedStatic(id="state")
        yield WindowTable((*_COLUMNS, Column("prompt")), empty="no sample matches the filter")

    def begin(self) -> None:
        """Show the first samples."""
        self._show_rows()
        self.query_one(WindowTable).focus()

    def _show_rows(self) -> None:
        self.query_one(WindowTable).show_rows(self._rows)
        self.set_text("#state", plain(f"search: {self.filter_text or 'none, / begins one'}; Enter opens"))

    def _rows(self, key: int | None, limit: int, back: bool) -> Sequence[Row]:
        with self.workspace.store.read() as db:
            if key is None:
                self._guard = browsing.pool_guard(db)
            model = None if self._guard is None else self._guard.model_id
            return [_row(line) for line in browsing.sample_lines(db, self.filter, model, Page(limit, key, back))]

    async def filtered(self) -> None:
        """Show the first samples of the new filter."""
        self._show_rows()

    def on_window_table_chosen(self, chosen: WindowTable.Chosen) -> None:
        """Open a sample's history."""
        self._open(chosen.key)

    @work(thread=True, exclusive=True, group="history")
    def _open(self, sample_id: int) -> None:
        with self.workspace.store.read() as db:
            self.post_message(Opened(browsing.history(db, sample_id)))

    def on_opened(self, message: Opened) -> None:
        """Show a sample's history."""
        if message.history is not None:
            self.app.push_screen(TextView(history_text(message.history)))


def _row(line: SampleLine) -> Row:
    request = (line.verdict or {}).get("request") or ""
    confidence = "" if line.confidence is None else f"{line.confidence:.2f}"
    cells = (str(line.id), line.split, request, confidence, (line.cell or "").replace("_", " "), line.prompt)
    return Row(line.id, cells)
