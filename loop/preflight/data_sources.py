"""Sample counts and text sizes of a recipe's data sources, before a run imports them.

Every local file is read to its end, and no row is kept. A hub dataset is not read: its size is what the recipe says.
"""

import random
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wizloop.loop.context import seed_of
from wizloop.loop.data import hub
from wizloop.loop.data.import_file import bad_rows
from wizloop.loop.data.kept_back import refuse_column, with_send
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import refuse_hidden, stream_samples
from wizloop.loop.data.sample_rows import Refused, SampleRow
from wizloop.loop.measures.operating_points import DECIDING
from wizloop.loop.measures.promised_error import rows_needed
from wizloop.loop.phases import must_hold
from wizloop.loop.phases.import_samples import check_usable
from wizloop.loop.stored_samples import usable
from wizloop.loop.words import TASKS, Declaration, Task
from wizloop.recipes.demo_text import demo_samples
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data, Split
from wizloop.store import samples
from wizloop.store.db import Store

SPLITS: tuple[Split, ...] = ("pool", "seed", "dev", "test")
_BYTES_OF_A_CHARACTER = 4
"""Maximum bytes in UTF-8."""

LabelCounts = Mapping[Task, Mapping[str, int]]
"""{task: {label: count}}."""


class _Text(Protocol):
    @property
    def prompt(self) -> str: ...

    @property
    def response(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class MeanText:
    """The mean text of a source."""

    text_bytes: float
    """Bytes in UTF-8, prompt and response together."""
    pairs: float
    """Share of texts that have a response."""


@dataclass
class Source:
    """One place that samples come from, for one split."""

    name: str
    split: Split
    ok: bool
    found: str
    """Description, or the reason why it cannot be used."""
    rows: int | None = 0
    """Maximum number of samples, duplicates included; None if unknown without the network."""
    sizes: "array[int] | None" = field(default_factory=lambda: array("q"))
    """UTF-8 bytes of each text, prompt and response together; None if unknown."""
    labels: LabelCounts | None = None
    """None if unknown."""
    mean: MeanText | None = None
    """None if unknown, or if the source is empty."""


def sources_of(recipe: Recipe, store: Store | None) -> list[Source]:
    """Return the recipe's sources in order, the rows that must hold last; `store` is the workspace's, if it exists."""
    data = must_hold.described(recipe)
    held = [] if data is None else [_must_hold_source(data, Declaration.of(recipe.tasks))]
    return [*_own_sources(recipe, store), *held]


def _own_sources(recipe: Recipe, store: Store | None) -> list[Source]:
    if recipe.source == "files":
        described = [with_send(recipe, data) for data in recipe.data]
        declared = Declaration.of(recipe.tasks)
        return [_hub_source(data) if hub.is_remote(data) else _file_source(data, declared) for data in described]
    try:
        refuse_column(recipe)
    except ImportRefused as error:
        return [Source("teacher.send", "pool", False, str(error))]
    return _demo(recipe) if recipe.source == "demo" else [_imported(split, store) for split in SPLITS]


def rows_of(sources: Iterable[Source], split: Split) -> int | None:
    """Return the maximum number of samples in a split, or None if a source's is unknown."""
    known = [each.rows for each in sources if each.split == split]
    return None if None in known else sum(n for n in known if n is not None)


def sizes_of(sources: Iterable[Source], split: Split) -> list[int] | None:
    """Return the bytes of every text in a split, largest first, or None if a source's are unknown."""
    known = [each.sizes for each in sources if each.split == split]
    if None in known:
        return None
    return sorted((size for sizes in known if sizes is not None for size in sizes), reverse=True)


def mean_of(sources: Iterable[Source], split: Split) -> MeanText | None:
    """Return the mean text of a split, or None if a source's is unknown."""
    own = [(each.mean, each.rows) for each in sources if each.split == split and each.rows != 0]
    known = [(mean, rows) for mean, rows in own if mean is not None and rows is not None]
    if len(known) < len(own):
        return None
    total = sum(rows for _, rows in known)
    shares = [(mean, rows / total) for mean, rows in known]
    return MeanText(sum(m.text_bytes * share for m, share in shares), sum(m.pairs * share for m, share in shares))


def mean_text(texts: Iterable[_Text]) -> MeanText | None:
    """Return the mean of texts, or None if there are none."""
    return _Tally(texts).mean


def fault(sources: Sequence[Source], recipe: Recipe) -> str | None:
    """Return why no run can be made of usable sources together, or None. Unknown counts and labels pass."""
    if not all(each.ok for each in sources):
        return None
    rows, declared = {split: rows_of(sources, split) for split in SPLITS}, Declaration.of(recipe.tasks)
    try:
        check_usable(
            {split: 1 if n is None else n for split, n in rows.items()},
            {split: _labels([each for each in sources if each.split == split], declared) for split in SPLITS},
            [split for split in recipe.needed() if rows[split] or not recipe.may_be_traces(split)],
            declared,
        )
    except ImportRefused as refused:
        return str(refused)
    return None


def lacking_for_a_promise(sources: Sequence[Source], recipe: Recipe) -> list[str]:
    """Return for each task how many harmful dev samples guard.let_through lacks; nothing where labels are unknown."""
    promise, declared = recipe.guard.let_through, Declaration.of(recipe.tasks)
    dev = [each for each in sources if each.split == "dev"]
    if promise is None or any(each.labels is None for each in dev):
        return []
    counts, needed = _labels(dev, declared), rows_needed(promise)
    harmful = {task: counts[task].get(declared.positive(task), 0) for task in DECIDING if task in counts}
    return [
        f"guard.let_through = {promise:g} takes {needed:,} harmful dev samples for the task {task}, and dev has {n:,}: "
        f"{needed - n:,} are missing, and what is not blocked will be deferred"
        for task, n in harmful.items()
        if n < needed
    ]


class _Tally:
    """Sizes, labels and refused rows of a source, read to its end."""

    def __init__(self, rows: Iterable[_Text | Refused]) -> None:
        self.sizes, self.refused, self.pairs = array("q"), list[Refused](), 0
        self.labels: dict[Task, Counter[str]] = {}
        for row in rows:
            if isinstance(row, Refused):
                self.refused.append(row)
                continue
            texts = (row.prompt, row.response or "")
            self.sizes.append(sum(len(text.encode("utf-8", "surrogatepass")) for text in texts))
            self.pairs += row.response is not None
            for task, label in row.labels.items() if isinstance(row, SampleRow) else ():
                self.labels.setdefault(task, Counter())[label] += 1

    @property
    def mean(self) -> MeanText | None:
        n = len(self.sizes)
        return MeanText(sum(self.sizes) / n, self.pairs / n) if n else None


def _file_source(data: Data, declared: Declaration) -> Source:
    try:
        stream = stream_samples(data, declared=declared)
        tally = _Tally(stream.rows)
    except ImportRefused as error:
        return Source(data.path, data.split, False, str(error))
    n, refused = len(tally.sizes), tally.refused
    fault = stream.fault(data, n + len(refused), tally.labels)
    if not n and fault is None:
        why = f": the first reason is in row {refused[0].row}: {refused[0].reason}" if refused else ""
        return Source(data.path, data.split, False, f"no row can be used for {data.split}{why}")
    if not data.skip_bad and (bad := [row for row in refused if row.bad]):
        return Source(data.path, data.split, False, bad_rows(data.path, bad, n + len(refused)))
    if fault is not None:
        return Source(data.path, data.split, False, fault)
    rows = n if data.sample is None else min(data.sample, n)
    sampled = "" if rows == n else f"{rows:,} sampled from "
    others = f"; {len(refused):,} refused, the first is row {refused[0].row}: {refused[0].reason}" if refused else ""
    held = "" if stream.kept_back is None else f"; {len(stream.kept_back.numbers):,} kept back from the teachers"
    found = f"{stream.format}, {sampled}{n:,} rows for {data.split}{held}{others}"
    return Source(data.path, data.split, True, found, rows, tally.sizes, tally.labels, tally.mean)


def _must_hold_source(data: Data, declared: Declaration) -> Source:
    try:
        tally = _Tally(stream_samples(data, declared=declared).rows)
    except ImportRefused as error:
        return Source("gate.must_hold", data.split, False, str(error))
    n, refused = len(tally.sizes), tally.refused
    if fault := must_hold.fault_of(data.path, n, refused[0] if refused else None):
        return Source("gate.must_hold", data.split, False, fault.removeprefix("gate.must_hold: "))
    found = f"{data.path}, {n:,} rows, none of which may flip"
    return Source("gate.must_hold", data.split, True, found, n, tally.sizes, tally.labels, tally.mean)


def _hub_source(data: Data) -> Source:
    try:
        refuse_hidden(data)
    except ImportRefused as error:
        return Source(data.path, data.split, False, str(error))
    rows, sizes, mean = data.sample or data.limit, None, None
    if rows is not None and data.max_chars is not None:
        sizes = array("q", [data.max_chars * _BYTES_OF_A_CHARACTER]) * rows
        # The texts are unknown: assume half the maximum length. The instruction and the answer cost far more.
        mean = MeanText(data.max_chars / 2, 0.0 if data.prompts_only else 0.5)
    most = "all its rows" if rows is None else f"at most {rows:,} rows"
    found = f"the hub's split {data.hub_split}, downloaded at the first start: {most} for {data.split}"
    return Source(data.path, data.split, True, found, rows, sizes, mean=mean)


def _demo(recipe: Recipe) -> list[Source]:
    sizes = recipe.data_demo
    rng = random.Random(seed_of(recipe.seed, 0, "import", "demo"))
    generated = demo_samples(rng, pool=sizes.pool, seed=sizes.seed, dev=sizes.dev, test=sizes.test)
    found = []
    for split in SPLITS:
        own = [one for one in generated if one.split == split]
        labels = {task: Counter(str(one.labels[task]) for one in own if one.labels[task] is not None) for task in TASKS}
        found.append(_whole("demo", split, _Tally(own), "generated from the seed", labels))
    return found


def _imported(split: Split, store: Store | None) -> Source:
    if store is None:
        return Source("the workspace", split, True, f"no samples for {split} imported", labels={})
    with store.read() as db:
        known = samples.label_counts(db).get(split, {})
    labels = {task: known[task] for task in TASKS if task in known}
    return _whole("the workspace", split, _Tally(usable(store, split)), "imported", labels)


def _whole(name: str, split: Split, tally: _Tally, origin: str, labels: LabelCounts | None) -> Source:
    n = len(tally.sizes)
    return Source(name, split, True, f"{n:,} samples for {split}, {origin}", n, tally.sizes, labels, tally.mean)


def _labels(sources: Sequence[Source], declared: Declaration) -> dict[str, dict[str, int]]:
    """Add up the sources' labels; if one's are unknown, return every label once."""
    if any(each.labels is None for each in sources):
        return {task: dict.fromkeys(words, 1) for task, words in declared.by_task.items()}
    total: dict[str, Counter[str]] = {}
    for each in sources:
        for task, counts in (each.labels or {}).items():
            total.setdefault(task, Counter()).update(counts)
    return {task: dict(counts) for task, counts in total.items()}
