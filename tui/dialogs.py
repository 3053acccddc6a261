"""Dialogs over a screen: help, quitting, a choice by one key, a line of text, a filter, a long text."""

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Static

from wizloop.console.tables import plain
from wizloop.store.display import shown

_TEXTUALS = ("tab", "shift+tab", "ctrl+c", "super+c")
"""Keys that every Textual screen has, left out of the help to save room."""
Answer = TypeVar("Answer")
T = TypeVar("T")


class Dialog(ModalScreen[Answer]):
    """A screen over the others that is dismissed once: keys typed before it closes have no further effect."""

    _dismissed = False

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """Dismiss the dialog. Textual's own, if repeated, would dismiss the screen below."""
        if self._dismissed:
            return AwaitComplete()
        self._dismissed = True
        return super().dismiss(result)


class Help(Dialog[None]):
    """What the screen shows, and its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def __init__(self, about: str, bindings: Mapping[str, ActiveBinding]) -> None:
        super().__init__()
        self._about, self._active = about, bindings

    def compose(self) -> ComposeResult:
        """Yield the description and the keys."""
        with VerticalScroll(classes="dialog"):
            yield Static(plain(f"{self._about}\n\nEscape closes this.\n\n{self._keys()}", 4000))

    def _keys(self) -> str:
        """List each of our keys once: the screen's, then the app's, then those of a table."""
        descriptions: dict[str, str] = {}
        ours = [active for active in self._active.values() if type(active.node).__module__.startswith("wizloop.")]
        for active in sorted(ours, key=lambda one: (not isinstance(one.node, Screen), one.node is not self.app)):
            binding = active.binding
            if binding.description and active.enabled and binding.key not in _TEXTUALS:
                descriptions.setdefault(self.app.get_key_display(binding), binding.description)
        return "\n".join(f"{key:>10}  {what}" for key, what in descriptions.items())


class Choice(Dialog[str]):
    """A question answered by one key; Enter takes the first answer, Escape none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("enter", "first", "The first"),
    ]

    def __init__(self, question: str, answers: Mapping[str, tuple[str, str]]) -> None:
        """`answers`: key to (returned value, label)."""
        super().__init__()
        self._question, self._answers = question, answers

    def compose(self) -> ComposeResult:
        """Yield the question and the answers."""
        lines = "\n".join(f"  {key}  {label}" for key, (_, label) in self._answers.items())
        with Vertical(classes="dialog"):
            yield Static(plain(f"{self._question}\n\n{lines}\n\nEnter takes the first, Escape goes back.", 2000))

    def action_first(self) -> None:
        """Take the first answer."""
        self.dismiss(next(iter(self._answers.values()))[0])

    def on_key(self, event: events.Key) -> None:
        """Take the answer of the key."""
        if event.key in self._answers:
            event.stop()
            self.dismiss(self._answers[event.key][0])


class Leave(Choice):
    """What happens to the run when the user leaves the app."""

    def __init__(self) -> None:
        answers = {
            "g": ("continue", "leave; the run continues"),
            "s": ("stop", "leave; the run stops after this phase"),
        }
        super().__init__("Leave the screen?", answers)


class Prompt(Dialog[str]):
    """A line of text, with a question; Escape answers nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Back")]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        """Yield the question and the input."""
        with Vertical(classes="dialog"):
            yield Static(plain(self._question, 2000))
            yield SafeInput(self._value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the line."""
        self.dismiss(event.value)


class SafeInput(Input):
    """An input that makes invisible characters of a pasted text visible."""

    def _on_paste(self, event: events.Paste) -> None:
        line = event.text.splitlines()[0] if event.text else ""
        self.insert_text_at_cursor(shown(line, 1000))
        event.stop()
        event.prevent_default()


class TextView(Dialog[None]):
    """A long, sanitized text to scroll through."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Back", key_display="Esc")]

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the text and a footer."""
        with VerticalScroll(id="text-view"):
            yield Static(self._text)
        yield Footer(show_command_palette=False, compact=True)


def paragraphs(*parts: tuple[str, str]) -> Text:
    """Sanitize (heading, text) pairs and join them, with bold headings; empty texts are left out."""
    text = Text()
    for heading, body in parts:
        if body:
            if heading:
                text.append(f"{shown(heading, 400)}\n", "bold")
            text.append(plain(body, 20_000))
            text.append("\n\n")
    text.rstrip()
    return text


class BadFilter(ValueError):
    """The line is not a valid filter; the message says what is expected."""


def parse_filter(line: str, kind: Callable[..., T]) -> T:
    """Parse a line such as `split:pool how to`: `field:value` for fields of the dataclass `kind`, the rest as `text`.

    Raises BadFilter.
    """
    types_of = {field.name: field.type for field in fields(kind) if field.name != "text"}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    words = []
    for word in line.split():
        name, colon, value = word.partition(":")
        if colon and name in types_of:
            given[name] = _value(name, types_of[name], value)
        else:
            words.append(word)
    return kind(text=" ".join(words), **given)


def _value(name: str, kind: Any, text: str) -> Any:
    kinds = get_args(kind) if get_origin(kind) in (types.UnionType, Union) else (kind,)
    words = [word for one in kinds if get_origin(one) is Literal for word in get_args(one)]
    if words and text not in words:
        raise BadFilter(f"{name}:{text} needs one of {', '.join(words)} after the colon")
    number = next((one for one in (int, float) if one in kinds), None)
    try:
        return text if number is None else number(text)
    except ValueError as error:
        raise BadFilter(f"{name}:{text} needs a number after the colon") from error
