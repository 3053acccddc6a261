"""Import one file: first read, check and hash all of it, and only then write.

A file that cannot be used leaves no trace. In between, the rows are in a spool on disk, so that a million of them need
no memory and block no other writer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np

from wizloop.loop.data import leaks
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import SampleStream, stream_samples
from wizloop.loop.data.sample_rows import Refused, SampleRow
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.sections import Data
from wizloop.store import bulk_import, categories, samples, sending
from wizloop.store.db import Connection, Store
from wizloop.store.spool import Spool

BATCH_ROWS = 1000
"""Rows checked together."""

Progress = Callable[[int], None]


@dataclass
class ImportReport:
    """Counts of a file's rows: accepted + duplicates + conflicts + refused + withheld = rows, unless `sample` draws."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    elsewhere: int = 0
    """Duplicates of a text in another split."""
    withheld: int = 0
    """Good rows of a file that is refused for its bad ones."""
    refused: list[Refused] = field(default_factory=list)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    unlabeled: int = 0
    """Rows to import that have no label."""
    unknown_labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows by task and label word that is not known: kept without that label in the pool, refused elsewhere."""
    unused_labels: list[str] = field(default_factory=list)
    """Words that `--label` names and no row has."""
    format: str = ""
    note: str = ""
    """Note for the user about such a file."""
    kept_back: int = 0
    """Texts that no teacher may see."""
    categories: dict[str, int] = field(default_factory=dict)
    """Texts by category, most first; those in none under the empty name."""

    @property
    def bad(self) -> list[Refused]:
        """The refused rows that are malformed, not merely unusable."""
        return [row for row in self.refused if row.bad]

    def to_json(self) -> dict[str, Any]:
        """Return the report as `wizloop import --json` prints it."""
        report = {**vars(self), "refused": [row._asdict() for row in self.refused]}
        return report if self.categories else {name: value for name, value in report.items() if name != "categories"}

    def count(self, added: samples.Added) -> None:
        """Add the counts of a batch of its rows."""
        self.accepted += added.added
        self.duplicates += added.duplicates
        self.conflicts += added.conflicts
        self.elsewhere += added.elsewhere


class RowsRefused(ImportRefused):
    """A file was read to its end, and none of it is imported because of its rows."""

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Checked:
    """A file that was read to its end. Close its spool once it is written."""

    spool: Spool
    report: ImportReport
    chosen: frozenset[int] | None
    """Positions of the rows to import; None imports all."""
    heads: bulk_import.Heads
    """Heads of all rows in the spool."""
    benchmark: str | None
    """Name under which its test rows are reported."""
    kept_back: Mapping[bytes, str] = field(default_factory=dict)
    """Digests of the texts that no teacher may see, with the reason."""
    categories: Mapping[bytes, Sequence[str]] = field(default_factory=dict)
    """Categories of texts, by their digests."""

    @property
    def count(self) -> int:
        """Number of rows to write."""
        return self.spool.count if self.chosen is None else len(self.chosen)

    def batches(self) -> Iterator[Sequence[samples.Kept]]:
        """Yield the rows to write, in the file's order."""
        at = 0
        for batch in self.spool.pieces():
            if self.chosen is None:
                yield batch
            elif wanted := [row for place, row in enumerate(batch, start=at) if place in self.chosen]:
                yield wanted
            at += len(batch)

    def heads_to_write(self) -> bulk_import.Heads:
        """Return the heads of the rows that `batches` yields."""
        return self.heads if self.chosen is None else self.heads[sorted(self.chosen)]


def check(
    data: Data,
    rng: np.random.Generator,
    progress: Progress = lambda _: None,
    stream: SampleStream | None = None,
    declared: Declaration = DEFAULT,
) -> Checked:
    """Read and hash a file, or the rows of `stream`, as a recipe's [[data]] describes it.

    Raises ImportRefused; its subclass RowsRefused if no row is usable, or if there are bad rows and no `skip_bad`.
    """
    stream = stream_samples(data, declared=declared) if stream is None else stream
    spool = Spool()
    try:
        report = ImportReport(format=stream.format, note=stream.note)
        kept_back: dict[bytes, str] = {}
        named: dict[bytes, Sequence[str]] = {}
        labels, heads = _fill(spool, stream, data, report, progress, kept_back, named)
        report.unknown_labels = {task: dict(words.most_common()) for task, words in stream.words.unknown.items()}
        report.unused_labels = stream.words.unused()
        fault = stream.fault(data, report.rows, _label_counts(labels))
        if (reason := _refusal(data, report, spool.count) or fault) is not None:
            report.withheld = spool.count
            raise RowsRefused(reason, report)
        chosen = None
        if data.sample is not None:
            chosen = _draw(heads, data.sample, rng)
            drawn = Checked(spool, report, chosen, heads, None).batches()
            labels = Counter(samples.kind_of(row) for batch in drawn for row in batch)
        report.labels = _label_counts(labels)
        report.unlabeled = sum(n for (_, *known), n in labels.items() if not any(known))
        report.kept_back = len(kept_back)
        counted = Counter(name for names in named.values() for name in names or (categories.NONE,))
        report.categories = dict(counted.most_common())
        return Checked(spool, report, chosen, heads, _benchmark(data), kept_back, named)
    except BaseException:
        spool.close()
        raise


def write(
    store: Store, checked: Checked, now: datetime, *, keep: bool = True, progress: Progress = lambda _: None
) -> None:
    """Add the rows in one transaction; roll it back unless `keep`."""

    def batches() -> Iterator[Sequence[samples.Kept]]:
        done = 0
        for batch in checked.batches():
            yield batch
            done += len(batch)
            progress(done)

    heads = checked.heads_to_write()
    with store.write() as db:
        checked.report.count(bulk_import.add_kept(db, batches(), heads, now, lambda rows: leaks.settle(db, rows, now)))
        if checked.benchmark is not None:
            samples.name_benchmark(db, checked.benchmark)
        mark_kept_back(db, checked)
        categories.label(db, checked.categories)
        if not keep:
            db.rollback()


def mark_kept_back(db: Connection, checked: Checked) -> None:
    """Mark the file's samples that no teacher may see; one text that is kept back anywhere is kept back."""
    for reason in set(checked.kept_back.values()):
        sending.keep_back(db, checked.kept_back.keys(), reason)


def add(db: Connection, batches: Iterable[Sequence[samples.Kept]], now: datetime) -> samples.Added:
    """Add checked rows; a text that another split has already goes to the split that measures."""
    return samples.add_kept(db, batches, now, lambda rows: leaks.settle(db, rows, now))


def bad_rows(path: str, bad: Sequence[Refused], rows: int, used: str = "imported") -> str:
    """Return why a file of `rows` rows is refused for its bad ones and none is `used`, and what to do."""
    first = bad[0]
    more = f", and bad rows after it: {len(bad) - 1:,}" if len(bad) > 1 else ""
    return (
        f"{path}: row {first.row}: {first.reason}{more}; none of its {rows:,} rows was {used}: "
        "fix the file, or skip its bad rows (--skip-bad, in a recipe skip_bad = true)"
    )


def list_refused(refused: Sequence[Refused], most: int = 10) -> list[str]:
    """Return a line for each of the first rows, with its reason, and one for how many more there are."""
    more = [f"and {len(refused) - most:,} more"] if len(refused) > most else []
    return [*(f"row {row.row}: {row.reason}" for row in refused[:most]), *more]


def _fill(
    spool: Spool,
    stream: SampleStream,
    data: Data,
    report: ImportReport,
    progress: Progress,
    kept_back: dict[bytes, str],
    named: dict[bytes, Sequence[str]],
) -> tuple[Counter[tuple[str | None, ...]], bulk_import.Heads]:
    """Put accepted rows into the spool and refused ones into the report.

    Returns how often each combination of labels occurs, and the heads of the rows in the spool; `kept_back` gets the
    texts that no teacher may see, `named` the categories of texts: the first ones that a text has.
    """
    labels: Counter[tuple[str | None, ...]] = Counter()
    heads = bytearray()
    reasons: dict[str, str] = {}
    benchmark = _benchmark(data)
    while read := list(islice(stream.rows, BATCH_ROWS)):
        kept: list[samples.Kept] = []
        for row in read:
            if isinstance(row, SampleRow):
                prompt, response, given, source, ref, policy, of_row = row
                known = given.get("request"), given.get("completion"), given.get("response")
                kept.append(samples.kept(data.split, prompt, response, benchmark or source, ref, *known, policy))
                if of_row is not None:
                    named.setdefault(samples.digest_of(kept[-1]), of_row)
            else:
                # A million rows may be refused for the same reason.
                report.refused.append(row._replace(reason=reasons.setdefault(row.reason, row.reason)))
        if stream.kept_back is not None:
            accepted = (row for row in read if isinstance(row, SampleRow))
            held = (of_store for row, of_store in zip(accepted, kept, strict=True) if stream.kept_back.holds(row))
            kept_back |= dict.fromkeys(map(samples.digest_of, held), stream.kept_back.reason)
        labels.update(map(samples.kind_of, kept))
        spool.put(kept)
        heads += bulk_import.heads_of(kept)
        report.rows += len(read)
        progress(report.rows)
    return labels, bulk_import.as_heads(heads)


def _benchmark(data: Data) -> str | None:
    return data.benchmark if data.split == "test" else None


def _refusal(data: Data, report: ImportReport, good: int) -> str | None:
    """Return why none of a file with this many good rows is imported, or None."""
    if good:
        return None if data.skip_bad or not report.bad else bad_rows(data.path, report.bad, report.rows)
    if report.unknown_labels:
        return None
    first = report.refused[0] if report.refused else None
    reason = f"; the first reason is in row {first.row}: {first.reason}" if first else ""
    note = f" (a file of {report.format}: {report.note})" if report.note else ""
    return f"{data.path}: no row can be used for {data.split}{reason}{note}"


def _draw(heads: bulk_import.Heads, wanted: int, rng: np.random.Generator) -> frozenset[int]:
    """Return the positions of `wanted` distinct texts, drawn at random."""
    distinct = np.sort(np.unique(heads, return_index=True)[1])
    return frozenset(distinct[rng.permutation(len(distinct))[:wanted]].tolist())


def _label_counts(kinds: Mapping[tuple[str | None, ...], int]) -> dict[str, dict[str, int]]:
    """Return how often each label of each task occurs; a task without labels is left out."""
    counts: dict[str, Counter[str]] = {task: Counter() for task in samples.LABELS}
    for (_, *labels), n in kinds.items():
        for task, label in zip(counts, labels, strict=True):
            if label is not None:
                counts[task][label] += n
    return {task: dict(sorted(of_task.items())) for task, of_task in counts.items() if of_task}
