"""A long text over a screen, to be scrolled and closed."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from wizloop.tui.dialogs import Once


class Reading(Once[None]):
    """The text, which is plain already."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Back", key_display="Esc")]

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="reading"):
            yield Static(self._text)
        yield Footer(show_command_palette=False, compact=True)
