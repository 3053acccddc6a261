"""The second screen: one trace at a time, everything to decide on it, and a key for each decision.

A key waits for the one before it, and what is shown as decided is durable. The loop never waits for this.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widget import Widget

from wizloop.console.tables import plain
from wizloop.store import errors, review_queue
from wizloop.store.db import Connection
from wizloop.store.paging import Page
from wizloop.store.review_queue import Case, Decided, QueueFilter
from wizloop.tui import case_view, editing, similar
from wizloop.tui.base_screen import Room
from wizloop.tui.dialogs import Choice, Line
from wizloop.tui.filters import BadFilter, parsed
from wizloop.tui.static import Still
from wizloop.tui.workspace import Look

_FILTER = "Words of prompt, response or explanation, teacher:policy round:1 verdict:harmful confidence:low why:guard."
_REASONS = {
    "w": ("wrong verdict", "wrong verdict"),
    "p": ("poor reasoning", "poor reasoning"),
    "i": ("invented", "it invents what the text does not say"),
    "f": ("follows the sample", "it obeys the sample instead of judging it"),
    "o": ("other", "another reason, in words"),
}
_DECIDED = 1000
"""Of the newest decided texts, among which near neighbours are looked for."""
_NEAR = 3
_REST_SECONDS = 0.2
"""A trace is shown so long before its neighbours are looked for: who leafs through must not wait for them."""


class Approved(Message):
    """So many traces were approved by filter."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n


class ReviewRoom(Room):
    """The traces that wait for a person."""

    NAME = "review"
    ABOUT = (
        "One trace at a time: who says what of each task (≠ marks what differs from the teacher; P is the guard's "
        "probability of harm, or of refusal), the sample, the guard's side on the left, the teacher's on the right. An "
        "approved trace is trained on in the next round, a rejected one never. Tab and the arrows scroll."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve", "Approve"),
        Binding("r", "reject", "Reject"),
        Binding("e", "edit", "Edit"),
        Binding("l", "label_is_wrong", "Label wrong"),
        Binding("s", "skip", "Skip"),
        Binding("u", "undo", "Undo"),
        Binding("n", "next", "Next", show=False),
        Binding("p", "previous", "Previous", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("A", "approve_all", "Approve all that pass the filter", show=False, key_display="A"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._wanted, self._asked = QueueFilter(), ""
        self._case: Case | None = None
        self._skipped: set[int] = set()
        self._waiting = 0
        self._words: dict[int, frozenset[str]] = {}

    def body(self) -> Iterable[Widget]:
        yield Still(id="state")
        yield Still(id="verdicts")
        with VerticalScroll(id="sample"):
            yield Still(id="sample-text")
        with Horizontal(id="sides"):
            for side in ("guard", "teacher"):
                with VerticalScroll(id=side):
                    yield Still(id=f"{side}-text")

    def begin(self) -> None:
        for name in ("sample", "guard", "teacher"):
            self.query_one(f"#{name}").border_title = name
        self.call_later(self._next_after, None)

    def show(self, look: Look) -> None:
        """Begin again where there was nothing left and something has come."""
        before, self._waiting = self._waiting, look.now.to_review
        if self._case is None and self._waiting != before:
            self.call_later(self._next_after, None)

    async def _next_after(self, key: int | None, back: bool = False) -> None:
        """Show the next waiting trace after this one; from the other end where there is none."""
        try:
            case = await asyncio.to_thread(self._found, key, back)
        except errors.StoreError as error:
            self.wizloop.say(str(error), "error")
            return
        self._show_case(case)

    def _found(self, key: int | None, back: bool) -> Case | None:
        """The nearest waiting trace that was not skipped, from the other end where there is none on this side."""
        with self.desk.store.read() as db:
            for start in (key, None):
                if (found := self._find(db, start, back)) is not None:
                    return review_queue.case(db, found)
        return None

    def _find(self, db: Connection, key: int | None, back: bool) -> int | None:
        while page := review_queue.waiting_ids(db, self._wanted, Page(len(self._skipped) + 1, key, back)):
            left = [one for one in page if one not in self._skipped]
            if left:
                return left[-1 if back else 0]
            key = page[0 if back else -1]
        return None

    def _load(self, trace_id: int) -> Case:
        with self.desk.store.read() as db:
            return review_queue.case(db, trace_id)

    def _show_case(self, case: Case | None, near: Sequence[tuple[float, Decided]] = ()) -> None:
        same = case is not None and self._case is not None and case.trace.id == self._case.trace.id
        self._case = case
        if case is None:
            skipped = f" but {len(self._skipped)} that you skipped" if self._skipped else ""
            passes = "nothing that waits passes the filter" if self._asked else "nothing waits for a person"
            self.query_one("#state", Still).say(plain(passes + skipped))
            for name in ("verdicts", "sample-text", "guard-text", "teacher-text"):
                self.query_one(f"#{name}", Still).say(Text())
            return
        place = f"filter: {self._asked}" if self._asked else f"{self._waiting:,} wait"
        self.query_one("#state", Still).say(case_view.state_lines(case, place))
        self.query_one("#verdicts", Still).say(case_view.verdict_lines(case))
        self.query_one("#sample-text", Still).say(case_view.sample_text(case))
        self.query_one("#teacher-text", Still).say(case_view.teacher_text(case))
        self.query_one("#guard-text", Still).say(case_view.guard_text(case, near))
        if not same:
            for name in ("sample", "guard", "teacher"):
                self.query_one(f"#{name}", VerticalScroll).scroll_home(animate=False)
            self._look_around(case)

    @work(exclusive=True, group="near")
    async def _look_around(self, case: Case) -> None:
        """Show what was decided on texts like this one, once the person rests on it."""
        await asyncio.sleep(_REST_SECONDS)
        try:
            found = await asyncio.to_thread(self._near, case)
        except errors.StoreError as error:
            self.wizloop.say(str(error), "error")
            return
        if self._case is not None and self._case.trace.id == case.trace.id:
            self.query_one("#guard-text", Still).say(case_view.guard_text(self._case, found))

    def _near(self, case: Case) -> list[tuple[float, Decided]]:
        """The nearest of the decided texts, each with how near it is."""
        with self.desk.store.read() as db:
            decided = review_queue.decided(db, _DECIDED)
        known = self._words
        self._words = {one.trace_id: known.get(one.trace_id) or similar.words_of(one.prompt) for one in decided}
        others = [(self._words[one.trace_id], one) for one in decided if one.trace_id != case.trace.id]
        return similar.nearest(case.sample.prompt, others, _NEAR)

    async def action_approve(self) -> None:
        await self._decide("approve")

    async def action_label_is_wrong(self) -> None:
        if self._case is None:
            return
        labels = self._case.sample.labels
        if not labels:
            self.wizloop.say("the dataset has no label for this sample", "warning")
            return
        named = ", ".join(f"{task} {label}" for task, label in labels.items())
        await self._decide("approve", reason=f"the dataset's label is wrong: {named}")

    def action_reject(self) -> None:
        if self._case is not None:
            self.app.push_screen(Choice("Reject this trace: why?", _REASONS), self._rejected)

    async def _rejected(self, reason: str | None) -> None:
        if reason == "other":
            self.app.push_screen(Line("Why is it rejected?"), self._rejected)
        elif reason:
            await self._decide("reject", reason=reason)

    async def _decide(self, decision: str, *, reason: str | None = None, edited_json: str | None = None) -> None:
        case = self._case
        if case is None:
            return
        try:
            await asyncio.to_thread(
                self.desk.decide, case.trace.id, decision, seen=case.last_id, reason=reason, edited_json=edited_json
            )
        except errors.AlreadyDecided as error:
            self.wizloop.say(str(error), "warning")
        except errors.StoreError as error:
            self.wizloop.say(f"not kept: {error}", "error")
            return
        await self._next_after(case.trace.id)

    async def action_undo(self) -> None:
        try:
            trace_id = await asyncio.to_thread(self.desk.undo)
            case = None if trace_id is None else await asyncio.to_thread(self._load, trace_id)
        except errors.StoreError as error:
            self.wizloop.say(f"not undone: {error}", "error")
            return
        if case is None:
            self.wizloop.say("you have no decision to undo", "warning")
        else:
            self._show_case(case)
            self.wizloop.say(f"trace {trace_id}: your last decision is undone")

    async def action_skip(self) -> None:
        if self._case is not None:
            self._skipped.add(self._case.trace.id)
            await self._next_after(self._case.trace.id)

    async def action_next(self) -> None:
        await self._next_after(None if self._case is None else self._case.trace.id)

    async def action_previous(self) -> None:
        await self._next_after(None if self._case is None else self._case.trace.id, back=True)

    def action_filter(self) -> None:
        self.app.push_screen(
            Line(f"Which of the waiting traces?\n\n{_FILTER} Empty: all.", self._asked), self._filtered
        )

    async def _filtered(self, line: str | None) -> None:
        if line is None:
            return
        try:
            self._wanted = parsed(line, QueueFilter)
        except BadFilter as error:
            self.wizloop.say(str(error), "warning")
            return
        self._asked, self._skipped = line, set()
        await self._next_after(None)

    async def action_approve_all(self) -> None:
        n = await asyncio.to_thread(self._count)
        if not n:
            self.wizloop.say("nothing that waits passes the filter", "warning")
            return
        which = f"that pass the filter {self._asked}" if self._asked else "that wait (no filter is set)"
        answers = {"y": ("yes", f"approve {n:,} traces"), "x": ("", "approve none")}
        self.app.push_screen(Choice(f"Approve all {n:,} traces {which}?", answers), self._approve_all)

    def _count(self) -> int:
        with self.desk.store.read() as db:
            return review_queue.waiting_count(db, self._wanted)

    def _approve_all(self, answer: str | None) -> None:
        if answer:
            self._approving(self._wanted, self._asked)

    @work(thread=True, exclusive=True, group="approving")
    def _approving(self, wanted: QueueFilter, asked: str) -> None:
        """Approve in small pieces, so that the loop can write in between."""
        reason = f"approved by filter: {asked}" if asked else "approved with all that waited"
        try:
            n = self.desk.approve_all(wanted, reason)
        except errors.StoreError as error:
            self.app.call_from_thread(self.wizloop.say, f"not all are approved: {error}", "error")
            return
        self.post_message(Approved(n))

    async def on_approved(self, message: Approved) -> None:
        self.wizloop.say(f"{message.n:,} traces approved")
        await self._next_after(None)

    async def action_edit(self) -> None:
        """Open the trace in $EDITOR, check what comes back, and keep it as an edit."""
        if self._case is not None:
            await self._edit(editing.as_file(self._case.trace))

    async def _edit(self, text: str) -> None:
        case = self._case
        if case is None:
            return
        edited: str | OSError
        try:
            with self.app.suspend():
                # An error that left this block would leave the terminal with it.
                try:
                    edited = editing.edited_in(text)
                except OSError as error:
                    edited = error
        except SuspendNotSupported:
            self.wizloop.say("no editor can be opened here: use `wizloop review --edit`", "warning")
            return
        if isinstance(edited, OSError):
            self.wizloop.say(f"the editor failed: {edited}: set EDITOR", "error")
            return
        try:
            edit = editing.edit_of(case.trace, edited)
        except editing.BadEdit as error:
            await self._ask_again(str(error), edited)
            return
        if edit is None:
            self.wizloop.say("nothing was changed")
        else:
            await self._decide("edit", edited_json=edit)

    async def _ask_again(self, problem: str, edited: str) -> None:
        async def again(answer: str | None) -> None:
            if answer:
                await self._edit(edited)

        answers = {"e": ("again", "edit it again"), "x": ("", "drop the edit")}
        self.app.push_screen(Choice(f"This cannot be kept: {problem}.", answers), again)
