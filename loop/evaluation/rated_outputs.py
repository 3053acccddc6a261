"""Draw the outputs that people rate: a guard's or a teacher's stored reasoning, or the rows of a file, by seed.

What a rater is shown is frozen when it is drawn: the text and the reasoning, without the answer block, the teacher's
verdict, confidence or name. Reasoning may still say what it concludes: that is part of what is rated.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wizloop.loop.data.files import read_records
from wizloop.loop.data.formats_traces import OPENING, framed
from wizloop.loop.data.records import ImportRefused, Record, RowRefused
from wizloop.loop.evaluation.stored_answers import model_of
from wizloop.loop.evaluation.verdict_parser import parse_verdicts
from wizloop.loop.words import DEFAULT, FIELD, LABELS, TASKS, Declaration, Task
from wizloop.store import errors, predictions, samples, steps, teacher_calls
from wizloop.store.db import Connection, Store
from wizloop.store.ratings import NewOutput, Questions

Words = Mapping[Task, Sequence[str]]
"""The label words of each task."""
NOTES = (
    *("surface_analysis", "legitimate_uses", "harmful_uses", "context_clues", "risk_factors", "mitigating_factors"),
    *("reasoning_chain", "steps"),
)
"""Parts of a teacher's trace that are reasoning. Others, such as `confidence`, are not shown."""
_TEXT, _REASONING = ("prompt", "text"), ("reasoning", "predict")
"""Columns of a file, in the order in which they are looked for."""
_HEADING = re.compile(r"[ \t>#*_`]*(?:final[ \t]+)?answers?[ \t*_`]*:?[ \t*_`]*", re.IGNORECASE)
_FIELD = re.compile(
    rf"[ \t>*_`-]*(?:{'|'.join(FIELD.values())}|Categories)[ \t*_`]*:.*|[ \t]*-{{3,}}[ \t]*|\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class Drawn:
    """Outputs drawn from what there was."""

    of: str
    name: str
    round: int | None
    seed: int
    outputs: Sequence[NewOutput]
    there: int
    """Outputs to draw from."""


def of_guard(store: Store, n: int, seed: int, round: int | None, words: Words = LABELS) -> Drawn:
    """Draw n samples and one trace of each, of the guard that stands, or of a round's. Raises errors.NotFound."""
    model = model_of(store, round)
    with store.read() as db:
        traced = predictions.traced(db, model.id)
        if not traced:
            raise errors.NotFound(f"{model.name} has written no traces: it answers directly{_others(db)}")
        rng = _rng("guard", model.name, seed)
        drawn = {each: rng.randrange(traced[each]) for each in _drawn(rng, sorted(traced), n)}
        texts = {one.id: one for one in samples.get(db, list(drawn))}
        traces: dict[int, list[predictions.GuardTrace]] = {}
        for trace in predictions.traces_of(db, model.id, list(drawn)):
            traces.setdefault(trace.sample_id, []).append(trace)
    outputs = [_of_guard(texts[each], traces[each][at], words) for each, at in drawn.items()]
    return Drawn("guard", model.name, model.round if round is None else round, seed, outputs, len(traced))


def _others(db: Connection) -> str:
    have = [each.number for each in steps.rounds(db) if _has_traces(db, each.challenger)]
    return f"; --round {have[-1]} has some" if have else ""


def _has_traces(db: Connection, model_id: int | None) -> bool:
    return model_id is not None and bool(predictions.traced(db, model_id))


def _of_guard(sample: samples.Sample, trace: predictions.GuardTrace, words: Words) -> NewOutput:
    return NewOutput(
        sample.id,
        f"sample {sample.id}, trace {trace.idx + 1}",
        sample.prompt,
        sample.response,
        without_answer(trace.text),
        questions(sample, words),
        dict(trace.verdict or {}),
    )


def of_teacher(store: Store, n: int, seed: int, round: int | None, words: Words = LABELS) -> Drawn:
    """Draw n samples and one teacher's trace of each, of a round or of all. Raises errors.NotFound."""
    with store.read() as db:
        rounds = [each.number for each in steps.rounds(db)] if round is None else [round]
        found: dict[int, list[teacher_calls.TeacherTrace]] = {}
        for trace in (trace for number in rounds for trace in teacher_calls.traces(db, number)):
            found.setdefault(trace.sample_id, []).append(trace)
        texts = {one.id: one for one in samples.get(db, list(found)) if one.excluded is None}
        if not texts:
            where = "" if round is None else f" in round {round}"
            raise errors.NotFound(f"no teacher has written anything{where} yet (see `wizloop status`)")
        rng = _rng("teacher", str(round), seed)
        drawn = [rng.choice(found[each]) for each in _drawn(rng, sorted(texts), n)]
    names = ", ".join(sorted({trace.teacher for trace in drawn}))
    outputs = [_of_teacher(texts[trace.sample_id], trace, words) for trace in drawn]
    return Drawn("teacher", names, round, seed, outputs, len(texts))


def _of_teacher(sample: samples.Sample, trace: teacher_calls.TeacherTrace, words: Words) -> NewOutput:
    steps_by_task = json.loads(trace.steps_json)
    parts = _notes(json.loads(trace.trace_json))
    if isinstance(steps_by_task, dict):
        parts += [(f"Steps on the {task}", steps_by_task[task]) for task in TASKS if steps_by_task.get(task)]
    reasoning = _joined([*parts, ("Because", trace.explanation)])
    asked = questions(sample, words)
    return NewOutput(
        sample.id, f"trace {trace.id}", sample.prompt, sample.response, reasoning, asked, dict(trace.verdict)
    )


def of_file(path: Path, n: int, seed: int, declared: Declaration = DEFAULT) -> Drawn:
    """Draw n rows of a file: prompt (or text), response, and reasoning (or predict). Raises ImportRefused."""
    found = list(_rows(path, declared))
    if not found:
        raise ImportRefused(f"{path}: it has no rows")
    return Drawn("file", path.name, None, seed, _drawn(_rng("file", path.name, seed), found, n), len(found))


def _rows(path: Path, declared: Declaration) -> Iterator[NewOutput]:
    for number, record in read_records(path):
        try:
            if isinstance(record, RowRefused):
                raise record
            yield _of_row(f"{path.name}:{number}", record, declared)
        except RowRefused as error:
            raise ImportRefused(f"{path}, row {number}: {error}") from None


def _of_row(row_ref: str, record: Record, declared: Declaration) -> NewOutput:
    column = next((name for name in _TEXT if record.get(name)), None)
    if column is None:
        raise RowRefused("no column prompt or text: rows of `wizloop evaluate --rows` have it with --texts")
    prompt, response = _text(record, column), _text(record, "response") if record.get("response") else None
    if (at := prompt.find(OPENING)) >= 0 and "predict" in record:
        prompt, response = framed(prompt[at:])
    about = _Pair(prompt, response)
    given = next((record[name] for name in _REASONING if record.get(name)), "")
    verdict = record.get("verdict")
    said: Mapping[Any, Any] = verdict if isinstance(verdict, dict) else {}
    if not said and isinstance(given, str):
        said = parse_verdicts(given, declared)
    asked = questions(about, declared.by_task)
    own = {task: label for task, _ in asked if isinstance(label := said.get(task), str)}
    return NewOutput(None, row_ref, prompt, response, _reasoning(given), asked, own)


@dataclass(frozen=True)
class _Pair:
    prompt: str
    response: str | None


def _text(record: Record, column: str) -> str:
    value = record[column]
    if not isinstance(value, str):
        raise RowRefused(f"{column} is a {type(value).__name__}, not a text")
    return value


def _reasoning(given: Any) -> str:
    """Return reasoning as text: a text without its answer block, a list of steps, or the parts of a trace."""
    if isinstance(given, str):
        return without_answer(given)
    if isinstance(given, list):
        return _lines(given)
    if isinstance(given, dict):
        return _joined([*_notes(given), ("Because", given.get("explanation", ""))])
    raise RowRefused(f"the reasoning is a {type(given).__name__}: give a text or a list of texts")


def _notes(whole: Any) -> list[tuple[str, Any]]:
    fields = whole if isinstance(whole, dict) else {}
    return [(name.replace("_", " ").capitalize(), fields[name]) for name in NOTES if fields.get(name)]


def _joined(parts: Sequence[tuple[str, Any]]) -> str:
    return "\n\n".join(f"{head}:\n{_lines(body)}" for head, body in parts if body)


def _lines(body: Any) -> str:
    return "\n".join(f"- {line}" for line in body) if isinstance(body, list) else str(body)


def without_answer(text: str) -> str:
    """Return a trace without its answer: what stands below the last heading `Answers`, or the fields at its end."""
    lines = text.splitlines()
    heads = [at for at, line in enumerate(lines) if line.strip() and _HEADING.fullmatch(line)]
    kept = lines[: heads[-1]] if heads else lines
    while kept and _FIELD.fullmatch(kept[-1]):
        kept.pop()
    return "\n".join(kept)


def questions(sample: Any, words: Words) -> Questions:
    """Return what is asked about a sample: the tasks that apply to it, with their labels."""
    return [(task, list(words[task])) for task in DEFAULT.tasks_of(sample) if words.get(task)]


def _rng(*parts: object) -> random.Random:
    return random.Random(":".join(map(str, parts)))


def _drawn(rng: random.Random, found: Sequence[Any], n: int) -> list[Any]:
    return rng.sample(found, min(n, len(found)))
