"""What each part of the loop gives: the demo as shipped, and the demo with one part changed, as a table.

    python benchmarks/parts.py [--seeds 7] [--at-once 1] [--keep DIR]

Request F1 on test by round with completion F1 in brackets, in per cent; a round that the gate held is marked. A night
is six to eight minutes on two cores. A workspace that is there already (--keep) goes on instead of beginning again.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nights import RANDOM, night

from wizloop.store import evaluations, models, steps
from wizloop.store.db import Store

PARTS: dict[str, Mapping[str, Any]] = {
    "as shipped": {},
    "every sample chosen at random": {"select": {"shares": RANDOM}},
    "without HS-DPO": {"dpo": {"enabled": False}},
    "training goes on from the champion": {"train": {"start": "champion"}},
}


def cells(workspace: Path) -> list[str]:
    """One cell for each round of a night."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return [_cell(db, each) for each in steps.rounds(db) if _challenger(db, each.number) is not None]


def _challenger(db: Any, number: int) -> models.Model | None:
    return next((one for one in models.in_round(db, number) if one.role == "challenger"), None)


def _cell(db: Any, each: steps.Round) -> str:
    challenger = _challenger(db, each.number)
    assert challenger is not None
    f1 = {
        one.task: json.loads(one.metrics_json)["f1"]
        for one in evaluations.of_round(db, each.number)
        if one.benchmark != "dev" and one.model_id == challenger.id
    }
    request, completion = (_per_cent(f1.get(task)) for task in ("request", "completion"))
    return f"{request} ({completion})" + ("" if each.passed else ", held")


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seeds", type=int, nargs="+", default=[7])
    ask.add_argument("--at-once", type=int, default=1)
    ask.add_argument("--keep", type=Path)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        jobs = [(seed, name) for seed in given.seeds for name in PARTS]

        def run(job: tuple[int, str]) -> list[str]:
            seed, name = job
            workspace = folder / f"{seed}-{name.replace(' ', '-')}"
            night("demo", workspace, {"seed": seed, **PARTS[name]})
            return cells(workspace)

        with ThreadPoolExecutor(given.at_once) as pool:
            found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    rounds = max(len(row) for row in found.values())
    print("| seed | the demo | " + " | ".join(f"round {number}" for number in range(rounds)) + " |")
    print("|" + "---|" * (rounds + 2))
    for (seed, name), row in found.items():
        print(f"| {seed} | {name} | " + " | ".join([*row, *[""] * (rounds - len(row))]) + " |")


if __name__ == "__main__":
    main()
