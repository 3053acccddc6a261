"""What the five screens have in common: the line of screens on top, the sentence under it, the keys at the foot."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widget import Widget

from wizloop.console.tables import plain
from wizloop.tui import formatting
from wizloop.tui.static import Keys, Still
from wizloop.tui.window_table import WindowTable
from wizloop.tui.workspace import Desk, Look

if TYPE_CHECKING:
    from wizloop.tui.app import WizloopApp

ROOMS = ("overview", "review", "samples", "rounds", "log")


class Room(Screen[None]):
    """One of the five screens. A subclass gives its name, its `body`, and what `show` does with a new look."""

    NAME: ClassVar[str]
    ABOUT: ClassVar[str]
    """What the help says of the screen."""
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self) -> None:
        super().__init__()
        # Textual reads every style sheet anew, twice, for each new screen of a mode. The first look comes after the
        # first screen has its styles, and with it all the others that ours have.
        if self.wizloop.last is not None:
            self._css_update_count = self.app._css_update_count

    @property
    def desk(self) -> Desk:
        return self.wizloop.desk

    @property
    def wizloop(self) -> "WizloopApp":
        return cast("WizloopApp", self.app)

    def compose(self) -> ComposeResult:
        yield Still(id="rooms")
        yield Still(id="headline")
        yield from self.body()
        yield Keys()

    def body(self) -> Iterable[Widget]:
        """The widgets between the sentence and the keys."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.begin()
        if self.wizloop.last is not None:
            self.looked(self.wizloop.last)

    def on_window_table_failed(self, failed: WindowTable.Failed) -> None:
        self.wizloop.say(str(failed.error), "error")

    def on_screen_resume(self) -> None:
        if self.wizloop.last is not None:
            self.looked(self.wizloop.last)

    def begin(self) -> None:
        """What a screen does once, when its widgets are there."""

    def looked(self, look: Look) -> None:
        """Show a new look: the top here, the rest by `show`."""
        self.query_one("#rooms", Still).say(_rooms(self.NAME, look.now.to_review))
        self.query_one("#headline", Still).say(plain(formatting.headline(look.now, look.alive)))
        self.show(look)

    def show(self, look: Look) -> None:
        """Show what has changed."""


def _rooms(here: str, waiting: int) -> Text:
    """The five screens with their keys; the one that is open stands in brackets."""
    line = Text(no_wrap=True)
    for number, name in enumerate(ROOMS, start=1):
        label = f"{number} {name}" + (f" {waiting:,}" if name == "review" and waiting else "")
        line.append(f"[{label}]" if name == here else f" {label} ", "bold" if name == here else "")
        line.append(" ")
    return line
