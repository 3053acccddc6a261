"""The samples that a run would have, looked at before it begins: each file read to its end, and nothing kept of it.

A dataset of the hub is not asked for: of it is known only what the recipe says.
"""

import random
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wizloop.loop.context import seed_of
from wizloop.loop.data import hub
from wizloop.loop.data.import_file import bad_rows
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import refuse_hidden, stream_samples
from wizloop.loop.data.sample_rows import Refused, SampleRow
from wizloop.loop.phases.import_samples import check_usable
from wizloop.loop.stored_samples import usable
from wizloop.loop.words import LABELS, TASKS, Task
from wizloop.recipes.demo_text import demo_samples
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data, Split
from wizloop.store import samples
from wizloop.store.db import Store

SPLITS: tuple[Split, ...] = ("pool", "seed", "dev", "test")
_BYTES_OF_A_CHARACTER = 4
"""In UTF-8, at most."""


class _Text(Protocol):
    @property
    def prompt(self) -> str: ...

    @property
    def response(self) -> str | None: ...


@dataclass
class Source:
    """One place that samples come from, for one split."""

    name: str
    split: Split
    ok: bool
    found: str
    """What it is, or why it cannot be used."""
    rows: int | None = None
    """How many it gives at most: a text that is there twice counts twice. None: not known before it is asked for."""
    sizes: "array[int] | None" = None
    """UTF-8 bytes of each text that may be taken, prompt and response together; None where they are not known."""
    labels: Mapping[Task, Mapping[str, int]] | None = None
    """How often each label is given; None where that is not known."""
    usual: "Usual | None" = None
    """What its texts are like; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The mean text of a source."""

    text_bytes: float
    """In UTF-8, prompt and response together."""
    pairs: float
    """The share of texts that have a response."""


def sources(recipe: Recipe, store: Store | None) -> list[Source]:
    """Every source of the recipe, in its order. `store` is the workspace's, where there is one."""
    if recipe.source == "demo":
        return _demo(recipe)
    if recipe.source == "imported":
        return _imported(store)
    return [_of_hub(data) if hub.is_remote(data) else _of_file(data) for data in recipe.data]


def rows_of(found: Iterable[Source], split: Split) -> int | None:
    """The samples of a split at most, or None where one of its sources does not tell."""
    rows = [one.rows for one in found if one.split == split]
    return None if any(n is None for n in rows) else sum(n for n in rows if n is not None)


def sizes_of(found: Iterable[Source], split: Split) -> list[int] | None:
    """The bytes of every text that may be in a split, largest first, or None where one of its sources does not tell."""
    sizes = [one.sizes for one in found if one.split == split]
    if any(each is None for each in sizes):
        return None
    return sorted((size for each in sizes if each is not None for size in each), reverse=True)


def usual_of(found: Iterable[Source], split: Split) -> Usual | None:
    """The mean text of a split, or None where one of its sources does not tell."""
    own = [one for one in found if one.split == split and one.rows != 0]
    rows = sum(one.rows or 0 for one in own)
    if any(one.usual is None or one.rows is None for one in own):
        return None
    told = [(one.usual, (one.rows or 0) / rows) for one in own if one.usual is not None]
    return Usual(sum(u.text_bytes * part for u, part in told), sum(u.pairs * part for u, part in told))


def mean_text(texts: Sequence[_Text]) -> Usual | None:
    """The mean of some texts; None of none."""
    return _mean(array("q", map(_size, texts)), sum(one.response is not None for one in texts))


def fault(found: Iterable[Source]) -> str | None:
    """Why no run could be made of what these sources give together, as far as it is known; or None."""
    whole = list(found)
    known = [split for split in SPLITS if rows_of(whole, split) is not None and all(s.ok for s in whole)]
    counts: dict[str, int] = {split: rows_of(whole, split) or 0 if split in known else 1 for split in SPLITS}
    labels: dict[str, dict[str, dict[str, int]]] = {
        split: _labels([one for one in whole if one.split == split], split in known) for split in SPLITS
    }
    try:
        check_usable(counts, labels)
    except ImportRefused as refused:
        return str(refused)
    return None


def _of_file(data: Data) -> Source:
    try:
        stream = stream_samples(data)
        sizes, labels, refused, pairs = _counted(stream.rows)
    except ImportRefused as error:
        return Source(data.path, data.split, False, str(error), 0, array("q"))
    if not sizes:
        why = f": the first reason is in row {refused[0].row}: {refused[0].reason}" if refused else ""
        return Source(data.path, data.split, False, f"no row can be used for {data.split}{why}", 0, array("q"))
    if not data.skip_bad and (bad := [row for row in refused if row.bad]):
        why = bad_rows(data.path, bad, len(sizes) + len(refused))
        return Source(data.path, data.split, False, why, 0, array("q"))
    rows = len(sizes) if data.sample is None else min(data.sample, len(sizes))
    drawn = "" if rows == len(sizes) else f"{rows:,} drawn of "
    left = f"; {len(refused):,} refused, the first is row {refused[0].row}: {refused[0].reason}" if refused else ""
    found = f"{stream.format}, {drawn}{len(sizes):,} rows for {data.split}{left}"
    return Source(data.path, data.split, True, found, rows, sizes, labels, _mean(sizes, pairs))


def _of_hub(data: Data) -> Source:
    try:
        refuse_hidden(data)
    except ImportRefused as error:
        return Source(data.path, data.split, False, str(error), 0, array("q"))
    rows = data.sample or data.limit
    sizes = usual = None
    if rows is not None and data.max_chars is not None:
        sizes = array("q", [data.max_chars * _BYTES_OF_A_CHARACTER]) * rows
        # Nobody has read it: halfway between what its texts may be. The instruction and the answer cost far more.
        usual = Usual(data.max_chars / 2, 0.0 if data.prompts_only else 0.5)
    most = "as many rows as it has" if rows is None else f"{rows:,} rows at most"
    found = f"the hub's split {data.hub_split}, read over the network at the first start: {most} for {data.split}"
    return Source(data.path, data.split, True, found, rows, sizes, usual=usual)


def _demo(recipe: Recipe) -> list[Source]:
    sizes = recipe.data_demo
    rng = random.Random(seed_of(recipe.seed, 0, "import", "demo"))
    made = demo_samples(rng, pool=sizes.pool, seed=sizes.seed, dev=sizes.dev, test=sizes.test)
    return [_demo_split(split, [one for one in made if one.split == split]) for split in SPLITS]


def _demo_split(split: Split, made: Sequence[_Text]) -> Source:
    sizes = array("q", map(_size, made))
    said = f"{len(made):,} samples for {split}, made from the seed"
    return Source("demo", split, True, said, len(made), sizes, usual=mean_text(made))


def _imported(store: Store | None) -> list[Source]:
    found = []
    for split in SPLITS:
        sizes, pairs = array("q"), 0
        for one in [] if store is None else usable(store, split):
            sizes.append(_size(one))
            pairs += one.response is not None
        labels: Mapping[Task, Mapping[str, int]] = {}
        if store is not None:
            with store.read() as db:
                given = samples.label_counts(db).get(split, {})
            labels = {task: given[task] for task in TASKS if task in given}
        said = f"{len(sizes):,} samples for {split}, imported before"
        found.append(Source("the workspace", split, True, said, len(sizes), sizes, labels, _mean(sizes, pairs)))
    return found


def _counted(
    rows: Iterable[SampleRow | Refused],
) -> tuple["array[int]", Mapping[Task, Mapping[str, int]], list[Refused], int]:
    """The sizes, the labels, what was refused, and how many have a response."""
    sizes, refused, pairs = array("q"), list[Refused](), 0
    labels: dict[Task, Counter[str]] = {}
    for row in rows:
        if isinstance(row, Refused):
            refused.append(row)
            continue
        sizes.append(_size(row))
        pairs += row.response is not None
        for task, label in row.labels.items():
            labels.setdefault(task, Counter())[label] += 1
    return sizes, labels, refused, pairs


def _mean(sizes: "array[int]", pairs: int) -> Usual | None:
    return Usual(sum(sizes) / len(sizes), pairs / len(sizes)) if sizes else None


def _labels(found: Sequence[Source], known: bool) -> dict[str, dict[str, int]]:
    """The labels of all these sources; where one does not tell, as if every label were there."""
    if not known or any(one.labels is None for one in found):
        return {task: dict.fromkeys(words, 1) for task, words in LABELS.items()}
    together: dict[str, Counter[str]] = {}
    for one in found:
        for task, counts in (one.labels or {}).items():
            together.setdefault(task, Counter()).update(counts)
    return {task: dict(counts) for task, counts in together.items()}


def _size(text: _Text) -> int:
    return len(text.prompt.encode("utf-8", "surrogatepass")) + len(
        (text.response or "").encode("utf-8", "surrogatepass")
    )
