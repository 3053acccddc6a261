"""Two guards' answers to the same rows of the same benchmarks, matched row by row and compared. Asks no guard."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import ImportRefused, Record, RowRefused
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation import recorded_predictions
from wizloop.loop.evaluation.answered_rows import AnsweredRow
from wizloop.loop.evaluation.recorded_predictions import Reader
from wizloop.loop.evaluation.report import DASH, Section
from wizloop.loop.measures.classes import REST, against_rest
from wizloop.loop.measures.paired import Change, Pair, Paired, compare
from wizloop.loop.words import DEFAULT, LABELS, TASKS, Declaration, Task

HEADS = ("benchmark", "task", "F1", "against", "difference (95 %)", "alone")
TEST_HEADS = ("benchmark", "task", "F1 p", "McNemar", "shows", "it is")
_RESPONSE = "\n\nAI assistant:\n"
"""Where the response begins in a recorded prompt: rows of one request are of one prompt."""
_Rows = Sequence[tuple[AnsweredRow, AnsweredRow]]


class Sides(NamedTuple):
    """The answers of two guards, by name, to one benchmark."""

    benchmark: str
    ours: str
    theirs: str
    our_rows: Sequence[AnsweredRow]
    their_rows: Sequence[AnsweredRow]


@dataclass(frozen=True)
class Line:
    """Two guards on one task of a benchmark."""

    benchmark: str
    task: Task
    ours: str
    theirs: str
    only_in_ours: int
    """Labeled rows that the other did not answer; left out, as are the two below."""
    only_in_theirs: int
    labeled_otherwise: int
    """Rows in both whose labels differ."""
    found: Paired

    def to_json(self) -> dict[str, Any]:
        """Return all figures, those of the comparison beside the names."""
        row = asdict(self)
        figures: dict[str, Any] = row.pop("found")
        return row | figures


def lines(sides: Sequence[Sides]) -> list[Line]:
    """Compare the guards on each task of each benchmark where both answered a row; Holm is over all of these."""
    matched = [(each, task, *_matched(each, task)) for each in sides for task in TASKS]
    shared = [one for one in matched if one[2]]
    found = compare([_pair(rows, task) for _, task, rows, _ in shared])
    return [
        Line(each.benchmark, task, each.ours, each.theirs, *left_out, paired)
        for (each, task, _, left_out), paired in zip(shared, found, strict=True)
    ]


def to_json(found: Sequence[Line]) -> dict[str, Any]:
    """Return the comparisons under the key `against`; nothing without any."""
    return {"against": [one.to_json() for one in found]} if found else {}


def in_report(found: Sequence[Line]) -> Section:
    """Return the comparisons as a report shows them."""
    if not found:
        return Section({}, (), ())
    tables = [
        (heading, ("guard", "held against", *heads), _with_sides(found, cells(found)))
        for heading, heads, cells in (("Differences", HEADS, f1_cells), ("Is it better?", TEST_HEADS, verdict_cells))
    ]
    return Section(to_json(found), tables, [reading_aid(found)])


def _with_sides(found: Sequence[Line], rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    return [(one.ours, one.theirs, *row) for one, row in zip(found, rows, strict=True)]


def left_out(found: Sequence[Line]) -> Iterator[str]:
    """Say which rows of each task could not be compared."""
    for one in found:
        parts = {
            f"answered by {one.ours} only": one.only_in_ours,
            f"answered by {one.theirs} only": one.only_in_theirs,
            "labeled otherwise": one.labeled_otherwise,
        }
        if said := ", ".join(f"{n:,} {what}" for what, n in parts.items() if n):
            yield f"{one.benchmark}, {one.task}: {one.found.n:,} rows are compared; left out: {said}"


def f1_cells(found: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each comparison, in the order of HEADS."""
    for one in found:
        f1, alone = one.found.f1, f"{one.found.only_ours:,}:{one.found.only_theirs:,}"
        yield one.benchmark, one.task, _points(f1.ours), _points(f1.theirs), difference(f1), alone


def verdict_cells(found: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each comparison, in the order of TEST_HEADS."""
    for one in found:
        tests = p_value(one.found.holm), p_value(one.found.mcnemar_holm)
        yield one.benchmark, one.task, *tests, _points(one.found.f1.detectable, digits=1), one.found.conclusion


def reading_aid(found: Sequence[Line]) -> str:
    """Explain the two tables."""
    rows = f", both adjusted by Holm for the {len(found)} rows" if len(found) > 1 else ""
    return (
        "difference: in points of F1, with its 95 % interval by paired bootstrap over prompts; alone: prompts on which "
        "only the first, and only the second, is right; F1 p: of the difference, by exchanging the answers prompt by "
        f"prompt; McNemar: exact, of the prompts alone{rows}; shows: the smallest difference in F1 that these rows "
        "would show in 80 of 100 such sets."
    )


def read(path: Path, declared: Declaration = DEFAULT) -> list[AnsweredRow] | None:
    """Read rows that `--rows` wrote, by these label words; None for a file of something else.

    Raises ImportRefused for a bad row.
    """
    rows: list[AnsweredRow] = []
    for number, record in read_records(path):
        if isinstance(record, RowRefused):
            raise ImportRefused(f"{path}, row {number}: {record}")
        if not all(isinstance(record.get(key), dict) for key in ("label", "verdict")):
            if not rows:
                return None
            raise ImportRefused(f"{path}, row {number}: no label and verdict by task, as `evaluate --rows` writes them")
        rows.append(_row(path, number, record, declared))
    return rows


def recorded_for(
    path: Path, rows: Sequence[AnsweredRow], reader: Reader, declared: Declaration = DEFAULT
) -> list[AnsweredRow]:
    """Return the recorded outputs in a file for rows that a guard answered: by row number, where the text is the same.

    Raises ImportRefused for a file that is not of recorded outputs, and for rows with labels of several tasks.
    """
    tasks = [task for task in TASKS if any(task in one.labels for one in rows)]
    if len(tasks) != 1:
        raise ImportRefused(f"{path}: recorded outputs are of one task; these rows are labeled for {', '.join(tasks)}")
    read = recorded_predictions.read(path, tasks[0], reader, declared=declared)
    known = {_number(one.row): one for one in read.answered}
    found = [(one, known.get(_number(one.row))) for one in rows]
    return [
        replace(other, prompt=one.prompt, response=one.response, row=one.row)
        for one, other in found
        if other is not None and one.prompt in other.prompt and (one.response or "") in other.prompt
    ]


def _number(row: str) -> str:
    return row.rpartition(":")[2]


def _matched(each: Sides, task: Task) -> tuple[list[tuple[AnsweredRow, AnsweredRow]], tuple[int, int, int]]:
    """Return the rows of a task that both answered, and how many are left out, as in Line."""
    whole = all(one.prompt for rows in (each.our_rows, each.their_rows) for one in rows)
    ours, theirs = (_numbered(rows, task, whole=whole) for rows in (each.our_rows, each.their_rows))
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    same = [(x, y) for x, y in both if x.labels[task] == y.labels[task]]
    return same, (len(ours) - len(both), len(theirs) - len(both), len(both) - len(same))


def _numbered(rows: Sequence[AnsweredRow], task: Task, *, whole: bool) -> dict[tuple[str, ...], AnsweredRow]:
    """Return the rows of a task by text, or by source where a side has no texts.

    Rows of the same text are numbered: the first of one side is matched with the first of the other.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    found = {}
    for one in rows:
        if task in one.labels:
            key = (one.prompt, "with" if one.response is not None else "", one.response or "") if whole else (one.row,)
            found[*key, str(seen[key])] = one
            seen[key] += 1
    return found


def _pair(rows: _Rows, task: Task) -> Pair:
    # Of more than two labels the first is held against all others.
    positive = rows[0][0].declared.positive(task) if rows else LABELS[task][0]
    labels = [x.labels[task] for x, _ in rows]
    ours, theirs = [x.verdict.get(task) for x, _ in rows], [y.verdict.get(task) for _, y in rows]
    if rows and rows[0][0].declared.classes(task):
        labels = [label or REST for label in against_rest(labels, positive)]
        ours, theirs = against_rest(ours, positive), against_rest(theirs, positive)
    return Pair(
        positive=positive,
        labels=labels,
        ours=ours,
        theirs=theirs,
        prompts=[normalize((x.prompt or x.row).rpartition(_RESPONSE)[0] or x.prompt or x.row) for x, _ in rows],
    )


def _row(path: Path, number: int, record: Record, declared: Declaration) -> AnsweredRow:
    label, verdict = (_by_task(path, number, record, key, declared) for key in ("label", "verdict"))
    known = {task: word for task, word in label.items() if word is not None}
    prompt, response = (record.get(key) for key in ("prompt", "response"))
    return AnsweredRow(
        benchmark=str(record.get("benchmark", path.name)),
        row=str(record.get("row", number)),
        sample=None,
        prompt=prompt if isinstance(prompt, str) else "",
        response=response if isinstance(response, str) else None,
        main="request",
        labels=known,
        verdict={str(task): word for task, word in verdict.items()},
        probability={},
        confidence=None,
        cell=None,
        policy=None,
        declared=declared,
    )


def _by_task(path: Path, number: int, record: Record, key: str, declared: Declaration) -> dict[Task, str | None]:
    given: Mapping[str, Any] = record[key]
    found: dict[Task, str | None] = {task: given.get(task) for task in declared.tasks}
    for task, word in found.items():
        if word is not None and word not in declared[task]:
            raise ImportRefused(
                f"{path}, row {number}: {key} of {task} is {str(word)[:40]!r}; write {' or '.join(declared[task])}, or "
                "give the recipe that declares it with --recipe"
            )
    return found


def difference(change: Change) -> str:
    """Return a difference in points with its interval: `+1.2 (-0.4 to 2.9)`."""
    if change.difference is None:
        return DASH
    text = f"{100 * change.difference:+.1f}"
    if change.low is None or change.high is None:
        return text
    return f"{text} ({100 * change.low:.1f} to {100 * change.high:.1f})"


def _points(value: float | None, digits: int = 2) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f}"


def p_value(value: float) -> str:
    """Format a p-value: `0.031`, or `<0.001`."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
