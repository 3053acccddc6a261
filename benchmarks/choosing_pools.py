"""The pools on which ways of choosing are compared: three where harmful is rare and two where it is not.

A pool and its measured rows come from one file (ToxicChat: from its train and its test file), divided anew for each
seed by prompt: an interval over seeds holds the luck of the division too. Where the file has too many harmful rows
they are thinned in the pool, and the measured ones, thinned ones included, weigh as little.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.data.sample_rows import SampleRow
from wizloop.loop.data.similarity import normalize
from wizloop.recipes.sections import Data

DATA = Path("../shared/data")


@dataclass(frozen=True)
class Source:
    """Where a pool comes from."""

    file: str
    test_file: str | None = None
    task: str = "request"
    share: float = 0.5
    """Share of the file's prompts in the pool."""
    harmful: float | None = None
    """Share of the pool that is harmful after thinning; None thins nothing."""
    max_chars: int | None = None


POOLS = {
    "toxicchat": Source("toxicchat/toxic_chat_train.json.gz", "toxicchat/toxic_chat_test.json.gz", max_chars=200),
    "guardreasoner_5k": Source("wizard101/evaluation_guardreasoner_test_5k.json.gz", harmful=0.05),
    "openai_moderation": Source("openai_moderation/samples-1680.jsonl", share=0.8, harmful=0.05),
    "wildguardtest": Source("wildguardtest/wildguardtest.csv.gz", share=0.7),
    "beaver_tails": Source("guardreasoner_benchmark/0_A_beaver_tails.json.gz", task="response"),
}  # fmt: skip
RARE = tuple(POOLS)[:3]


@dataclass(frozen=True)
class Rows:
    """All rows of a source, pool and measured ones."""

    texts: Sequence[str]
    prompts: Sequence[str]
    responses: Sequence[str | None]
    harmful: np.ndarray
    groups: Sequence[str]
    """Normalized prompt: rows of one are never divided."""
    of_test_file: np.ndarray


@dataclass(frozen=True)
class Division:
    """Row numbers of one seed's pool and measured rows, and what each measured row weighs."""

    pool: np.ndarray
    test: np.ndarray
    weights: np.ndarray


def read(name: str) -> Rows:
    """Read a pool's source."""
    source = POOLS[name]
    parts = [_rows(source, source.file, source.max_chars)]
    if source.test_file:
        measured = _rows(source, source.test_file, None)
        known = {normalize(row.prompt) for row in measured}
        parts = [[row for row in parts[0] if normalize(row.prompt) not in known], measured]
    rows = [row for part in parts for row in part]
    texts = [row.prompt if row.response is None else f"{row.prompt}\n{row.response}" for row in rows]
    labels = [row.labels[source.task] == "harmful" for row in rows]
    return Rows(
        texts,
        [row.prompt for row in rows],
        [row.response for row in rows],
        np.array(labels),
        [normalize(row.prompt) for row in rows],
        np.arange(len(rows)) >= len(parts[0]) if source.test_file else np.zeros(len(rows), dtype=bool),
    )


def divide(name: str, rows: Rows, seed: int) -> Division:
    """Divide the rows for a seed."""
    source, rng = POOLS[name], np.random.default_rng(seed)
    if source.test_file:
        test, pool = np.flatnonzero(rows.of_test_file), np.flatnonzero(~rows.of_test_file)
    else:
        inside = np.array([_part(f"{seed}{group}") < source.share for group in rows.groups])
        test, pool = np.flatnonzero(~inside), np.flatnonzero(inside)
    if source.harmful is not None:
        harmful, rest = pool[rows.harmful[pool]], pool[~rows.harmful[pool]]
        kept = rng.permutation(harmful)[: round(len(rest) * source.harmful / (1 - source.harmful))]
        pool = np.sort(np.concatenate([rest, kept]))
        # What thinning left out is measured too: few harmful rows make few figures.
        known = {rows.groups[at] for at in pool}
        test = np.array([at for at in range(len(rows.groups)) if rows.groups[at] not in known])
    weights, share = np.ones(len(test)), rows.harmful[pool].mean()
    if source.harmful is not None:
        measured = rows.harmful[test].mean()
        weights[rows.harmful[test]] = share / (1 - share) * (1 - measured) / measured
    return Division(pool, test, weights)


def _rows(source: Source, file: str, max_chars: int | None) -> list[SampleRow]:
    alone = source.task == "request"
    found = read_samples(Data(path=str(DATA / file), split="dev", max_chars=max_chars, prompts_only=alone)).rows
    return [row for row in found if row.labels.get(source.task)]


def _part(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8
