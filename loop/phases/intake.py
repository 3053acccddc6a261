"""Phase import: samples into the store, from the demo or from files, and out of use again where they leak.

Reading a file is `import_file`'s; what is kept is the store's. Adding the same rows again changes nothing.
"""

import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.data.import_file import Checked, ImportReport, RowsRefused, add, check, list_refused
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard.backend import export_fault
from wizloop.loop.words import LABELS
from wizloop.recipes.demo_text import demo_samples
from wizloop.recipes.sections import Data, Split
from wizloop.store import leaks as leak_rows
from wizloop.store import samples, steps

PIECE = 250
"""Rows in a transaction: a night's writers hold each other up for some milliseconds at most."""
_MEASURING_FIRST: tuple[Split, ...] = ("test", "dev", "seed", "pool")


def run(ctx: Context) -> str:
    """Bring every sample of the recipe in, take out what leaks, and check that a run can be made of what is left.

    Raises ImportRefused, which names the file, split or key and says what to do, and BackendError.
    """
    # The export would find out after the training; here nothing has come in, and the recipe may still be mended.
    if why := export_fault(ctx.backend, ctx.recipe.export.formats):
        raise ImportRefused(f"export.formats: {why}")
    taken = _SOURCES[ctx.recipe.source](ctx)
    leaks.sweep(ctx.store, ctx.now())
    with ctx.store.read() as db:
        counts, labels = samples.counts(db), samples.label_counts(db)
        kept_out = leak_rows.number(db)
    check_usable(counts, labels)
    record = {"samples": counts, "leaks_excluded": kept_out, "files": taken}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, record)
    told = ", ".join(f"{split} {n:,}" for split, n in counts.items())
    return f"{told}; {kept_out} left out because dev or test holds them" if kept_out else told


def import_file(ctx: Context, data: Data) -> ImportReport:
    """Import one file as a recipe's [[data]] names it, a piece at a time. Raises ImportRefused."""
    return _write(ctx, data, _checked(ctx, data))


def _checked(ctx: Context, data: Data) -> Checked:
    try:
        return check(data, ctx.rng("sample", data.path, data.split))
    except RowsRefused as refused:
        rows = refused.report.bad or refused.report.refused
        ctx.say(f"{Path(data.path).name}: {'; '.join(list_refused(rows))}", "error")
        raise


def _write(ctx: Context, data: Data, checked: Checked) -> ImportReport:
    taken, done = checked.report, 0
    with checked.spool:
        for rows in checked.batches():
            for piece in ctx.pieces(rows, PIECE):
                with ctx.store.write() as db:
                    taken.count(add(db, [piece], ctx.now()))
                done += len(piece)
                ctx.between_pieces(done, checked.count)
    if taken.refused:
        first, name = taken.refused[0], Path(data.path).name
        ctx.say(f"{name}: {len(taken.refused)} rows refused, the first is row {first.row}: {first.reason}", "warn")
    return taken


def check_usable(counts: Mapping[str, int], labels: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """Raise ImportRefused where no run can be made: an empty split, a dev without a label, one class in seed or dev.

    A seed needs no label: a teacher gives its verdicts.
    """
    for split in ("pool", "seed", "dev"):
        if not counts.get(split):
            raise ImportRefused(f"the split {split} has no usable sample: import some, or loosen its filters")
    if not labels.get("dev"):
        raise ImportRefused(
            "no sample of dev has a label, and nothing can be measured without: import labelled ones (a text that is "
            "there already stays without: take another --workspace for the same file)"
        )
    for split in ("seed", "dev"):
        for task, known in labels.get(split, {}).items():
            if task == "request" and len(known) < len(LABELS["request"]):
                only = next(iter(known))
                raise ImportRefused(
                    f"every labelled request of {split} is {only}: nothing can be learned from one class; "
                    "add samples of the other one"
                )


def _demo(ctx: Context) -> list[dict[str, Any]]:
    sizes = ctx.recipe.data_demo
    made = demo_samples(
        random.Random(ctx.seed("demo")), pool=sizes.pool, seed=sizes.seed, dev=sizes.dev, test=sizes.test
    )
    new = []
    for number, one in enumerate(made, start=1):
        # The pool's labels are not known to the loop, and its policy would tell.
        known: Mapping[Any, str | None] = {} if one.split == "pool" else one.labels
        labels = {column: known.get(task) for task, column in samples.LABELS.items()}
        policy = None if one.split == "pool" else one.policy
        new.append(
            samples.NewSample(one.split, one.prompt, one.response, "demo", f"demo:{number}", policy=policy, **labels)
        )
    taken, done = ImportReport(rows=len(new)), 0
    for piece in ctx.pieces(new, PIECE):
        with ctx.store.write() as db:
            taken.count(samples.add(db, piece, ctx.now()))
        done += len(piece)
        ctx.between_pieces(done, len(new))
    return [_told("demo", taken)]


def _files(ctx: Context) -> list[dict[str, Any]]:
    # A text is in one split, the first that it comes to: what measures comes before what is learned from.
    ordered = sorted(ctx.recipe.data, key=lambda data: _MEASURING_FIRST.index(data.split))
    with ExitStack() as spools:
        # Every file is read to its end before the first row of any is written: a recipe may still be mended then.
        read = []
        for data in ordered:
            checked = _checked(ctx, data)
            spools.enter_context(checked.spool)
            read.append((data, checked))
        return [_told(Path(data.path).name, _write(ctx, data, checked)) for data, checked in read]


def _imported(ctx: Context) -> list[dict[str, Any]]:
    """What the workspace holds is the run's, and nothing comes in besides."""
    return []


_SOURCES = {"demo": _demo, "files": _files, "imported": _imported}


def _told(name: str, taken: ImportReport) -> dict[str, Any]:
    # Not what came in now: after a kill in the middle the rest alone is new.
    return {"file": name, "rows": taken.rows, "refused": len(taken.refused), "conflicts": taken.conflicts}
