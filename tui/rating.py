"""The rating screen: one output at a time, blind, and a number for each answer.

It is an app of its own: the other screens show labels and verdicts. It reads nobody else's ratings.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen

from wizloop.console.tables import plain
from wizloop.store import errors, ratings
from wizloop.store.db import Store
from wizloop.store.ratings import COHERENCE, Answer, Output, Rating, RatingSet
from wizloop.tui import rating_view
from wizloop.tui.dialogs import Help
from wizloop.tui.rating_view import GRADE
from wizloop.tui.safe_app import SafeApp
from wizloop.tui.static import CachedStatic, KeyBar

_ABOUT = (
    "One output at a time: the text above, the reasoning about it below, then the questions. Press the number of your "
    "answer to the marked question, then Enter. Judge the text yourself: the reasoning may be wrong, and says what it "
    "concludes only where its own words do. No label, no verdict and no other rater's answer is shown. Tab and the "
    "arrows scroll. A skipped output comes back at the end.\n\nCoherence of the reasoning:\n"
    + "\n".join(f"  {grade}  {words}" for grade, words in COHERENCE.items())
)


@dataclass
class Desk:
    """One rater's access to one set: reads the outputs and the rater's own ratings, and writes those."""

    store: Store
    of: RatingSet
    by: str
    """person:<name>."""
    clock: Callable[[], datetime]
    new_id: Callable[[], str]

    def outputs(self) -> list[Output]:
        """Return the outputs of the set. Raises errors.StoreError, as the other methods do."""
        with self.store.read() as db:
            return ratings.outputs(db, self.of.id)

    def rated(self) -> dict[int, Rating]:
        """Return the rater's own ratings by output."""
        with self.store.read() as db:
            return ratings.of_rater(db, self.of.id, self.by)

    def save(self, output_id: int, answer: Answer) -> None:
        """Record a rating, durably."""
        with self.store.write() as db:
            ratings.rate(db, output_id, self.by, answer, now=self.clock(), rating_id=self.new_id())

    def undo(self) -> int:
        """Take back the newest rating and return its output."""
        with self.store.write() as db:
            return ratings.undo(db, self.of.id, self.by, now=self.clock(), rating_id=self.new_id())


class RatingScreen(Screen[None]):
    """One output that is not rated yet."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "answer(1)", "Give the answer of that number", show=False, key_display="1 to 9"),
        *(Binding(str(n), f"answer({n})", show=False) for n in range(2, 10)),
        Binding("enter", "save", "Save", key_display="Enter"),
        Binding("u", "undo", "Undo"),
        Binding("s", "skip", "Skip"),
        Binding("question_mark", "help", "Help, scale", key_display="?"),
        Binding("q,ctrl+q", "leave", "Leave", key_display="q"),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._outputs: list[Output] = []
        self._rated: dict[int, Rating] = {}
        self._skipped: set[int] = set()
        self._shown: Output | None = None
        self._given: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        """Yield the line of progress, the sample, the reasoning, the questions and the keys."""
        yield CachedStatic(id="place")
        with VerticalScroll(id="sample"):
            yield CachedStatic(id="sample-text")
        with VerticalScroll(id="reasoning"):
            yield CachedStatic(id="reasoning-text")
        yield CachedStatic(id="questions")
        yield KeyBar()

    async def on_mount(self) -> None:
        """Show the first output that is not rated."""
        for name in ("sample", "reasoning"):
            self.query_one(f"#{name}").border_title = name
        try:
            self._outputs = await asyncio.to_thread(self._desk.outputs)
        except errors.StoreError as error:
            self._say(str(error), "error")
        await self._next()

    async def _next(self, wanted: int | None = None, given: dict[str, int] | None = None) -> None:
        """Show an output, by default the next that is neither rated nor skipped, else the first that was skipped."""
        try:
            self._rated = await asyncio.to_thread(self._desk.rated)
        except errors.StoreError as error:
            self._say(str(error), "error")
        left = [one for one in self._outputs if one.id not in self._rated]
        if not any(one.id not in self._skipped for one in left):
            self._skipped = set()
        later = [one for one in left if one.id not in self._skipped]
        before = self._shown
        chosen = [one for one in self._outputs if one.id == wanted] or later
        self._shown, self._given = (chosen[0] if chosen else None), given or {}
        self._draw()
        if self._shown is not before:
            for name in ("sample", "reasoning"):
                self.query_one(f"#{name}", VerticalScroll).scroll_home(animate=False)

    def _draw(self) -> None:
        one, n = self._shown, len(self._outputs)
        self._set(
            "place", rating_view.place_line(self._desk.of, self._desk.by, len(self._rated), len(self._skipped), n)
        )
        if one is None:
            self._set("sample-text", plain("you have rated every output of this set: q leaves"))
            self._set("reasoning-text", Text())
            self._set("questions", plain("u takes your last rating back"))
            return
        self._set("sample-text", rating_view.sample_text(one))
        self._set("reasoning-text", rating_view.reasoning_text(one))
        self._set("questions", rating_view.question_lines(one, self._given))
        self.query_one("#sample").border_title = f"output {one.position}"

    def _set(self, name: str, text: Text) -> None:
        self.query_one(f"#{name}", CachedStatic).set_text(text)

    def action_answer(self, number: int) -> None:
        """Answer the marked question."""
        if self._shown is None:
            return
        waiting = next(
            ((name, options) for name, options in rating_view.asked(self._shown) if name not in self._given), None
        )
        if waiting is None:
            self._say("everything is answered: Enter saves, u takes an answer back", "warning")
        elif number > len(waiting[1]):
            self._say(f"{waiting[0]} has the answers 1 to {len(waiting[1])}", "warning")
        else:
            self._given[waiting[0]] = number
            self._draw()

    async def action_save(self) -> None:
        """Save the rating and show the next output."""
        one = self._shown
        if one is None:
            return
        if left := [name for name, _ in rating_view.asked(one) if name not in self._given]:
            self._say(f"not answered yet: {', '.join(left)}", "warning")
            return
        try:
            await asyncio.to_thread(self._desk.save, one.id, self._answer(one))
        except errors.AlreadyDecided as error:
            self._say(str(error), "warning")
        except errors.StoreError as error:
            self._say(f"not saved: {error}", "error")
            return
        await self._next()

    def _answer(self, one: Output) -> Answer:
        verdict = {task: labels[self._given[task] - 1] for task, labels in one.questions}
        return Answer(verdict, self._given.get(GRADE))

    async def action_undo(self) -> None:
        """Take back the last answer on this output, or else the last rating, and show its output."""
        if self._given:
            self._given.popitem()
            self._draw()
            return
        try:
            output_id = await asyncio.to_thread(self._desk.undo)
        except errors.NothingToUndo as error:
            self._say(str(error), "warning")
        except errors.StoreError as error:
            self._say(f"not undone: {error}", "error")
        else:
            before = self._rated.get(output_id)
            await self._next(output_id)
            self._given = {} if before is None or self._shown is None else _numbers(self._shown, before)
            self._draw()
            self._say("your last rating is taken back: change it, then Enter")

    async def action_skip(self) -> None:
        """Leave the output for later."""
        if self._shown is not None:
            self._skipped.add(self._shown.id)
            await self._next()

    def action_help(self) -> None:
        """Open the help with the scale."""
        self.app.push_screen(Help(_ABOUT, self.active_bindings))

    def action_leave(self) -> None:
        """Leave; what is saved stays, and an output that was begun comes again."""
        self.app.exit()

    def _say(self, message: str, severity: str = "information") -> None:
        cast("RatingApp", self.app).say(message, severity)  # type: ignore[arg-type]


def _numbers(one: Output, rating: Rating) -> dict[str, int]:
    """Return a rating as the numbers that were pressed."""
    given = {task: list(labels).index(rating.verdict[task]) + 1 for task, labels in one.questions}
    return given | ({} if rating.coherence is None else {GRADE: rating.coherence})


class RatingApp(SafeApp[None]):
    """The terminal app of one rater."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def on_mount(self) -> None:
        """Open the screen."""
        self.push_screen(RatingScreen(self._desk))
