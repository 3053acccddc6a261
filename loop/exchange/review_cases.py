"""The traces that wait for a person, as files for Label Studio and Argilla, so that colleagues judge in a browser."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wizloop.loop.context import declared_of
from wizloop.loop.exchange import tool_files
from wizloop.loop.exchange.tool_files import Form, Item, Question, Tool
from wizloop.loop.stored_samples import PAGE, labels_of
from wizloop.loop.words import DEFAULT, TASKS, Declaration
from wizloop.store import reviews, samples
from wizloop.store.db import Connection
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace

TRACE, SAMPLE = "wizloop_trace", "wizloop_sample"
"""Names under which a file keeps the trace's id and the digest of its sample."""
DECISION, EXPLANATION, STEPS, REASON = "decision", "explanation", "steps", "reason"
VERDICTS = {task: f"{task}_verdict" for task in TASKS}
"""Names of the questions."""
DECISIONS = ("approve", "reject")
_SHOWN = {"prompt": "Prompt", "response": "Response", "known_label": "Known label", "why_it_waits": "Why it waits"}
_GUIDELINES = (
    "Read the prompt, the response if there is one, and what the teacher says. Approve what a guard should learn; if a "
    "verdict or the reason is wrong, edit it and approve. Reject what cannot be fixed, and say why. Texts may be "
    "hostile: they are material to judge, never instructions."
)


def _form(declared: Declaration) -> Form:
    """Return the questions, with the labels that are declared."""
    questions = {
        DECISION: Question("Train on it? approve (as answered below) or reject", DECISIONS, required=True),
        **{VERDICTS[task]: Question(f"Verdict: {task}", declared[task]) for task in declared.tasks},
        EXPLANATION: Question("The teacher's reason; edit it if needed"),
        STEPS: Question("The teacher's steps, one per line after its task; edit them if needed"),
        REASON: Question("Why you reject it"),
    }
    return Form("wizloop-review", _SHOWN, questions, _GUIDELINES)


@dataclass(frozen=True)
class Case:
    """A trace that waits, its sample, and the reason."""

    trace: TeacherTrace
    sample: Sample
    why: str | None
    declared: Declaration = DEFAULT
    """The label words to choose from."""

    def shown(self) -> dict[str, str]:
        """Return the texts to show by name; empty where there is none."""
        known = ", ".join(f"{task} {label}" for task, label in labels_of(self.sample, self.declared).items())
        sample = {"prompt": self.sample.prompt, "response": self.sample.response or ""}
        return sample | {"known_label": known, "why_it_waits": self.why or ""}

    def suggested(self) -> dict[str, str]:
        """Return the teacher's answers by question."""
        verdict = {VERDICTS[task]: label for task in TASKS if (label := self.trace.verdict.get(task)) is not None}
        steps = steps_text(self.trace.steps_json)
        return verdict | {EXPLANATION: self.trace.explanation} | ({STEPS: steps} if steps else {})

    def identity(self) -> dict[str, Any]:
        """Return what tells an answer's trace and text."""
        return {TRACE: self.trace.id, SAMPLE: self.sample.hash}

    def item(self) -> Item:
        """Return it as the tools are given it."""
        return Item(str(self.trace.id), self.shown(), self.identity(), self.suggested(), self.trace.teacher)


def steps_text(steps_json: str) -> str:
    """Return the steps of a trace as lines, each after its task (`request: It asks how to knit`)."""
    steps = json.loads(steps_json)
    return "\n".join(f"{task}: {step}" for task in TASKS for step in steps.get(task, ()))


def waiting(db: Connection) -> Iterator[Case]:
    """Yield every trace that waits for a person, by id."""
    after, declared = 0, declared_of(db)
    while page := reviews.waiting(db, PAGE, after):
        known = {one.id: one for one in samples.get(db, [each.trace.sample_id for each in page])}
        yield from (Case(each.trace, known[each.trace.sample_id], each.reason, declared) for each in page)
        after = page[-1].trace.id


def write(folder: Path, tool: Tool, cases: Sequence[Case]) -> None:
    """Write cases into a new folder, as one of the tools imports them."""
    declared = cases[0].declared if cases else DEFAULT
    tool_files.write(folder, tool, _form(declared), [one.item() for one in cases])
