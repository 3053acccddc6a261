"""The second screen: one waiting trace at a time, everything to decide on it, and a key for each decision.

A key waits for the previous one, and a decision that is shown is durable. The loop never waits for this screen.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
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
from wizloop.tui import case_view, editing
from wizloop.tui.base_screen import FilterScreen
from wizloop.tui.dialogs import Choice, Prompt
from wizloop.tui.static import CachedStatic
from wizloop.tui.workspace import Snapshot

_REASONS = {
    "w": ("wrong verdict", "wrong verdict"),
    "p": ("poor reasoning", "poor reasoning"),
    "i": ("invented", "it invents facts that are not in the text"),
    "f": ("follows the sample", "it obeys the sample instead of judging it"),
    "o": ("other", "another reason, in words"),
}
_SIMILAR = 3
_REST_SECONDS = 0.2
"""Time for which a trace is shown before similar ones are searched, so that skipping through traces stays fast."""


@dataclass
class Approved(Message):
    """Number of traces approved by filter."""

    n: int


class ReviewScreen(FilterScreen):
    """The traces that wait for a reviewer."""

    NAME = "review"
    ABOUT = (
        "One trace at a time: the labels of each task (≠ marks a difference from the teacher; P is the guard's "
        "probability of harm, or of refusal), the sample, the guard's side on the left, the teacher's on the right. An "
        "approved trace is trained on in the next round, a rejected one never. Tab and the arrows scroll."
    )
    FILTER = QueueFilter
    FILTER_HELP = (
        "Which of the waiting traces?\n\nWords of prompt, response or explanation, teacher:policy round:1 "
        "verdict:harmful confidence:low why:guard. Empty: all."
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
        Binding("A", "approve_all", "Approve all that match the filter", show=False, key_display="A"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._case: Case | None = None
        self._skipped: set[int] = set()
        self._waiting = 0

    def body(self) -> Iterable[Widget]:
        """Yield the state, the labels, the sample, and both sides."""
        yield CachedStatic(id="state")
        yield CachedStatic(id="verdicts")
        with VerticalScroll(id="sample"):
            yield CachedStatic(id="sample-text")
        with Horizontal(id="sides"):
            for side in ("guard", "teacher"):
                with VerticalScroll(id=side):
                    yield CachedStatic(id=f"{side}-text")

    def begin(self) -> None:
        """Show the first waiting trace."""
        for name in ("sample", "guard", "teacher"):
            self.query_one(f"#{name}").border_title = name
        self.call_later(self._next_after, None)

    def show(self, snapshot: Snapshot) -> None:
        """Show a trace if there was none and the number of waiting ones changed."""
        before, self._waiting = self._waiting, snapshot.now.to_review
        if self._case is None and self._waiting != before:
            self.call_later(self._next_after, None)

    async def _next_after(self, key: int | None, back: bool = False) -> None:
        """Show the next waiting trace after this one, from the other end if there is none."""
        with self.noted_errors():
            self._show_case(await asyncio.to_thread(self._next_case, key, back))

    def _next_case(self, key: int | None, back: bool) -> Case | None:
        """Return the next waiting trace that was not skipped, from the other end if there is none on this side."""
        with self.workspace.store.read() as db:
            for start in (key, None):
                if (found := self._next_id(db, start, back)) is not None:
                    return review_queue.case(db, found)
        return None

    def _next_id(self, db: Connection, key: int | None, back: bool) -> int | None:
        while page := review_queue.waiting_ids(db, self.filter, Page(len(self._skipped) + 1, key, back)):
            left = [one for one in page if one not in self._skipped]
            if left:
                return left[-1 if back else 0]
            key = page[0 if back else -1]
        return None

    def _show_case(self, case: Case | None) -> None:
        same = case is not None and self._case is not None and case.trace.id == self._case.trace.id
        self._case = case
        if case is None:
            skipped = f" except {len(self._skipped)} skipped" if self._skipped else ""
            nothing = "no waiting trace matches the filter" if self.filter_text else "no traces to review"
            self._set_texts(plain(nothing + skipped), *[Text()] * 4)
            return
        place = f"filter: {self.filter_text}" if self.filter_text else f"{self._waiting:,} wait"
        self._set_texts(
            case_view.state_lines(case, place),
            case_view.verdict_lines(case),
            case_view.sample_text(case),
            case_view.guard_text(case, ()),
            case_view.teacher_text(case),
        )
        if not same:
            for name in ("sample", "guard", "teacher"):
                self.query_one(f"#{name}", VerticalScroll).scroll_home(animate=False)
            self._show_similar(case)

    def _set_texts(self, *texts: Text) -> None:
        for name, text in zip(("state", "verdicts", "sample-text", "guard-text", "teacher-text"), texts, strict=True):
            self.set_text(f"#{name}", text)

    @work(exclusive=True, group="similar")
    async def _show_similar(self, case: Case) -> None:
        """Show decisions on similar traces, once the user stays on this one."""
        await asyncio.sleep(_REST_SECONDS)
        found: Sequence[tuple[float, Decided]] = ()
        with self.noted_errors():
            found = await asyncio.to_thread(self.workspace.similar, case, _SIMILAR)
        if self._case is not None and self._case.trace.id == case.trace.id:
            self.set_text("#guard-text", case_view.guard_text(self._case, found))

    async def action_approve(self) -> None:
        """Approve the trace."""
        await self._decide("approve")

    async def action_label_is_wrong(self) -> None:
        """Approve the trace against the dataset's label."""
        if self._case is None:
            return
        labels = self._case.sample.labels
        if not labels:
            self.wizloop.say("the dataset has no label for this sample", "warning")
            return
        named = ", ".join(f"{task} {label}" for task, label in labels.items())
        await self._decide("approve", reason=f"the dataset's label is wrong: {named}")

    def action_reject(self) -> None:
        """Ask for a reason and reject the trace."""
        if self._case is not None:
            self.app.push_screen(Choice("Reject this trace: why?", _REASONS), self._reject)

    async def _reject(self, reason: str | None) -> None:
        if reason == "other":
            self.app.push_screen(Prompt("Why is it rejected?"), self._reject)
        elif reason:
            await self._decide("reject", reason=reason)

    async def _decide(self, decision: str, *, reason: str | None = None, edited_json: str | None = None) -> None:
        case = self._case
        if case is None:
            return
        try:
            decide = partial(self.workspace.decide, case.trace.id, decision, seen=case.last_id)
            await asyncio.to_thread(decide, reason=reason, edited_json=edited_json)
        except errors.AlreadyDecided as error:
            self.wizloop.say(str(error), "warning")
        except errors.StoreError as error:
            self.wizloop.say(f"not saved: {error}", "error")
            return
        await self._next_after(case.trace.id)

    async def action_undo(self) -> None:
        """Undo the user's last decision and show its trace."""
        with self.noted_errors("not undone: "):
            trace_id = await asyncio.to_thread(self.workspace.undo)
            if trace_id is None:
                self.wizloop.say("you have no decision to undo", "warning")
                return
            self._show_case(await asyncio.to_thread(self.workspace.case, trace_id))
            self.wizloop.say(f"trace {trace_id}: your last decision is undone")

    async def action_skip(self) -> None:
        """Skip the trace until the app is left or the filter changes."""
        if self._case is not None:
            self._skipped.add(self._case.trace.id)
            await self.action_next()

    async def action_next(self) -> None:
        """Show the next trace."""
        await self._next_after(None if self._case is None else self._case.trace.id)

    async def action_previous(self) -> None:
        """Show the previous trace."""
        await self._next_after(None if self._case is None else self._case.trace.id, back=True)

    async def filtered(self) -> None:
        """Show the first trace of the new filter."""
        self._skipped = set()
        await self._next_after(None)

    async def action_approve_all(self) -> None:
        """Count the traces that match the filter, and approve them all if the user agrees."""
        n = await asyncio.to_thread(self._count)
        if not n:
            self.wizloop.say("no waiting trace matches the filter", "warning")
            return
        which = f"that match the filter {self.filter_text}" if self.filter_text else "that wait (no filter is set)"
        answers = {"y": ("yes", f"approve {n:,} traces"), "x": ("", "approve none")}
        self.app.push_screen(Choice(f"Approve all {n:,} traces {which}?", answers), self._approve_all)

    def _count(self) -> int:
        with self.workspace.store.read() as db:
            return review_queue.waiting_count(db, self.filter)

    def _approve_all(self, answer: str | None) -> None:
        if answer:
            self._approve_matching(self.filter, self.filter_text)

    @work(thread=True, exclusive=True, group="approve")
    def _approve_matching(self, wanted: QueueFilter, text: str) -> None:
        reason = f"approved by filter: {text}" if text else "approved with all that waited"
        try:
            n = self.workspace.approve_all(wanted, reason)
        except errors.StoreError as error:
            self.app.call_from_thread(self.wizloop.say, f"not all are approved: {error}", "error")
            return
        self.post_message(Approved(n))

    async def on_approved(self, message: Approved) -> None:
        """Note the number of approved traces and show the next."""
        self.wizloop.say(f"{message.n:,} traces approved")
        await self._next_after(None)

    async def action_edit(self) -> None:
        """Open the trace in $EDITOR, check the result, and record it as an edit."""
        if self._case is not None:
            await self._edit(editing.as_file(self._case.trace))

    async def _edit(self, text: str) -> None:
        case = self._case
        if case is None:
            return
        edited: str | OSError
        try:
            with self.app.suspend():
                # An error that leaves this block would leave the terminal suspended.
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
            edit = editing.edit_of(case.trace, edited, self.workspace.labels())
        except editing.BadEdit as error:
            self._ask_again(str(error), edited)
            return
        if edit is None:
            self.wizloop.say("nothing was changed")
        else:
            await self._decide("edit", edited_json=edit)

    def _ask_again(self, problem: str, edited: str) -> None:
        async def again(answer: str | None) -> None:
            if answer:
                await self._edit(edited)

        answers = {"e": ("again", "edit it again"), "x": ("", "discard the edit")}
        self.app.push_screen(Choice(f"This edit is invalid: {problem}.", answers), again)
