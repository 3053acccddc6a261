"""Items to judge, as files for Label Studio and Argilla, so that colleagues judge in a browser.

Both ask the same questions by the same names, and `tool_answers` reads them back. A text is shown as plain text,
never as markup. Formats: https://labelstud.io/guide/tasks.html (tasks with predictions) and Argilla 2's
`Dataset.from_disk` (.argilla/settings.json, .argilla/dataset.json, records.json).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

Tool = Literal["label-studio", "argilla"]


@dataclass(frozen=True)
class Question:
    """A question: one of the options, or a text if there are none."""

    title: str
    options: Sequence[str] = ()
    required: bool = False


@dataclass(frozen=True)
class Form:
    """What is shown of every item (names and titles), and what is asked (by name)."""

    name: str
    shown: Mapping[str, str]
    questions: Mapping[str, Question]
    guidelines: str


@dataclass(frozen=True)
class Item:
    """One item."""

    key: str
    """Unique in the file."""
    shown: Mapping[str, str]
    """Texts by name; empty where there is none."""
    identity: Mapping[str, Any]
    """What tells the item when its answers come back."""
    suggested: Mapping[str, str] = field(default_factory=dict)
    """Answers by question, to begin with."""
    agent: str = ""
    """Who suggests them."""


def write(folder: Path, tool: Tool, form: Form, items: Sequence[Item]) -> None:
    """Write items into a new folder, as one of the tools imports them."""
    (folder / ".argilla" if tool == "argilla" else folder).mkdir(parents=True)
    if tool == "argilla":
        _put(folder / ".argilla" / "dataset.json", {"name": form.name})
        _put(folder / ".argilla" / "settings.json", _settings(form))
        _put(folder / "records.json", [_record(one) for one in items])
    else:
        (folder / "labeling.xml").write_text(_labeling(form), encoding="utf-8")
        _put(folder / "tasks.json", [_task(one, form) for one in items])


def _put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _labeling(form: Form) -> str:
    """Return Label Studio's labeling interface."""
    view = ElementTree.Element("View")
    for name, title in form.shown.items():
        ElementTree.SubElement(view, "Header", value=title)
        # Without valueType a text that is an address may be fetched.
        ElementTree.SubElement(view, "Text", name=name, value=f"${name}", valueType="text")
    for name, question in form.questions.items():
        ElementTree.SubElement(view, "Header", value=question.title)
        if not question.options:
            ElementTree.SubElement(view, "TextArea", name=name, toName="prompt", editable="true", maxSubmissions="1")
            continue
        choices = ElementTree.SubElement(view, "Choices", name=name, toName="prompt", choice="single-radio")
        choices.set("required", str(question.required).lower())
        for option in question.options:
            ElementTree.SubElement(choices, "Choice", value=option)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _task(one: Item, form: Form) -> dict[str, Any]:
    """Return a Label Studio task, with what is suggested as a prediction."""
    result = [
        {
            "id": f"{one.key}-{name}",
            "from_name": name,
            "to_name": "prompt",
            "type": "choices" if form.questions[name].options else "textarea",
            "value": {"choices": [value]} if form.questions[name].options else {"text": [value]},
        }
        for name, value in one.suggested.items()
    ]
    predictions = [{"model_version": one.agent, "result": result}] if one.agent else []
    return {"data": {**one.shown, **one.identity}, "predictions": predictions}


def _settings(form: Form) -> dict[str, Any]:
    """Return Argilla's settings of the dataset."""
    # Markdown would let a text show links and pictures.
    plain = {"use_markdown": False}
    fields = [
        {"name": name, "title": title, "required": name == "prompt", "settings": {"type": "text", **plain}}
        for name, title in form.shown.items()
    ]
    questions = []
    for name, question in form.questions.items():
        options = [{"value": option, "text": option} for option in question.options]
        asked = {"type": "label_selection", "options": options} if options else {"type": "text", **plain}
        questions.append({"name": name, "title": question.title, "required": question.required, "settings": asked})
    rest = {"guidelines": form.guidelines, "vectors": [], "metadata": [], "allow_extra_metadata": True}
    return {"fields": fields, "questions": questions, **rest}


def _record(one: Item) -> dict[str, Any]:
    """Return an Argilla record, with what is suggested."""
    return {
        "id": f"wizloop-{one.key}",
        "fields": {name: text for name, text in one.shown.items() if text},
        "metadata": dict(one.identity),
        "suggestions": {
            name: {"value": value, "score": None, "agent": one.agent} for name, value in one.suggested.items()
        },
        "responses": {},
        "vectors": {},
    }
