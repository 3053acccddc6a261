"""Measure what choosing pays: average precision by labels for each way of choosing, on five pools and three features.

    python benchmarks/choosing.py cell [POOL [FEATURES [STRATEGY ...]]]   # the next cell, or these
    python benchmarks/choosing.py cells                           # which cells have a result
    python benchmarks/choosing.py states [POOL ...]               # hidden states of SmolLM2, once; resumes
    python benchmarks/choosing.py table                           # label ratios and gains against chance

A cell is ten seeds: each divides the file anew (choosing_pools.py), takes 100 labels at random and then four times 100
that the strategy picks by the night's own code (loop/measures/acquisition.py), with the committee's disagreement where
it asks for it. The learner is one logistic regression on the features, which stands for the guard. The label ratio is
the labels with which choosing reaches the average precision of 500 random ones, over 500; its interval comes from the
seeds (bootstrap), that of the gain at the last labels from Student's t. Cells are appended to choosing_results.jsonl,
which is committed; states are kept in build/choosing.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import choosing_pools
import numpy as np
from choosing_pools import POOLS, Division, Rows
from choosing_strategies import FURTHER, Known
from nights import interval
from scipy.special import expit
from sklearn.metrics import average_precision_score

from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures import committee
from wizloop.loop.measures.acquisition import choose
from wizloop.loop.measures.features import Space
from wizloop.loop.measures.uncertainty import cell as cell_of
from wizloop.loop.phases.vectors import DEPTH
from wizloop.plugins import Candidate

RESULTS = Path(__file__).parent / "choosing_results.jsonl"
KEPT = Path("build/choosing")
FEATURES = ("tfidf", "states", "both")
STRENGTH = {"tfidf": 10.0, "states": 30.0, "both": 10.0}
SEEDS, STEP, MOST = range(10), 100, 500
TOKENS, AT_ONCE = 128, 64
"""Tokens of a rendered prompt that are read, and rows between two looks at the clock."""
MIXES: dict[str, Mapping[str, float]] = {
    "mix": {
        "uncertain_compliance": 0.2, "disagreement": 0.5, "low_confidence": 0.05, "diversity": 0.1, "random": 0.15,
    },
    "former_mix": {
        "uncertain_compliance": 0.35, "disagreement": 0.25, "low_confidence": 0.15, "diversity": 0.1, "random": 0.15,
    },
}  # fmt: skip
STRATEGIES = ("random", "disagreement", *MIXES, *FURTHER, "low_confidence", "uncertain_compliance", "diversity")


@cache
def read(name: str) -> Rows:
    """Read a pool once."""
    return choosing_pools.read(name)


@cache
def divided(name: str, features: str, seed: int) -> tuple[Division, Any]:
    """Return a seed's division, and the features of all rows, of a space fitted on its pool."""
    rows = read(name)
    division = choosing_pools.divide(name, rows, seed)
    texts = None if features == "states" else rows.texts
    if features != "tfidf" and not (KEPT / f"{name}.npy").exists():
        raise SystemExit(f"no hidden states yet: run `python benchmarks/choosing.py states {name}`")
    states = None if features == "tfidf" else np.load(KEPT / f"{name}.npy", mmap_mode="r")
    here = division.pool
    space = Space.fit(
        None if texts is None else [texts[at] for at in here], None if states is None else states[here], seed=0
    )
    return division, space.matrix(texts, states)


def curve(name: str, features: str, strategy: str, rows: Rows, seed: int) -> list[float]:
    """Return the average precision at 100, 200, ... labels."""
    division, X = divided(name, features, seed)
    y, strength = rows.harmful, STRENGTH[features]
    rng = np.random.default_rng(seed)
    pool, labeled, found = division.pool, list(rng.permutation(division.pool)[:STEP]), []
    while True:
        weights, bias = committee.fit_one(X[labeled], y[labeled], strength=strength)
        score = X @ weights + bias
        found.append(average_precision_score(y[division.test], score[division.test], sample_weight=division.weights))
        if len(labeled) + STEP > min(MOST, len(pool)):
            return [float(one) for one in found]
        rest = np.setdiff1d(pool, labeled)
        known = Known(X, y, np.array(labeled), expit(score), strength, seed)
        labeled += pick(strategy, rows, rest, known, rng)


def pick(strategy: str, rows: Rows, rest: np.ndarray, known: Known, rng: np.random.Generator) -> list[int]:
    """Return the next labels' row numbers."""
    shares = MIXES.get(strategy, {strategy: 1.0})
    asked = strategy in MIXES or strategy == "disagreement"
    apart = known.disagreement(rest) if asked else np.zeros(len(rest))
    p = known.p[rest]
    sure = np.abs(2 * p - 1)
    cut = float(np.median(sure))
    candidates = [
        Candidate(int(at), rows.texts[at], float(one), float(s), cell_of(s, one < 0.5, cut), float(d))
        for at, one, s, d in zip(rest, p, sure, apart, strict=True)
    ]
    installed = {name: make(known) for name, make in FURTHER.items() if shares.get(name)}
    picked = choose(candidates, budget=STEP, shares=shares, rng=rng, installed=installed)
    return [one.sample_id for one in picked]


def cell(name: str, features: str, strategy: str, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Measure one cell."""
    begun, rows = time.process_time(), read(name)
    curves = [curve(name, features, strategy, rows, seed) for seed in seeds]
    labels = [STEP * (at + 1) for at in range(len(curves[0]))]
    figures = [[round(one, 4) for one in by] for by in curves]
    seconds = round(time.process_time() - begun, 1)
    return {
        "pool": name, "features": features, "strategy": strategy, "labels": labels, "ap": figures, "seconds": seconds,
    }  # fmt: skip


def results() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the measured cells."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    rows = map(json.loads, lines)
    return {(one["pool"], one["features"], one["strategy"]): one for one in rows}


def every_cell() -> list[tuple[str, str, str]]:
    """Return all cells, those that need no states first."""
    return [(pool, features, way) for features in ("tfidf", "both", "states") for way in STRATEGIES for pool in POOLS]


def labels_needed(chosen: np.ndarray, level: float, labels: Sequence[int]) -> float:
    """Return the labels with which a mean curve reaches a level, interpolated; twice its last if it does not."""
    if chosen[0] >= level:
        return float(labels[0])
    for at in range(1, len(chosen)):
        if chosen[at] >= level:
            share = (level - chosen[at - 1]) / (chosen[at] - chosen[at - 1])
            return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))
    return 2.0 * labels[-1]


def ratio(chosen: np.ndarray, chance: np.ndarray, labels: Sequence[int]) -> tuple[float, float, float]:
    """Return the label ratio of curves by seed with its 95 % interval over seeds."""

    def of(at: np.ndarray) -> float:
        return labels_needed(chosen[at].mean(axis=0), float(chance[at, -1].mean()), labels) / labels[-1]

    rng, n = np.random.default_rng(0), len(chosen)
    drawn = [of(rng.integers(n, size=n)) for _ in range(2000)]
    return of(np.arange(n)), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def table() -> None:
    """Print a line for each cell."""
    known = results()
    print("| features | way of choosing | pool | AP by labels | label ratio (95 %) | minus chance at the last |")
    print("|---|---|---|---|---|---|")
    for pool, features, way in sorted(known, key=every_cell().index):
        one, chance = known[pool, features, way], known.get((pool, features, "random"))
        ap = np.array(one["ap"])
        says = " ".join(f"{value:.3f}" for value in ap.mean(axis=0))
        against = "| - | - |"
        if way != "random" and chance is not None:
            base = np.array(chance["ap"])
            at, low, high = ratio(ap, base, one["labels"])
            gain = (ap - base)[:, -1]
            worst, best = interval(list(gain))
            shown = [f"{one:.2f}" if one <= 1 else "over 1" for one in (at, low, high)]
            against = f"| {shown[0]} ({shown[1]} to {shown[2]}) | {gain.mean():+.3f} ({worst:+.3f} to {best:+.3f}) |"
        print(f"| {features} | {way} | {pool} | {says} {against}")


def states(name: str, minutes: float = 30, base: str | None = None) -> bool:
    """Read the hidden states of a pool's rows until all have theirs or the time is up; return whether all have."""
    file, rows = KEPT / f"{name}.npy", read(name)
    part = file.with_suffix(".part.npy")
    known = [np.load(part)] if part.exists() else []
    asked, begun = None if file.exists() else Asked(base), time.monotonic()
    while asked is not None and (done := sum(map(len, known))) < len(rows.texts):
        if time.monotonic() - begun > 60 * minutes:
            print(f"{name}: {done:,} of {len(rows.texts):,} rows; call it again")
            return False
        here = slice(done, done + AT_ONCE)
        known = [*known, asked.states(rows.prompts[here], rows.responses[here])]
        KEPT.mkdir(parents=True, exist_ok=True)
        np.save(part, np.concatenate(known))
    if asked is not None:
        part.replace(file)
    print(f"{name}: {file} has all {len(rows.texts):,} rows")
    return True


class Asked:
    """The untaught base as a night reads its vectors, without an instruction."""

    def __init__(self, base: str | None) -> None:
        from real import MADE, fetch

        from wizloop.backends import bounded_chat, model_folder
        from wizloop.loop.guard.backend import choose_backend
        from wizloop.loop.guard.rendering import Renderer

        here = MADE / "smollm2"
        self.base = base or str(here if here.is_dir() else model_folder.find(str(fetch())))
        self.renderer = Renderer("", frame=bounded_chat.render(self.base)[:2])
        self.guard = choose_backend("auto", "auto").load(self.base, None, quantise=False)

    def states(self, prompts: Sequence[str], responses: Sequence[str | None]) -> np.ndarray:
        """Return float16 states of shape (rows, 2 * width)."""
        texts = map(InputText, prompts, responses)
        encoded = [self.guard.encode(self.renderer.direct_prompt(one), max_tokens=TOKENS) for one in texts]
        return self.guard.states(encoded, depth=DEPTH).astype(np.float16)


def main() -> None:
    """Do one command."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("command", choices=["cell", "cells", "states", "table"])
    ask.add_argument("names", nargs="*")
    ask.add_argument("--seeds", type=int, default=len(SEEDS))
    ask.add_argument("--minutes", type=float, default=30, help="of reading states")
    given = ask.parse_args()
    does: Mapping[str, Callable[[], None]] = {
        "table": table,
        "cells": lambda: print("\n".join(f"{' '.join(one)} {'done' * (one in results())}" for one in every_cell())),
        "states": lambda: print("done" if all(states(one, given.minutes) for one in given.names or POOLS) else "-"),
        "cell": lambda: _cell(given.names, given.seeds),
    }
    does[given.command]()


def _cell(names: Sequence[str], seeds: int) -> None:
    where, ways = tuple(names[:2]), names[2:] or STRATEGIES
    # Fewer seeds are a try, which is kept nowhere.
    known = results() if seeds == len(SEEDS) else {}
    missing = [one for one in every_cell() if one[: len(where)] == where and one[2] in ways and one not in known]
    for wanted in missing if names else missing[:1]:
        _measure(wanted, seeds)
    if not missing:
        print("every such cell has a result")


def _measure(wanted: tuple[str, str, str], seeds: int) -> None:
    found = cell(*wanted, seeds=range(seeds))
    if seeds == len(SEEDS):
        with RESULTS.open("a") as out:
            out.write(json.dumps(found) + "\n")
    print(json.dumps({**found, "ap": np.round(np.mean(found["ap"], axis=0), 3).tolist()}), flush=True)


if __name__ == "__main__":
    main()
