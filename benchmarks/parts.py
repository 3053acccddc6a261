"""What each part of the loop gives: the demo as shipped, and the demo with one part changed, as a table.

    python benchmarks/parts.py [--part "as shipped"] [--seeds 7] [--at-once 1] [--keep DIR [--read]] [--changes TOML]

Request F1 on test by round with completion F1 in brackets, in per cent; a round that the gate held is marked. A night
is six to eight minutes on two cores. A workspace that is there already (--keep) goes on instead of beginning again.
"""

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nights import RANDOM, add_options, asked, challenger

from wizloop.store import evaluations, steps
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
        return [_cell(db, each) for each in steps.rounds(db) if challenger(db, each.number) is not None]


def _cell(db: Any, each: steps.Round) -> str:
    model = challenger(db, each.number)
    assert model is not None
    f1 = {
        one.task: json.loads(one.metrics_json)["f1"]
        for one in evaluations.of_round(db, each.number)
        if one.benchmark != "dev" and one.model_id == model.id
    }
    request, completion = (_per_cent(f1.get(task)) for task in ("request", "completion"))
    return f"{request} ({completion})" + ("" if each.passed else ", held")


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--part", choices=PARTS, action="append", help="one or more; all without it")
    ask.add_argument("--seeds", type=int, nargs="+", default=[7])
    add_options(ask)
    given = ask.parse_args()
    jobs = [(seed, name) for seed in given.seeds for name in given.part or PARTS]
    with asked(ask, given) as nights:

        def run(job: tuple[int, str]) -> list[str]:
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
        print(f"| {seed} | {name} | " + " | ".join([*row, *[""] * (rounds - len(row))]) + " |")


if __name__ == "__main__":
    main()
