"""The traces that wait for a person, as files for Label Studio and Argilla, so that colleagues judge in a browser.

Both ask the same questions by the same names, and `review_answers` reads them back. A text is shown as plain text,
never as markup. Formats: https://labelstud.io/guide/tasks.html (tasks with predictions) and Argilla 2's
`Dataset.from_disk` (.argilla/settings.json, .argilla/dataset.json, records.json).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from wizloop.loop.stored_samples import PAGE, labels_of
from wizloop.loop.words import LABELS, TASKS
from wizloop.store import reviews, samples
from wizloop.store.db import Connection
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace

Tool = Literal["label-studio", "argilla"]
TRACE, SAMPLE = "wizloop_trace", "wizloop_sample"
"""Names under which a file keeps the trace's id and the digest of its sample."""
DECISION, EXPLANATION, STEPS, REASON = "decision", "explanation", "steps", "reason"
VERDICTS = {task: f"{task}_verdict" for task in TASKS}
"""Names of the questions."""
DECISIONS = ("approve", "reject")
_SHOWN = {
    "prompt": "Prompt",
    "response": "Response",
    "known_label": "Known label",
    "why_it_waits": "Why it waits",
}
"""Names and titles of the texts to show."""
_TITLES = {
    DECISION: "Train on it? approve (as answered below) or reject",
    **{name: f"Verdict: {task}" for task, name in VERDICTS.items()},
    EXPLANATION: "The teacher's reason; edit it if needed",
    STEPS: "The teacher's steps, one per line after its task; edit them if needed",
    REASON: "Why you reject it",
}
_TEXTS = (EXPLANATION, STEPS, REASON)
"""The questions that are answered with a text."""
GUIDELINES = (
    "Read the prompt, the response if there is one, and what the teacher says. Approve what a guard should learn; if a "
    "verdict or the reason is wrong, edit it and approve. Reject what cannot be fixed, and say why. Texts may be "
    "hostile: they are material to judge, never instructions."
)


@dataclass(frozen=True)
class Case:
    """A trace that waits, its sample, and the reason."""

    trace: TeacherTrace
    sample: Sample
    why: str | None

    def shown(self) -> dict[str, str]:
        """Return the texts to show by name; empty where there is none."""
        known = ", ".join(f"{task} {label}" for task, label in labels_of(self.sample).items())
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


def steps_text(steps_json: str) -> str:
    """Return the steps of a trace as lines, each after its task (`request: It asks how to knit`)."""
    steps = json.loads(steps_json)
    return "\n".join(f"{task}: {step}" for task in TASKS for step in steps.get(task, ()))


def waiting(db: Connection) -> Iterator[Case]:
    """Yield every trace that waits for a person, by id."""
    after = 0
    while page := reviews.waiting(db, PAGE, after):
        known = {one.id: one for one in samples.get(db, [each.trace.sample_id for each in page])}
        yield from (Case(each.trace, known[each.trace.sample_id], each.reason) for each in page)
        after = page[-1].trace.id


def write(folder: Path, tool: Tool, cases: Sequence[Case]) -> None:
    """Write cases into a new folder, as one of the tools imports them."""
    (folder / ".argilla" if tool == "argilla" else folder).mkdir(parents=True)
    if tool == "argilla":
        _put(folder / ".argilla" / "dataset.json", {"name": "wizloop-review"})
        _put(folder / ".argilla" / "settings.json", _settings())
        _put(folder / "records.json", [_record(one) for one in cases])
    else:
        (folder / "labeling.xml").write_text(_labeling(), encoding="utf-8")
        _put(folder / "tasks.json", [_task(one) for one in cases])


def _put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _options(name: str) -> Sequence[str]:
    task = next((task for task in TASKS if VERDICTS[task] == name), None)
    return DECISIONS if task is None else LABELS[task]


def _labeling() -> str:
    """Return Label Studio's labeling interface."""
    view = ElementTree.Element("View")
    for name, title in _SHOWN.items():
        ElementTree.SubElement(view, "Header", value=title)
        # Without valueType a text that is an address may be fetched.
        ElementTree.SubElement(view, "Text", name=name, value=f"${name}", valueType="text")
    for name, title in _TITLES.items():
        ElementTree.SubElement(view, "Header", value=title)
        if name in _TEXTS:
            ElementTree.SubElement(view, "TextArea", name=name, toName="prompt", editable="true", maxSubmissions="1")
            continue
        required = str(name == DECISION).lower()
        choices = ElementTree.SubElement(view, "Choices", name=name, toName="prompt", choice="single-radio")
        choices.set("required", required)
        for option in _options(name):
            ElementTree.SubElement(choices, "Choice", value=option)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _task(one: Case) -> dict[str, Any]:
    """Return a Label Studio task with the teacher's answers as a prediction."""
    result = [
        {
            "id": f"{one.trace.id}-{name}",
            "from_name": name,
            "to_name": "prompt",
            "type": "textarea" if name in _TEXTS else "choices",
            "value": {"text": [value]} if name in _TEXTS else {"choices": [value]},
        }
        for name, value in one.suggested().items()
    ]
    prediction = {"model_version": one.trace.teacher, "result": result}
    return {"data": one.shown() | one.identity(), "predictions": [prediction]}


def _settings() -> dict[str, Any]:
    """Return Argilla's settings of the dataset."""
    # Markdown would let a text show links and pictures.
    plain = {"use_markdown": False}
    fields = [
        {"name": name, "title": title, "required": name == "prompt", "settings": {"type": "text", **plain}}
        for name, title in _SHOWN.items()
    ]
    questions = []
    for name, title in _TITLES.items():
        options = [{"value": option, "text": option} for option in _options(name)]
        asked = {"type": "text", **plain} if name in _TEXTS else {"type": "label_selection", "options": options}
        questions.append({"name": name, "title": title, "required": name == DECISION, "settings": asked})
    rest = {"guidelines": GUIDELINES, "vectors": [], "metadata": [], "allow_extra_metadata": True}
    return {"fields": fields, "questions": questions, **rest}


def _record(one: Case) -> dict[str, Any]:
    """Return an Argilla record with the teacher's answers as suggestions."""
    agent = one.trace.teacher
    return {
        "id": f"wizloop-{one.trace.id}",
        "fields": {name: text for name, text in one.shown().items() if text},
        "metadata": one.identity(),
        "suggestions": {
            name: {"value": value, "score": None, "agent": agent} for name, value in one.suggested().items()
        },
        "responses": {},
        "vectors": {},
    }
