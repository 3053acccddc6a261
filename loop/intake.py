"""Phase import: samples into the store, from the demo or from files, and out of use again where they leak.

Reading a file is `importing`'s; what is kept is the store's. Adding the same rows again changes nothing.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wizloop.loop.containers import ImportRefused
from wizloop.loop.context import Context
from wizloop.loop.importing import Refused, SampleRow, Split, Where, read_samples
from wizloop.loop.leakage import overlaps
from wizloop.loop.pages import usable
from wizloop.loop.words import LABELS
from wizloop.recipes.demo_text import demo_samples
from wizloop.recipes.sections import Data
from wizloop.store import samples, steps

PIECE = 250
"""Rows in a transaction."""
NEAR = 0.8
"""Jaccard of word 3-shingles from which a prompt repeats one of dev or test."""
_MEASURING_FIRST: tuple[Split, ...] = ("test", "dev", "seed", "pool")


@dataclass
class Taken:
    """What became of the rows of one file."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    elsewhere: int = 0
    """Of the duplicates, those that were there in another split."""
    refused: list[Refused] = field(default_factory=list)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As `wizloop import --json` prints it."""
        return asdict(self)


def run(ctx: Context) -> str:
    """Bring every sample of the recipe in, take out what leaks, and check that a run can be made of what is left.

    Raises ImportRefused, which names the file or split and says what to do.
    """
    taken = _demo(ctx) if ctx.recipe.source == "demo" else _files(ctx)
    excluded = exclude_leaks(ctx)
    with ctx.store.read() as db:
        counts, labels = samples.counts(db), samples.label_counts(db)
    check_usable(counts, labels)
    record = {"samples": counts, "leaks_excluded": excluded, "files": taken}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, record)
    told = ", ".join(f"{split} {n:,}" for split, n in counts.items())
    return f"{told}; {excluded} left out because dev or test holds them" if excluded else told


def import_file(ctx: Context, data: Data) -> Taken:
    """Import one file as a recipe's [[data]] names it. Raises ImportRefused."""
    path = Path(data.path)
    read = read_samples(
        path,
        split=data.split,
        fmt=data.format,
        mapping=data.map or None,
        limit=data.limit,
        hide_labels=data.hide_labels,
        prompts_only=data.prompts_only,
        task=data.task,
        where=Where(data.max_chars, data.half, data.part),
    )
    if not read.rows:
        why = f"; the first reason is in row {read.refused[0].row}: {read.refused[0].reason}" if read.refused else ""
        raise ImportRefused(f"{path}: no row of it can be used for {data.split}{why}")
    rows = _drawn(read.rows, data.sample, ctx.rng("sample", data.path, data.split))
    new = [_new(row, data) for row in rows]
    taken = _add(ctx, new)
    taken.rows, taken.refused = len(read.rows) + len(read.refused), read.refused
    if read.refused:
        first = read.refused[0]
        ctx.say(f"{path.name}: {len(read.refused)} rows refused, the first is row {first.row}: {first.reason}", "warn")
    return taken


def exclude_leaks(ctx: Context) -> int:
    """Take pool and seed samples out of use whose prompt stands, or nearly stands, in dev or test; how many."""
    texts = {split: [(one.id, one.prompt) for one in usable(ctx.store, split)] for split in samples.SPLITS}
    measured = [*texts["dev"], *texts["test"]]
    leaks = overlaps([*texts["pool"], *texts["seed"]], measured, NEAR)
    total = 0
    for piece in ctx.pieces(leaks, PIECE):
        with ctx.store.write() as db:
            for leak in piece:
                how = "repeats" if leak.kind == "exact" else f"nearly repeats ({leak.similarity:.2f})"
                total += samples.exclude(db, [_id(leak.train_id)], f"{how} the held-out sample {leak.measure_id}")
    with ctx.store.write() as db:
        for learned, held in samples.leaked(db, ("pool", "seed"), ("dev", "test")):
            total += samples.exclude(db, [learned], f"repeats the held-out sample {held}")
    return total


def check_usable(counts: Mapping[str, int], labels: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """Raise ImportRefused where no run can be made: an empty split, or a seed or dev that knows one class only."""
    for split in ("pool", "seed", "dev"):
        if not counts.get(split):
            raise ImportRefused(f"the split {split} has no usable sample: import some, or loosen its filters")
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
        known = {} if one.split == "pool" else dict(one.labels)
        policy = None if one.split == "pool" else one.policy
        new.append(_sample(one.split, one.prompt, one.response, "demo", f"demo:{number}", known, policy))
    return [_told("demo", _add(ctx, new))]


def _files(ctx: Context) -> list[dict[str, Any]]:
    # A text is in one split, the first that it comes to: what measures comes before what is learned from.
    ordered = sorted(ctx.recipe.data, key=lambda data: _MEASURING_FIRST.index(data.split))
    return [_told(Path(data.path).name, import_file(ctx, data)) for data in ordered]


def _told(name: str, taken: Taken) -> dict[str, Any]:
    return {"file": name, "rows": taken.rows, "accepted": taken.accepted, "refused": len(taken.refused)}


def _drawn(rows: Sequence[SampleRow], wanted: int | None, rng: np.random.Generator) -> Sequence[SampleRow]:
    """So many different texts by chance, in the file's order; every row where none are asked for."""
    if wanted is None:
        return rows
    texts = {(row.prompt, row.response): row for row in reversed(rows)}
    different = list(reversed(texts.values()))
    return [different[int(at)] for at in np.sort(rng.permutation(len(different))[:wanted])]


def _new(row: SampleRow, data: Data) -> samples.NewSample:
    labels = {} if data.hide_labels else dict(row.labels)
    source = data.benchmark or row.source if data.split == "test" else row.source
    return _sample(data.split, row.prompt, row.response, source, row.row_ref, labels, row.policy)


def _sample(
    split: Split,
    prompt: str,
    response: str | None,
    source: str,
    row_ref: str,
    labels: Mapping[Any, str | None],
    policy: str | None,
) -> samples.NewSample:
    known = {column: labels.get(task) for task, column in samples.LABELS.items()}
    return samples.NewSample(split, prompt, response, source, row_ref, policy=policy, **known)


def _add(ctx: Context, new: Sequence[samples.NewSample]) -> Taken:
    taken = Taken(rows=len(new), labels=_labels(new))
    done = 0
    for piece in ctx.pieces(new, PIECE):
        with ctx.store.write() as db:
            added = samples.add(db, piece, ctx.now())
        taken.accepted += added.added
        taken.duplicates += added.duplicates
        taken.conflicts += added.conflicts
        taken.elsewhere += added.elsewhere
        done += len(piece)
        ctx.between_pieces(done, len(new))
    return taken


def _labels(new: Sequence[samples.NewSample]) -> dict[str, dict[str, int]]:
    counted = {task: Counter(getattr(row, column) for row in new) for task, column in samples.LABELS.items()}
    return {
        task: {label: n for label, n in sorted(known.items(), key=str) if label is not None}
        for task, known in counted.items()
        if any(label is not None for label in known)
    }


def _id(value: Any) -> int:
    return int(value)
