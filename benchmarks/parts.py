"""Measure each part of the loop: the demo as shipped, and the demo with one part changed, as a table.

    python benchmarks/parts.py [--part "as shipped"] [--seeds 7] [--at-once 1] [--keep DIR [--read]] [--changes TOML]

Prints request F1 on test by round, with completion F1 in brackets, in percent; a round that the gate held is marked.
For several seeds it adds means and the advantage of the demo as shipped, with intervals (Student's t). A night
takes six to eight minutes on two cores. An existing workspace (--keep) is resumed.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nights import RANDOM, add_options, asked, challenger, interval

from wizloop.store import evaluations, steps
from wizloop.store.db import Store

PARTS: dict[str, Mapping[str, Any]] = {
    "as shipped": {},
    "every sample chosen at random": {"select": {"shares": RANDOM}},
    "without HS-DPO": {"dpo": {"enabled": False}},
    "training goes on from the champion": {"train": {"start": "champion"}},
}


@dataclass(frozen=True)
class Cell:
    """F1 on test of one round's challenger, in percent."""

    request: float | None
    completion: float | None
    passed: bool

    def __str__(self) -> str:
        request, completion = ("-" if each is None else f"{each:.1f}" for each in (self.request, self.completion))
        return f"{request} ({completion})" + ("" if self.passed else ", held")


def cells(workspace: Path) -> list[Cell]:
    """Return one cell for each round of a night."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return [_cell(db, each) for each in steps.rounds(db) if challenger(db, each.number) is not None]


def _cell(db: Any, each: steps.Round) -> Cell:
    model = challenger(db, each.number)
    assert model is not None
    f1 = {
        one.task: one.metrics["f1"]
        for one in evaluations.of_model(db, model.id)
        if one.benchmark != "dev" and one.round == each.number
    }
    request, completion = (None if f1.get(task) is None else 100 * f1[task] for task in ("request", "completion"))
    return Cell(request, completion, bool(each.passed))


def over_seeds(found: Mapping[str, Sequence[Sequence[Cell]]]) -> Iterator[str]:
    """Yield the means of each part's nights, and the gain of the demo as shipped over each part.

    Nights of all parts have the same seeds in the same order; gains have a 95 % interval over them (Student's t).
    """
    shipped = found.get("as shipped")
    for name, nights in found.items():
        yield name
        for task in ("request", "completion"):
            of = partial(_f1, task)
            means = [f"{statistics.mean(map(of, cells)):.1f}" for cells in zip(*nights, strict=True)]
            champions = [of(_champion(night)) for night in nights]
            yield f"  {task} by round {' '.join(means)}, champion {statistics.mean(champions):.1f}"
            yield f"    champion minus round 0: {_gain(champions, [of(night[0]) for night in nights])}"
            if shipped is not None and name != "as shipped":
                later = [[statistics.mean(map(of, night[1:])) for night in each] for each in (shipped, nights)]
                last = [[of(night[-1]) for night in each] for each in (shipped, nights)]
                yield f"    as shipped minus it, mean of the rounds after 0: {_gain(*later)}"
                yield f"    as shipped minus it, last round: {_gain(*last)}"


def _champion(night: Sequence[Cell]) -> Cell:
    return next((cell for cell in reversed(night) if cell.passed), Cell(None, None, passed=False))


def _f1(task: str, cell: Cell) -> float:
    found = getattr(cell, task)
    return math.nan if found is None else float(found)


def _gain(ours: Sequence[float], theirs: Sequence[float]) -> str:
    gains = [one - other for one, other in zip(ours, theirs, strict=True)]
    low, high = interval(gains)
    better = sum(gain > 0 for gain in gains)
    return f"{statistics.mean(gains):+.1f} ({low:+.1f} to {high:+.1f}), better in {better} of {len(gains)}"


def main() -> None:
    """Run the nights of all parts and print a table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--part", choices=PARTS, action="append", help="one or more; default: all")
    ask.add_argument("--seeds", type=int, nargs="+", default=[7])
    add_options(ask)
    given = ask.parse_args()
    jobs = [(seed, name) for seed in given.seeds for name in given.part or PARTS]
    with asked(ask, given) as nights:

        def run(job: tuple[int, str]) -> list[Cell]:
            seed, name = job
            workspace = f"{seed}-{name.replace(' ', '-')}"
            nights.run("demo", workspace, {}, {"seed": seed, **PARTS[name]})
            return cells(nights.folder / workspace)

        with ThreadPoolExecutor(given.at_once) as pool:
            found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    rounds = max(len(row) for row in found.values())
    print("| seed | the demo | " + " | ".join(f"round {number}" for number in range(rounds)) + " |")
    print("|" + "---|" * (rounds + 2))
    for (seed, name), row in found.items():
        print(f"| {seed} | {name} | " + " | ".join([*map(str, row), *[""] * (rounds - len(row))]) + " |")

    if len(given.seeds) > 1:
        parts = {name: [found[seed, name] for seed in given.seeds] for _, name in jobs}
        print("", *over_seeds(parts), sep="\n")


if __name__ == "__main__":
    main()
