"""Compare two sets of teacher traces: accuracy, calibration, length, agreement, disagreements. Sends no requests.

Reads the traces schema (a `traces` list of text, expected_label, predicted_label, confidence and reasoning), as
`wizloop teach` and other tools write it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wizloop import regular_file
from wizloop.loop.data.label_words import WORDS
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation.scoring import Rate, rate
from wizloop.loop.measures.paired import Pair, Paired
from wizloop.loop.measures.paired import compare as compare_pairs
from wizloop.loop.words import TASKS, Task

CONFIDENCE = ("low", "medium", "high")
MOST_BYTES = 2_000_000_000
"""Maximum size of a file of traces: the whole set is compared in memory."""
_TOLD = ("n", "prompts", "accuracy", "mcnemar", "conclusion")
"""Figures of the paired comparison that are about being right."""
_WORDS = re.compile(r"\w+|[^\w\s]")


class NotTraces(ValueError):
    """A file is not a set of traces; the message names it, the trace and what to do."""


@dataclass(frozen=True)
class TeacherTrace:
    """One trace of a set."""

    text: str
    response: str | None
    task: Task
    expected: str | None
    predicted: str | None
    """None if the teacher refused, or its output could not be parsed."""
    confidence: str | None
    steps: int
    tokens: int
    """Words and punctuation marks of the whole reasoning. No tokenizer, so that all teachers compare."""
    row: Mapping[str, Any]

    @property
    def right(self) -> bool | None:
        """True if the verdict is the known label; None without one."""
        return None if self.expected is None else self.predicted == self.expected


@dataclass(frozen=True)
class Side:
    """Figures of one set."""

    name: str
    traces: int
    answered: Rate
    right: Rate
    """Share of the traces with a known label; one without an answer counts as wrong."""
    right_by_confidence: dict[str, Rate]
    """A calibrated teacher is right more often where it says high."""
    mean_steps: float | None
    mean_tokens: float | None
    """Means over the answered traces."""


@dataclass(frozen=True)
class Comparison:
    """Figures of two sets, and of the texts in both."""

    a: Side
    b: Side
    shared: int
    agreement: Rate
    kappa: dict[Task, float | None]
    """Cohen's kappa of the two verdicts on each task; None if both always give the same label."""
    only_a_right: int
    only_b_right: int
    paired: Paired | None
    """Whether the first is right more often on the labeled texts in both; None without one."""
    disagreements: list[tuple[TeacherTrace, TeacherTrace]]
    """Most confident first: both confident, then one, then none."""


def read(path: Path) -> list[TeacherTrace]:
    """Read the traces of a file. Raises NotTraces."""
    try:
        document = json.loads(regular_file.read_text(path, MOST_BYTES, "utf-8-sig"))
        # JSON can escape half a surrogate pair, which UTF-8 cannot encode.
        json.dumps(document, ensure_ascii=False).encode()
    except OSError as error:
        raise NotTraces(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise NotTraces(f"{path}: it is nested too deeply for a set of traces") from None
    except UnicodeEncodeError as error:
        raise NotTraces(
            f"{path}: a lone surrogate in it: {error.object[error.start]!a}; write the whole character"
        ) from None
    except ValueError as error:
        raise NotTraces(f"{path}: it is not JSON in UTF-8: {error}") from None
    rows = document.get("traces") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        raise NotTraces(f"{path}: it has no list of traces; `wizloop teach FILE --out traces.json` writes one")
    return [_trace(path, number, row) for number, row in enumerate(rows, start=1)]


def compare(a: Sequence[TeacherTrace], b: Sequence[TeacherTrace], names: tuple[str, str]) -> Comparison:
    """Compare two sets: each by all of its traces, their agreement by the texts in both."""
    of_a, of_b = _numbered(a), _numbered(b)
    both = [(of_a[key], of_b[key]) for key in of_a if key in of_b]
    answered = [(x, y) for x, y in both if x.predicted is not None and y.predicted is not None]
    differing = [(x, y) for x, y in both if x.predicted != y.predicted]
    return Comparison(
        a=_side(names[0], a),
        b=_side(names[1], b),
        shared=len(both),
        agreement=rate(x.predicted == y.predicted for x, y in answered),
        kappa={task: _kappa(answered, task) for task in TASKS if any(x.task == task for x, _ in answered)},
        only_a_right=sum(x.right is True and not y.right for x, y in both),
        only_b_right=sum(y.right is True and not x.right for x, y in both),
        paired=_paired([(x, y) for x, y in both if x.right is not None and y.right is not None]),
        disagreements=sorted(differing, key=lambda pair: -sum(_surety(one) for one in pair)),
    )


def to_json(found: Comparison) -> dict[str, Any]:
    """Return all figures, and the number of disagreements; `document` has their rows."""
    inner = {"a": asdict(found.a), "b": asdict(found.b), "agreement": asdict(found.agreement)}
    told = None if found.paired is None else {name: asdict(found.paired)[name] for name in _TOLD}
    return {**vars(found), **inner, "paired": told, "disagreements": len(found.disagreements)}


def document(found: Comparison) -> dict[str, Any]:
    """Return the disagreements in the traces schema: each trace of the first set, with the second's under `other`."""
    rows = [{**x.row, "other": {**y.row, "set": found.b.name}} for x, y in found.disagreements]
    judged = [x.right for x, _ in found.disagreements if x.right is not None]
    about = {
        "model": f"{found.a.name} against {found.b.name}",
        "total_samples": len(rows),
        "accuracy": sum(judged) / len(judged) if judged else None,
    }
    return {"metadata": about, "traces": rows}


def _trace(path: Path, number: int, row: Any) -> TeacherTrace:
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise NotTraces(f"{path}, trace {number}: it has no text")
    task = row.get("task", "request")
    if task not in TASKS:
        raise NotTraces(f"{path}, trace {number}: {str(task)[:40]!r} is not a task ({', '.join(TASKS)})")
    reasoning = row.get("reasoning")
    whole: dict[str, Any] = reasoning if isinstance(reasoning, dict) else {}
    chain = whole.get("reasoning_chain")
    word = str(row.get("confidence") or whole.get("confidence")).casefold()
    response = row.get("response")
    return TeacherTrace(
        text=row["text"],
        response=response if isinstance(response, str) else None,
        task=task,
        expected=_label(path, number, row, "expected_label", task),
        predicted=_label(path, number, row, "predicted_label", task),
        confidence=word if word in CONFIDENCE else None,
        steps=len(chain) if isinstance(chain, list) else 0,
        tokens=len(_WORDS.findall(" ".join(_texts(reasoning)))),
        row=row,
    )


def _label(path: Path, number: int, row: Mapping[str, Any], key: str, task: Task) -> str | None:
    """Return the label in our words. Raises NotTraces for an unknown word, which is never guessed."""
    given = row.get(key)
    if given is None:
        return None
    if not isinstance(given, str) or given.casefold() not in WORDS[task]:
        raise NotTraces(f"{path}, trace {number}: {key} is {str(given)[:40]!r}; give a label of {task}, or null")
    return WORDS[task][given.casefold()]


def _texts(value: Any) -> Iterable[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, (dict, list)):
            waiting += one.values() if isinstance(one, dict) else one


def _numbered(traces: Sequence[TeacherTrace]) -> dict[tuple[str, str | None, Task, int], TeacherTrace]:
    """Return the traces by text, task and occurrence: the first of one set is compared with the first of the other."""
    seen: Counter[tuple[str, str | None, Task]] = Counter()
    found = {}
    for one in traces:
        key = (one.text, one.response, one.task)
        found[*key, seen[key]] = one
        seen[key] += 1
    return found


def _side(name: str, traces: Sequence[TeacherTrace]) -> Side:
    answered = [one for one in traces if one.predicted is not None]
    labeled = [one for one in traces if one.expected is not None]
    return Side(
        name=name,
        traces=len(traces),
        answered=rate(one.predicted is not None for one in traces),
        right=rate(one.right is True for one in labeled),
        right_by_confidence={
            word: rate(one.right is True for one in labeled if one.confidence == word and one.predicted is not None)
            for word in CONFIDENCE
        },
        mean_steps=sum(one.steps for one in answered) / len(answered) if answered else None,
        mean_tokens=sum(one.tokens for one in answered) / len(answered) if answered else None,
    )


def _kappa(answered: Sequence[tuple[TeacherTrace, TeacherTrace]], task: Task) -> float | None:
    """Cohen's kappa of one task: labels of two tasks never mix, and would count as agreement."""
    from sklearn.metrics import cohen_kappa_score

    pairs = [(str(x.predicted), str(y.predicted)) for x, y in answered if x.task == task]
    if len({label for pair in pairs for label in pair}) == 1:
        return None
    return float(cohen_kappa_score(*zip(*pairs, strict=True)))


def _paired(labeled: Sequence[tuple[TeacherTrace, TeacherTrace]]) -> Paired | None:
    """Compare how often each is right, whatever the task: no label is positive."""
    if not labeled:
        return None
    ours, theirs = (["right" if pair[side].right else None for pair in labeled] for side in (0, 1))
    prompts = [normalize(x.text) for x, _ in labeled]
    return compare_pairs([Pair("", ["right"] * len(labeled), ours, theirs, prompts)])[0]


def _surety(one: TeacherTrace) -> int:
    return CONFIDENCE.index(one.confidence) if one.confidence is not None else 0
