"""What the five screens share: the line of screens, the headline, the key bar, errors as notes, and filters."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from wizloop.console.progress import headline
from wizloop.console.tables import plain
from wizloop.store import errors
from wizloop.tui.dialogs import BadFilter, Prompt, parse_filter
from wizloop.tui.static import CachedStatic, KeyBar
from wizloop.tui.window_table import WindowTable
from wizloop.tui.workspace import Snapshot, Workspace

if TYPE_CHECKING:
    from wizloop.tui.app import WizloopApp

SCREENS = ("overview", "review", "samples", "rounds", "log")


class BaseScreen(Screen[None]):
    """One of the five screens. A subclass gives its name, its `body`, and `show` for a new snapshot."""

    NAME: ClassVar[str]
    ABOUT: ClassVar[str]
    """Description for the help."""

    def __init__(self) -> None:
        super().__init__()
        # Textual parses every style sheet again, twice, for each new screen of a mode. The first snapshot comes after
        # the first screen has its styles, and with them those of our other screens.
        if self.wizloop.last is not None:
            self._css_update_count = self.app._css_update_count

    @property
    def workspace(self) -> Workspace:
        """The workspace that the app shows."""
        return self.wizloop.workspace

    @property
    def wizloop(self) -> "WizloopApp":
        """The app, by its own type."""
        return cast("WizloopApp", self.app)

    def compose(self) -> ComposeResult:
        """Yield the line of screens, the headline, the body and the key bar."""
        yield CachedStatic(id="screens")
        yield CachedStatic(id="headline")
        yield from self.body()
        yield KeyBar()

    def body(self) -> Iterable[Widget]:
        """Yield the widgets between the headline and the key bar."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Initialize the widgets, then show the last snapshot."""
        self.begin()
        self.on_screen_resume()

    def on_screen_resume(self) -> None:
        """Show the last snapshot."""
        if self.wizloop.last is not None:
            self.update_snapshot(self.wizloop.last)

    def on_window_table_failed(self, failed: WindowTable.Failed) -> None:
        """Show the error of a table's reader."""
        self.wizloop.say(str(failed.error), "error")

    def begin(self) -> None:
        """Initialize the widgets, once they exist."""

    def update_snapshot(self, snapshot: Snapshot) -> None:
        """Show a new snapshot: the lines on top here, the rest by `show`."""
        self.set_text("#screens", _screens(self.NAME, snapshot.now.to_review))
        self.set_text("#headline", plain(headline(snapshot.now, snapshot.alive)))
        self.show(snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Show a new snapshot in the body."""

    def set_text(self, selector: str, text: Text) -> None:
        """Show a text in the widget of that selector."""
        self.query_one(selector, CachedStatic).set_text(text)

    @contextmanager
    def noted_errors(self, what: str = "") -> Iterator[None]:
        """Show a StoreError as a note, after `what`, instead of raising it."""
        try:
            yield
        except errors.StoreError as error:
            self.wizloop.say(f"{what}{error}", "error")


class FilterScreen(BaseScreen):
    """A screen whose rows a filter selects. `filtered` shows the rows of a new filter."""

    FILTER: ClassVar[type[Any]]
    """Dataclass of the filter."""
    FILTER_HELP: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.filter = self.FILTER()
        self.filter_text = ""

    def action_filter(self) -> None:
        """Ask for a filter."""
        self.app.push_screen(Prompt(self.FILTER_HELP, self.filter_text), self._filter_by)

    async def _filter_by(self, line: str | None) -> None:
        if line is None:
            return
        try:
            self.filter = parse_filter(line, self.FILTER)
        except BadFilter as error:
            self.wizloop.say(str(error), "warning")
            return
        self.filter_text = line
        await self.filtered()

    async def filtered(self) -> None:
        """Show the rows of the new filter."""
        raise NotImplementedError


def _screens(here: str, waiting: int) -> Text:
    """Build the line of screens with their keys; the open one in brackets."""
    line = Text(no_wrap=True)
    for number, name in enumerate(SCREENS, start=1):
        label = f"{number} {name}" + (f" {waiting:,}" if name == "review" and waiting else "")
        line.append(f"[{label}]" if name == here else f" {label} ", "bold" if name == here else "")
        line.append(" ")
    return line
