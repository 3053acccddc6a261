"""One output as the texts of the rating screen: progress, sample, reasoning, questions. Nobody's verdict is in them."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from wizloop.console.tables import aligned, plain
from wizloop.store.ratings import COHERENCE, PERSON, Output, RatingSet
from wizloop.tui.dialogs import paragraphs

GRADE = "coherence"
_BAR = 20
_NAME = 24
"""Bytes of a rater's name on the line of progress."""


def asked(one: Output) -> list[tuple[str, Sequence[str]]]:
    """Return what is asked of an output, in order: its tasks, then the coherence of its reasoning if it has any."""
    grades = [words.partition(":")[0] for words in COHERENCE.values()]
    return [*((task, labels) for task, labels in one.questions), *([(GRADE, grades)] if one.reasoning else [])]


def place_line(of: RatingSet, by: str, rated: int, skipped: int, n: int) -> Text:
    """Build the line of progress: who rates, how many are rated of how many, a bar."""
    full = _BAR * rated // n if n else 0
    more = f", {skipped:,} skipped" if skipped else ""
    name = plain(by.removeprefix(PERSON), _NAME).plain
    line = plain(f"rating set {of.id} as {name}: {rated:,} of {n:,} rated{more} [{'#' * full}{'.' * (_BAR - full)}]")
    line.no_wrap = True
    return line


def sample_text(one: Output) -> Text:
    """Build the prompt and the response, if any."""
    return paragraphs(("", one.prompt), ("Response", one.response or ""))


def reasoning_text(one: Output) -> Text:
    """Build the reasoning."""
    return paragraphs(("", one.reasoning)) if one.reasoning else plain("no reasoning: its coherence is not asked")


def question_lines(one: Output, given: Mapping[str, int]) -> Text:
    """Build a line for each question: `>` marks the one that the next number answers, brackets the answer."""
    questions = asked(one)
    waiting = next((name for name, _ in questions if name not in given), None)
    rows = [_question(name, options, given.get(name), name == waiting) for name, options in questions]
    hint = "Enter saves, u takes an answer back" if waiting is None else f"press the number of your answer on {waiting}"
    return Text("\n").join([aligned(rows), plain(hint)])


def _question(name: str, options: Sequence[str], answer: int | None, is_asked: bool) -> list[Text]:
    head = plain(f"{'>' if is_asked else ' '} {name}")
    head.stylize("bold" if is_asked else "")
    choices = Text("")
    for number, option in enumerate(options, start=1):
        words = plain(f"{number} {option}", 40).plain
        choices.append(f"[{words}]" if number == answer else f" {words} ", "bold" if number == answer else "")
    return [head, choices]
