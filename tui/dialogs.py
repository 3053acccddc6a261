"""Small questions over a screen: help, leaving, yes or no, a reason by one key, a line of text."""

from collections.abc import Mapping
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from wizloop.console.tables import plain
from wizloop.store.display import shown

_TEXTUALS = ("tab", "shift+tab", "ctrl+c", "super+c")
"""Keys that every screen of Textual has; the help has no room for them."""
Answer = TypeVar("Answer")


class Once(ModalScreen[Answer]):
    """A screen over the others, to be left once: keys that were typed before it went away find nobody."""

    _left = False

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """As Textual's, which takes the screen below away when it is asked again."""
        if self._left:
            return AwaitComplete()
        self._left = True
        return super().dismiss(result)


class Help(Once[None]):
    """What the screen shows, and its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def __init__(self, about: str, bindings: Mapping[str, ActiveBinding]) -> None:
        super().__init__()
        self._told, self._keyed = about, bindings

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog"):
            yield Static(plain(f"{self._told}\n\nEscape closes this.\n\n{self._keys()}", 4000))

    def _keys(self) -> str:
        """Each of our keys once, with what it does: the screen's, then the app's, then those of a table."""
        told: dict[str, str] = {}
        ours = [found for found in self._keyed.values() if type(found.node).__module__.startswith("wizloop.")]
        for found in sorted(ours, key=lambda one: (not isinstance(one.node, Screen), one.node is not self.app)):
            binding = found.binding
            if binding.description and found.enabled and binding.key not in _TEXTUALS:
                told.setdefault(self.app.get_key_display(binding), binding.description)
        return "\n".join(f"{key:>10}  {what}" for key, what in told.items())


class Choice(Once[str]):
    """A question that one key answers; Escape answers nothing, Enter the first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("enter", "first", "The first"),
    ]

    def __init__(self, question: str, answers: Mapping[str, tuple[str, str]]) -> None:
        """`answers`: key to (what is returned, what is shown)."""
        super().__init__()
        self._question, self._answers = question, answers

    def compose(self) -> ComposeResult:
        lines = "\n".join(f"  {key}  {label}" for key, (_, label) in self._answers.items())
        with Vertical(classes="dialog"):
            yield Static(plain(f"{self._question}\n\n{lines}\n\nEnter takes the first, Escape goes back.", 2000))

    def action_first(self) -> None:
        self.dismiss(next(iter(self._answers.values()))[0])

    def on_key(self, event: events.Key) -> None:
        if event.key in self._answers:
            event.stop()
            self.dismiss(self._answers[event.key][0])


class Leave(Choice):
    """What becomes of the run when the person leaves."""

    def __init__(self) -> None:
        answers = {
            "g": ("goes on", "leave; the run goes on"),
            "s": ("stop", "leave; the run stops after this phase"),
        }
        super().__init__("Leave the screen?", answers)


class Line(Once[str]):
    """One line of text, asked for with a word on what it may be; Escape answers nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Back")]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(plain(self._question, 2000))
            yield SafeInput(self._value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class SafeInput(Input):
    """An input that takes nothing invisible in, from the keyboard or the clipboard."""

    def _on_paste(self, event: events.Paste) -> None:
        line = event.text.splitlines()[0] if event.text else ""
        self.insert_text_at_cursor(shown(line, 1000))
        event.stop()
        event.prevent_default()


def paragraphs(*parts: tuple[str, str]) -> Text:
    """(heading, text) pairs, both as stored, as plain text with the headings in bold; what is empty is left out."""
    text = Text()
    for heading, body in parts:
        if body:
            if heading:
                text.append(f"{shown(heading, 400)}\n", "bold")
            text.append(plain(body, 20_000))
            text.append("\n\n")
    text.rstrip()
    return text
