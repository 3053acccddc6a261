"""Measure how often the gate is wrong: on simulated nights, and on stored predictions of real guards.

    python benchmarks/gate.py simulated [--nights 400]
    python benchmarks/gate.py stored [--night WORKSPACE ...] [--draws 200]

`simulated`: every challenger of a night is truly worse by what its gates can exclude; prints the share of nights that
end on one. `stored`: pairs of guards of which the second is better on the whole set; prints the share of dev-sized
draws on which the gate holds it, and what it can exclude against what it meets. The recorded outputs are those of
../shared/data; a workspace adds the guards of its rounds, on dev and test together.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.evaluation import recorded_predictions
from wizloop.loop.measures import gate_bound as bounds
from wizloop.loop.measures.promotion import Candidate, Decision, LabeledVerdicts, decide
from wizloop.loop.words import LABELS, Task
from wizloop.store import models, predictions, samples
from wizloop.store.db import Store

RECORDED = Path(__file__).parents[1].parent / "shared" / "data" / "recorded"
SETS: Sequence[tuple[str, Task]] = (
    ("AegisSafetyTest", "request"),
    ("SimpleSafetyTests", "request"),
    ("HarmBenchResponse", "response"),
)
MARGIN, GATES, RESAMPLES = 0.01, 4, 400
Rows = Mapping[str, Mapping[Task, tuple[str, str | None]]]
"""By row, label and verdict of each task."""


@dataclass(frozen=True)
class Pair:
    """Two guards on the same rows; the second is the challenger."""

    name: str
    before: Rows
    after: Rows

    def of(self, keys: Sequence[str]) -> tuple[Candidate, Candidate]:
        """Return both on drawn rows; a row that is drawn twice is two rows of one prompt."""
        return _candidate(self.before, keys), _candidate(self.after, keys)


def recorded() -> Iterator[Pair]:
    """Yield every ordered pair of the recorded guards that differ in size."""
    guards = {f"{run}{size}": _recorded(run, size) for run in ("", "earlier_run/") for size in ("1B", "3B", "8B")}
    for (one, first), (other, second) in itertools.permutations(guards.items(), 2):
        if one[-2:] != other[-2:]:
            yield Pair(f"{one} to {other}", first, second)


def _recorded(run: str, size: str) -> Rows:
    found: dict[str, dict[Task, tuple[str, str | None]]] = {}
    for benchmark, task in SETS:
        path = RECORDED / run / size / benchmark / "generated_predictions.jsonl.gz"
        for one in recorded_predictions.read(path, task).answered:
            found[f"{benchmark} {one.row}"] = {task: (str(one.labels[task]), one.verdict[task])}
    return found


def of_night(folder: Path) -> Iterator[Pair]:
    """Yield every ordered pair of the base and the challengers of a night, on dev and test."""
    with Store.open(folder, readonly=True) as store, store.read() as db:
        every = {one.id: one for split in ("dev", "test") for one in samples.page(db, split, 0, 100_000)}
        named = [models.by_name(db, name) for name in ("base", *(f"r{number:02d}" for number in range(100)))]
        guards = {}
        for model in (one for one in named if one is not None):
            found = [one for split in ("dev", "test") for one in predictions.of_model(db, model.id, split)]
            guards[model.name] = {
                str(one.sample_id): {
                    task: (label, one.verdict.get(task))
                    for task, label in every[one.sample_id].labels.items()
                    if task in LABELS
                }
                for one in found
            }
    for (one, first), (other, second) in itertools.permutations(guards.items(), 2):
        if not (shared := first.keys() & second.keys()):
            continue
        yield Pair(
            f"{folder.name}: {one} to {other}",
            {key: first[key] for key in sorted(shared)},  # type: ignore[misc]
            {key: second[key] for key in sorted(shared)},  # type: ignore[misc]
        )


def _candidate(rows: Rows, keys: Sequence[str]) -> Candidate:
    verdicts = {}
    for task in LABELS:
        at = [(n, key, *rows[key][task]) for n, key in enumerate(keys) if task in rows[key]]
        if at:
            ids, prompts, labels, said = zip(*at, strict=True)
            verdicts[task] = LabeledVerdicts(
                ids, labels, said, [f"{key} {n}" for n, key in zip(ids, prompts, strict=True)]
            )
    return Candidate(verdicts)


def classes(candidate: Candidate) -> list[tuple[int, int]]:
    """Return (positive, negative) labels by task."""
    return [
        (sum(label == LABELS[task][0] for label in one.labels), sum(label != LABELS[task][0] for label in one.labels))
        for task, one in candidate.verdicts.items()
    ]


def judged(pair: Pair, keys: Sequence[str], rng: np.random.Generator) -> tuple[Decision, bounds.GateBound]:
    """Return the gate's decision on drawn rows, and the bound that `prepare` would have kept for them."""
    before, after = pair.of(keys)
    bound = bounds.gate_bound(classes(after), len(keys), GATES)
    assert bound is not None
    limits: dict[str, Any] = {"margin": MARGIN, "max_unparsable": 1.0, "max_over_refusal_rise": 1.0}
    return decide(before, after, rng=rng, bound=bound, resamples=RESAMPLES, **limits), bound


def measured(pair: Pair, size: int, draws: int, rng: np.random.Generator) -> dict[str, Any] | None:
    """Return the figures of one pair at one size of dev; None if the second guard is not truly better."""
    keys = list(pair.after)
    whole = decide(*pair.of(keys), margin=1.0, max_unparsable=1.0, max_over_refusal_rise=1.0, rng=rng, resamples=2)
    gain = whole.differences["macro_f1"].difference
    if gain is None or gain <= 0:
        return None
    found = [judged(pair, [keys[int(at)] for at in rng.integers(0, len(keys), size)], rng) for _ in range(draws)]
    seen = np.array([one.differences["macro_f1"].difference for one, _ in found], dtype=np.float64)
    passed = np.array([one.passed for one, _ in found])
    lowest = np.array([one.lower for one, _ in found], dtype=np.float64)
    wide = np.array([max(MARGIN, bound.loss) for _, bound in found])
    return {
        "pair": pair.name,
        "dev": size,
        "gain": gain,
        "apart": apart(pair),
        "held": float((~passed).mean()),
        "held_worse": float((seen < -MARGIN).mean()),
        "held_untold": float(((seen >= -MARGIN) & (lowest <= -wide)).mean()),
        "bound": float(np.mean([bound.loss for _, bound in found])),
        "error": float(seen.std()),
        "error_assumed": float(np.mean([bound.loss for _, bound in found])) / factor(),
        **together([one for one, _ in found]),
    }


def together(found: Sequence[Decision]) -> dict[str, float]:
    """Return what the tasks' own errors make together, if they were independent and if they were one."""
    tasks = [name for name in found[0].differences if name.startswith("macro_f1.")]
    own = [np.nanstd([one.differences[task].difference or 0.0 for one in found]) for task in tasks]
    return {"independent": float(np.sqrt(np.sum(np.square(own))) / len(own)), "as_one": float(np.mean(own))}


def factor() -> float:
    """Return how many standard errors a bound is."""
    from scipy.stats import norm

    return float(norm.ppf(1 - bounds.NIGHT_LEVEL / GATES) + norm.ppf(bounds.POWER))


def apart(pair: Pair) -> dict[str, float]:
    """Return the share of rows on which one of two guards alone is right, by task."""
    found: dict[str, list[bool]] = {}
    for key, by_task in pair.after.items():
        for task, (label, verdict) in by_task.items():
            found.setdefault(task, []).append((verdict == label) != (pair.before[key][task][1] == label))
    return {task: float(np.mean(each)) for task, each in found.items()}


def stored(nights: Sequence[Path], draws: int, sizes: Sequence[int]) -> None:
    """Print the pairs in which the second guard is truly better, and their means."""
    pairs = [*(recorded() if RECORDED.is_dir() else ()), *(pair for night in nights for pair in of_night(night))]
    rng = np.random.default_rng(20)
    for size in sizes:
        rows = [row for pair in pairs if (row := measured(pair, size, draws, rng)) is not None]
        print(f"\ndev of {size}: {len(rows)} pairs\n")
        print(
            "| pair | truly better by | apart | held | measured worse | cannot be told | D | error | assumed | "
            "tasks independent | tasks as one |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for row in sorted(rows, key=lambda one: -one["gain"]):
            print(line(row))
        for name, least in (("all", 0.0), ("better by a point or more", 0.01), ("by three or more", 0.03)):
            if some := [row["held"] for row in rows if row["gain"] >= least]:
                mean, most = 100 * float(np.mean(some)), 100 * max(some)
                print(f"\n{name}: {len(some)} pairs, held {mean:.1f} %, at most {most:.1f} %")


def line(row: Mapping[str, Any]) -> str:
    """Return a row of the table; shares in percent, the rest in points of macro-F1."""
    shares = ", ".join(f"{100 * share:.0f}" for share in row["apart"].values())
    names = ("held", "held_worse", "held_untold", "bound", "error", "error_assumed", "independent", "as_one")
    figures = " | ".join(f"{100 * row[name]:.1f}" for name in names)
    return f"| {row['pair']} | {100 * row['gain']:.1f} | {shares} | {figures} |"


def simulated(nights: int, sizes: Sequence[int]) -> None:
    """Print the share of simulated nights that end on a challenger, all of which are worse by max(margin, D)."""
    from scipy.stats import beta

    print("| dev prompts | tasks | D | nights that end on one | 95 % interval |\n|---|---|---|---|---|")
    rng = np.random.default_rng(21)
    for size, further in itertools.product(sizes, (0, 2)):
        # A quarter of the prompts has a response, and so two more tasks.
        counted = [(size // 2, size - size // 2)] + [(size // 8, size // 8)] * further
        bound = bounds.gate_bound(counted, size, GATES)
        assert bound is not None
        loss = max(MARGIN, bound.loss)
        ended = sum(any(passes(counted, loss, bound, rng) for _ in range(GATES)) for _ in range(nights))
        low = 0.0 if not ended else float(beta.ppf(0.025, ended, nights - ended + 1))
        high = float(beta.ppf(0.975, ended + 1, nights - ended))
        print(
            f"| {size} | {len(counted)} | {100 * bound.loss:.1f} | {ended} of {nights} ({100 * ended / nights:.1f} %) "
            f"| {100 * low:.1f} to {100 * high:.1f} |",
            flush=True,
        )


def passes(counted: Sequence[tuple[int, int]], loss: float, bound: bounds.GateBound, rng: np.random.Generator) -> bool:
    """Return whether a challenger passes that is truly worse by `loss` on each task."""
    both: tuple[dict[Task, LabeledVerdicts], dict[Task, LabeledVerdicts]] = ({}, {})
    for task, (positive, negative) in zip(("request", "completion", "response"), counted, strict=False):
        labels = [LABELS[task][0]] * positive + [LABELS[task][1]] * negative
        for verdicts, right in zip(both, _right(len(labels), loss, rng), strict=True):
            said = [
                label if ok else next(other for other in LABELS[task] if other != label)
                for label, ok in zip(labels, right, strict=True)
            ]
            verdicts[task] = LabeledVerdicts(range(len(labels)), labels, said, [str(row) for row in range(len(labels))])
    limits: dict[str, Any] = {"margin": MARGIN, "max_unparsable": 1.0, "max_over_refusal_rise": 1.0}
    return decide(Candidate(both[0]), Candidate(both[1]), rng=rng, bound=bound, resamples=RESAMPLES, **limits).passed


def _right(size: int, loss: float, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw which rows each of two guards has right; the second is worse by `loss` in accuracy, as in macro-F1."""
    share = max(bounds.APART, 1.2 * loss)
    split = [bounds.RIGHT - share / 2, (share + loss) / 2, (share - loss) / 2, 1 - bounds.RIGHT - share / 2]
    kind = rng.choice(4, size=size, p=np.clip(split, 0, None) / np.clip(split, 0, None).sum())
    return np.isin(kind, (0, 1)), np.isin(kind, (0, 2))


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["simulated", "stored"])
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--night", type=Path, action="append", default=[])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[120, 260, 420])
    asked = parser.parse_args()
    if asked.part == "simulated":
        simulated(asked.nights, asked.sizes)
    else:
        stored(asked.night, asked.draws, asked.sizes)


if __name__ == "__main__":
    main()
