"""Two sets of teacher traces side by side: right against known labels, calibration, length, agreement, disagreements.

It reads the traces schema (a `traces` list of text, expected_label, predicted_label, confidence and reasoning), as
`wizloop teach` and other tools write it, and asks nobody.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wizloop.loop.data.formats import COMPLETION, HARM
from wizloop.loop.evaluation.scoring import Rate, rate
from wizloop.loop.words import TASKS, Task

CONFIDENCE = ("low", "medium", "high")
_WORDS = re.compile(r"\w+|[^\w\s]")


class NotTraces(ValueError):
    """A file is no set of traces; the message names it, the trace and what to do."""


@dataclass(frozen=True)
class OneTrace:
    """One trace of a set."""

    text: str
    response: str | None
    task: Task
    expected: str | None
    predicted: str | None
    """None: the teacher refused, or what it wrote could not be read."""
    confidence: str | None
    steps: int
    tokens: int
    """Words and marks of the whole reasoning: no tokenizer, so that sets of any teacher compare."""
    row: Mapping[str, Any]

    @property
    def right(self) -> bool | None:
        return None if self.expected is None else self.predicted == self.expected


@dataclass(frozen=True)
class Side:
    """What one set came to."""

    name: str
    traces: int
    answered: Rate
    right: Rate
    """Of the traces with a known label; one without an answer is not right."""
    right_by_confidence: dict[str, Rate]
    """Calibration: a teacher that knows itself is right more often where it says high."""
    steps: float | None
    tokens: float | None
    """Means over the answered."""


@dataclass(frozen=True)
class Comparison:
    """Two sets, on the texts that both hold."""

    a: Side
    b: Side
    shared: int
    agreement: Rate
    kappa: dict[Task, float | None]
    """Cohen's kappa of the two verdicts on each task; None where both say one and the same of all."""
    only_a_right: int
    only_b_right: int
    disagreements: list[tuple[OneTrace, OneTrace]]
    """The most telling first: both sure, then one, then none."""


def read(path: Path) -> list[OneTrace]:
    """The traces of a file. Raises NotTraces."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        # JSON can name half a character, which no file could be written with.
        json.dumps(document, ensure_ascii=False).encode()
    except OSError as error:
        raise NotTraces(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise NotTraces(f"{path}: is nested too deep for a set of traces") from None
    except UnicodeEncodeError as error:
        raise NotTraces(f"{path}: half a character in it: {error.object[error.start]!a}; write it whole") from None
    except ValueError as error:
        raise NotTraces(f"{path}: is not JSON in UTF-8: {error}") from None
    rows = document.get("traces") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        raise NotTraces(f"{path}: no list of traces in it: `wizloop teach FILE --out traces.json` writes one")
    return [_trace(path, number, row) for number, row in enumerate(rows, start=1)]


def compare(a: Sequence[OneTrace], b: Sequence[OneTrace], names: tuple[str, str]) -> Comparison:
    """Put two sets side by side; each by its own traces, what they say of each other by the texts that both hold."""
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
        disagreements=sorted(differing, key=lambda pair: -sum(_surety(one) for one in pair)),
    )


def to_json(found: Comparison) -> dict[str, Any]:
    """Everything but the disagreements' own rows, which `document` writes."""
    sides = {name: _side_json(side) for name, side in (("a", found.a), ("b", found.b))}
    return {
        **sides,
        "shared": found.shared,
        "agreement": _rate_json(found.agreement),
        "kappa": found.kappa,
        "only_a_right": found.only_a_right,
        "only_b_right": found.only_b_right,
        "disagreements": len(found.disagreements),
    }


def document(found: Comparison) -> dict[str, Any]:
    """The disagreements in the traces schema: the first set's trace of each, the second's under `other`."""
    rows = [{**x.row, "other": {**y.row, "set": found.b.name}} for x, y in found.disagreements]
    judged = [x.right for x, _ in found.disagreements if x.right is not None]
    about = {
        "model": f"{found.a.name} against {found.b.name}",
        "total_samples": len(rows),
        "accuracy": sum(judged) / len(judged) if judged else None,
    }
    return {"metadata": about, "traces": rows}


def _trace(path: Path, number: int, row: Any) -> OneTrace:
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise NotTraces(f"{path}, trace {number}: no text in it")
    task = row.get("task", "request")
    if task not in TASKS:
        raise NotTraces(f"{path}, trace {number}: {str(task)[:40]!r} is no task ({', '.join(TASKS)})")
    reasoning = row.get("reasoning")
    whole: dict[str, Any] = reasoning if isinstance(reasoning, dict) else {}
    chain = whole.get("reasoning_chain")
    word = str(row.get("confidence") or whole.get("confidence")).casefold()
    response = row.get("response")
    return OneTrace(
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
    """The label in our words. Raises NotTraces for a word that is not known: it is not guessed."""
    given = row.get(key)
    if given is None:
        return None
    known = COMPLETION if task == "completion" else HARM
    if not isinstance(given, str) or given.casefold() not in known:
        raise NotTraces(f"{path}, trace {number}: {key} is {str(given)[:40]!r}: a label of {task} or null is needed")
    return known[given.casefold()]


def _texts(value: Any) -> Iterable[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, (dict, list)):
            waiting += one.values() if isinstance(one, dict) else one


def _numbered(traces: Sequence[OneTrace]) -> dict[tuple[str, str | None, Task, int], OneTrace]:
    """Each trace by its text and task, and by its number among those of the same: first goes with first."""
    seen: Counter[tuple[str, str | None, Task]] = Counter()
    found = {}
    for one in traces:
        key = (one.text, one.response, one.task)
        found[*key, seen[key]] = one
        seen[key] += 1
    return found


def _side(name: str, traces: Sequence[OneTrace]) -> Side:
    answered = [one for one in traces if one.predicted is not None]
    labelled = [one for one in traces if one.expected is not None]
    return Side(
        name=name,
        traces=len(traces),
        answered=rate(one.predicted is not None for one in traces),
        right=rate(one.right is True for one in labelled),
        right_by_confidence={
            word: rate(one.right is True for one in labelled if one.confidence == word and one.predicted is not None)
            for word in CONFIDENCE
        },
        steps=sum(one.steps for one in answered) / len(answered) if answered else None,
        tokens=sum(one.tokens for one in answered) / len(answered) if answered else None,
    )


def _kappa(answered: Sequence[tuple[OneTrace, OneTrace]], task: Task) -> float | None:
    """Of one task alone: the labels of two tasks are never mistaken for each other, and would count as agreement."""
    from sklearn.metrics import cohen_kappa_score

    pairs = [(str(x.predicted), str(y.predicted)) for x, y in answered if x.task == task]
    said = [sorted({pair[at] for pair in pairs}) for at in (0, 1)]
    if len(said[0]) == 1 and said[0] == said[1]:
        return None
    return float(cohen_kappa_score(*zip(*pairs, strict=True)))


def _surety(one: OneTrace) -> int:
    return CONFIDENCE.index(one.confidence) if one.confidence is not None else 0


def _rate_json(found: Rate) -> dict[str, Any]:
    return {"k": found.k, "n": found.n, "rate": found.rate, "low": found.low, "high": found.high}


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "traces": side.traces,
        "answered": _rate_json(side.answered),
        "right": _rate_json(side.right),
        "right_by_confidence": {word: _rate_json(one) for word, one in side.right_by_confidence.items()},
        "mean_steps": side.steps,
        "mean_tokens": side.tokens,
    }
