"""Render a base model's chat template once, as the text before the user's turn and between it and our opening.

A template is untrusted: it is rendered by transformers only, in its sandbox, and reads nothing but our turn. It may
print today's date, so whoever asks twice keeps the first rendering. Loads a tokenizer and no model.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from wizloop.backends import model_folder, tokens
from wizloop.backends.guard_types import BadArtifact

RAW: Final = 'set guard.template to "raw"'

# Quotes and a line end: a template that escapes the turn, or shows the list around it, does not show this text.
_USER: Final = 'wizloop "user"\nturn'
_ANSWER: Final = 'wizloop "assistant"\nturn'
_QUIET: Final[dict[str, Any]] = {"enable_thinking": False, "thinking": False}
# Tried in this order: a template ignores the settings that it does not name, but may refuse a value.
_SETTINGS: Final[tuple[dict[str, Any], ...]] = ({**_QUIET, "reasoning_effort": "low"}, _QUIET, {})
_THINKING: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
)
"""What opens and closes a thinking block: Qwen and DeepSeek, Magistral, Seed-OSS, Command A, Gemma 4, and others."""


class Frame(NamedTuple):
    """A rendered chat template around one user turn."""

    before: str
    after: str
    """Ends where our opening begins, in the answer itself: no thinking block is open."""
    notes: tuple[str, ...] = ()
    """What was decided for this template, in words."""


class _Way(NamedTuple):
    """One way to show the turn to a template."""

    parts: bool
    system: bool
    settings: dict[str, Any]

    def turns(self, *, answered: bool = False) -> list[dict[str, Any]]:
        said = [("user", _USER), *([("assistant", _ANSWER)] if answered else [])]
        turns = [{"role": "system", "content": self._content("")}] if self.system else []
        return [*turns, *({"role": role, "content": self._content(text)} for role, text in said)]

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.parts else text


def render(base: str, called: str = "") -> Frame:
    """Render the chat template of a base (folder, file or hub name) in the first way that shows the turn once.

    Tried are a plain turn, a turn as content parts, and both after an empty system turn; each with thinking off. Errors
    name the base, or what it is `called`. Raises BadArtifact, which says what is wrong with the template and what to
    do, and ModelMissing.
    """
    tokenizer, base = tokenizer_of(base), called or base
    template = _template(tokenizer, base)
    faults: list[str] = []
    for way in _ways():
        try:
            text = _rendered(tokenizer, way)
        except ValueError as error:
            faults.append(f"fails ({error})")
            continue
        if text.count(_USER) == 1:
            return _frame(tokenizer, template, way, text)
        faults.append(_shows(text.count(_USER)))
    raise BadArtifact(f"the chat template of {base} {_worst(faults)}: {RAW}, or give a base with another template")


def render_plainly(base: str, called: str = "") -> Frame:
    """Render the template as runs without a stored frame did: a plain turn, thinking as the template has it.

    Raises BadArtifact, ModelMissing.
    """
    tokenizer, base = tokenizer_of(base), called or base
    _template(tokenizer, base)
    try:
        before, mark, after = _rendered(tokenizer, _Way(False, False, {})).partition(_USER)
    except ValueError as error:
        raise BadArtifact(f"the chat template of {base} fails ({error}): {RAW}") from error
    if not mark:
        raise BadArtifact(f"the chat template of {base} {_shows(0)}: {RAW}")
    return Frame(before, after)


def tokenizer_of(base: str) -> Any:
    """Load a base's tokenizer, a GGUF file's without its weights.

    Raises ModelMissing, BadArtifact.
    """
    file = Path(base).expanduser()
    if file.is_file():
        return model_folder.file_tokenizer(file)
    return tokens.of_folder(model_folder.find(base))


def _template(tokenizer: Any, base: str) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        raise BadArtifact(f"{base} has no chat template: {RAW}") from None


def _ways() -> Iterator[_Way]:
    for system, parts, settings in product((False, True), (False, True), _SETTINGS):
        yield _Way(parts, system, settings)


def _rendered(tokenizer: Any, way: _Way, *, answered: bool = False) -> str:
    """Return the template's text for our turn. Raises ValueError, whatever the template raises."""
    from jinja2 import TemplateError

    turns = way.turns(answered=answered)
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not answered, **way.settings)
        )
    # A template is a program: it may divide by zero, read past the end of a list, or recurse without end.
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(_brief(error)) from error


def _tried(tokenizer: Any, way: _Way, *, answered: bool = False) -> str:
    """Return the template's text, or nothing where it fails."""
    try:
        return _rendered(tokenizer, way, answered=answered)
    except ValueError:
        return ""


def _frame(tokenizer: Any, template: str, way: _Way, text: str) -> Frame:
    before, _, after = text.partition(_USER)
    notes = [note for note, holds in _notes(tokenizer, template, way, text) if holds]
    more = _answer_begins(tokenizer, way, after)
    if more:
        notes.append(f"an answer begins with {more!r}, as the template writes the model's own")
    closed = _closed(after + more)
    if closed:
        notes.append("it opens a thinking block, which is closed before the answer")
    return Frame(before, after + more + closed, tuple(notes))


def _notes(tokenizer: Any, template: str, way: _Way, text: str) -> Iterator[tuple[str, bool]]:
    yield "it prints today's date: the date of the first start is kept", "strftime_now" in template
    yield "it wants content parts", way.parts
    yield "it wants a system turn: an empty one is given", way.system
    plain = _tried(tokenizer, way._replace(settings={}))
    # What precedes the turn may hold the time.
    yield "its thinking is off", plain.partition(_USER)[2] != text.partition(_USER)[2]


def _answer_begins(tokenizer: Any, way: _Way, after: str) -> str:
    """Return what the template writes between the generation prompt and an answer: gpt-oss's final channel.

    Blanks alone are no more than style, and would split the first word's token.
    """
    begins, shown, _ = _tried(tokenizer, way, answered=True).partition(_USER)[2].partition(_ANSWER)
    more = begins.removeprefix(after) if shown and begins.startswith(after) else ""
    return more if more.strip() else ""


def _closed(after: str) -> str:
    """Return what closes the thinking block that a generation prompt leaves open, as Qwen3 writes an empty one."""
    for opens, closes in _THINKING:
        if after.rfind(opens) > after.rfind(closes):
            line = "" if after.endswith("\n\n") else "\n" if after.endswith("\n") else "\n\n"
            return f"{line}{closes}\n\n"
    return ""


def _shows(times: int) -> str:
    return f"shows the user's turn {times} times" if times else "does not show the user's turn as it is"


def _worst(faults: Sequence[str]) -> str:
    """Return the most telling fault: a turn shown more than once, then an error of a plain turn."""
    return next((fault for fault in faults if fault.endswith("times")), faults[0])


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
