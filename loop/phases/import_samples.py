"""Phase import: add the samples of the demo or of files to the store, and exclude leaks.

`import_file` reads files. Adding the same rows again changes nothing.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.data.import_file import Checked, ImportReport, RowsRefused, add, check, list_refused, mark_kept_back
from wizloop.loop.data.kept_back import refuse_column, with_send
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard.backend import export_fault
from wizloop.loop.phases import must_hold
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.demo_text import demo_samples
from wizloop.recipes.sections import Data, Split
from wizloop.store import categories, samples, steps
from wizloop.store import leaks as leak_rows
from wizloop.store.db import Connection

T = TypeVar("T")

BATCH = 250
"""Rows per transaction: the night's writers block each other for a few milliseconds at most."""
_MEASURING_FIRST: tuple[Split, ...] = ("test", "dev", "seed", "pool")


def run(ctx: Context) -> str:
    """Import the recipe's samples, exclude leaks, and check that the rest is enough for a run.

    Raises ImportRefused, which names the file, split or key and what to do, and BackendError.
    """
    # The export would fail after training; before the import the recipe can still be changed.
    if why := export_fault(ctx.backend, ctx.recipe.export.formats, ctx.recipe.guard.base):
        raise ImportRefused(f"export.formats: {why}")
    taken = _with_must_hold(ctx)
    leaks.sweep(ctx.store, ctx.now())
    with ctx.store.read() as db:
        counts, labels = samples.counts(db), samples.label_counts(db)
        kept_out = leak_rows.number(db)
    check_usable(counts, labels, ctx.recipe.needed(), ctx.declared)
    record = {"samples": counts, "leaks_excluded": kept_out, "files": taken}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, record)
    note = ", ".join(f"{split} {n:,}" for split, n in counts.items())
    return f"{note}; {kept_out} excluded: their text is in dev or test" if kept_out else note


def _with_must_hold(ctx: Context) -> list[dict[str, Any]]:
    """Import the recipe's source, then the rows that must hold: a text that is in dev or test stays there."""
    found = must_hold.checked(ctx)
    taken = _SOURCES[ctx.recipe.source](ctx)
    data = must_hold.described(ctx.recipe)
    if found is None or data is None:
        return taken
    with found.spool:
        _add_checked(ctx, found)
        must_hold.keep(ctx, found)
    return [*taken, _counts(Path(data.path).name, found.report)]


def import_file(ctx: Context, data: Data) -> ImportReport:
    """Import one file of a recipe's [[data]], batch by batch. Raises ImportRefused."""
    return _write(ctx, data, _checked(ctx, data))


def _checked(ctx: Context, data: Data) -> Checked:
    try:
        return check(with_send(ctx.recipe, data), ctx.rng("sample", data.path, data.split), declared=ctx.declared)
    except RowsRefused as refused:
        rows = refused.report.bad or refused.report.refused
        ctx.say(f"{Path(data.path).name}: {'; '.join(list_refused(rows))}", "error")
        raise


def _write(ctx: Context, data: Data, checked: Checked) -> ImportReport:
    taken = checked.report
    with checked.spool:
        _add_checked(ctx, checked)
    names = sorted(checked.categories)
    ctx.write_batches(names, lambda db, some: categories.label(db, {one: checked.categories[one] for one in some}))
    if checked.kept_back:
        with ctx.store.write() as db:
            mark_kept_back(db, checked)
        ctx.say(f"{Path(data.path).name}: {taken.kept_back} texts are kept back from the teachers")
    if taken.refused:
        first, name = taken.refused[0], Path(data.path).name
        ctx.say(f"{name}: {len(taken.refused)} rows refused, the first is row {first.row}: {first.reason}", "warn")
    _tell_words(ctx, data, taken)
    return taken


def _tell_words(ctx: Context, data: Data, taken: ImportReport) -> None:
    """Log how a file was read: its note, unknown label words of a pool, and mapped words that no row has."""
    name = Path(data.path).name
    if taken.note:
        ctx.say(f"{name}: format {taken.format}; {taken.note}")
    for task, words in taken.unknown_labels.items() if data.split == "pool" else ():
        listed = ", ".join(repr(word) for word in list(words)[:5])
        ctx.say(f"{name}: {sum(words.values()):,} rows without their {task} label, unknown: {listed}", "warn")
    if taken.unused_labels:
        ctx.say(f"{name}: no row has the label words {', '.join(map(repr, taken.unused_labels))}", "warn")


def _add_checked(ctx: Context, checked: Checked) -> None:
    _add(ctx, checked.report, checked.batches(), checked.count, lambda db, batch: add(db, [batch], ctx.now()))


def _add(
    ctx: Context,
    taken: ImportReport,
    chunks: Iterable[Sequence[T]],
    total: int,
    add_rows: Callable[[Connection, Sequence[T]], samples.Added],
) -> None:
    """Add rows in transactions of BATCH, count them in `taken`, and report progress."""
    done = 0
    for chunk in chunks:
        for batch in ctx.batches(chunk, BATCH):
            with ctx.store.write() as db:
                taken.count(add_rows(db, batch))
            done += len(batch)
            ctx.progress(done, total)


def check_usable(
    counts: Mapping[str, int],
    labels: Mapping[str, Mapping[str, Mapping[str, int]]],
    needed: Sequence[Split],
    declared: Declaration = DEFAULT,
) -> None:
    """Raise ImportRefused for an empty split that is needed, a dev without labels, or a class missing in seed or dev.

    A seed needs no labels: a teacher gives its verdicts.
    """
    for split in needed:
        if not counts.get(split):
            raise ImportRefused(f"the split {split} has no usable sample: import some, or loosen its filters")
    if not labels.get("dev"):
        raise ImportRefused(
            "no sample of dev has a label, so nothing can be measured: import labeled samples (a text imported "
            "before stays unlabeled: use another --workspace for the same file)"
        )
    _check_words(labels, declared)
    for split in ("seed", "dev"):
        for task, known in labels.get(split, {}).items():
            if task == "request" and len(known) < len(declared.request):
                if len(declared.request) > 2:
                    missing = next(label for label in declared.request if label not in known)
                    raise ImportRefused(f"no request of {split} is labeled {missing}: add some that are")
                only = next(iter(known))
                raise ImportRefused(
                    f"every labeled request of {split} is {only}: nothing can be learned from one class; "
                    "add samples of the other class"
                )


def _check_words(labels: Mapping[str, Mapping[str, Mapping[str, int]]], declared: Declaration) -> None:
    """Raise ImportRefused for labels, imported under another recipe, that this one does not declare."""
    for split, by_task in labels.items():
        for task, words in declared.by_task.items():
            if other := [word for word in by_task.get(task, {}) if word not in words]:
                raise ImportRefused(
                    f"{split} has {by_task[task][other[0]]:,} samples with the {task} label {other[0]!r}, and "
                    f"tasks.{task} has {', '.join(words)}: import with --recipe into another --workspace, or add it"
                )


def _demo(ctx: Context) -> list[dict[str, Any]]:
    refuse_column(ctx.recipe)
    sizes = ctx.recipe.data_demo
    generated = demo_samples(
        random.Random(ctx.seed("demo")), pool=sizes.pool, seed=sizes.seed, dev=sizes.dev, test=sizes.test
    )
    new = []
    for number, one in enumerate(generated, start=1):
        # The loop must not know the pool's labels, and the policy would reveal them.
        known: Mapping[Any, str | None] = {} if one.split == "pool" else one.labels
        labels = {column: known.get(task) for task, column in samples.LABELS.items()}
        policy = None if one.split == "pool" else one.policy
        new.append(
            samples.NewSample(one.split, one.prompt, one.response, "demo", f"demo:{number}", policy=policy, **labels)
        )
    taken = ImportReport(rows=len(new))
    _add(ctx, taken, [new], len(new), lambda db, batch: samples.add(db, batch, ctx.now()))
    named = [(samples.digest_of(samples.kept(*one)), (one.policy,)) for one in new if one.policy is not None]
    ctx.write_batches(named, lambda db, some: categories.label(db, dict(some)))
    return [_counts("demo", taken)]


def _files(ctx: Context) -> list[dict[str, Any]]:
    # A text stays in the first split that it is imported into: measuring splits come before training splits.
    ordered = sorted(ctx.recipe.data, key=lambda data: _MEASURING_FIRST.index(data.split))
    with ExitStack() as spools:
        # Read every file to its end before writing any row: the recipe can still be changed then.
        read = []
        for data in ordered:
            checked = _checked(ctx, data)
            spools.enter_context(checked.spool)
            read.append((data, checked))
        return [_counts(Path(data.path).name, _write(ctx, data, checked)) for data, checked in read]


def _imported(ctx: Context) -> list[dict[str, Any]]:
    """Import nothing: the run uses the samples already in the workspace. Raises ImportRefused."""
    refuse_column(ctx.recipe)
    return []


_SOURCES = {"demo": _demo, "files": _files, "imported": _imported}


def _counts(name: str, taken: ImportReport) -> dict[str, Any]:
    # Not the number of new rows: after a kill only the rest would be new.
    return {"file": name, "rows": taken.rows, "refused": len(taken.refused), "conflicts": taken.conflicts}
