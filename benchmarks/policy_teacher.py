"""Measure the built-in policy reasoner on labeled prompts of ../shared/data, and what the teacher check makes of it.

    python benchmarks/policy_teacher.py [--rows 1000] [--draws 1000] [--bound 0.75]

Prints a line per file: recall and precision of "harmful" with Wilson's intervals, how often its reason is that no
policy is touched, and the share of draws of 60 rows, as phase check draws them, whose whole interval lies below the
bound. Labels are hidden from it. The file's rows are taken in its order, at most --rows; the draws are seeded.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wizloop.backends.teachers.base import Question
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.measures.metrics import wilson
from wizloop.loop.measures.right_share import right_share
from wizloop.loop.teaching.teachers import reasoner_of
from wizloop.recipes import schema
from wizloop.recipes.sections import Data
from wizloop.store.checked_teacher import ROWS_WANTED

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
FILES = (
    "wizard101/evaluation_guardreasoner_test_5k.json.gz",
    "toxicchat/toxic_chat_train.json.gz",
    "wildguardtest/wildguardtest.csv.gz",
    "xstest/xstest_prompts.csv",
    "guardreasoner_benchmark/0_1_AegisSafetyTest.json",
    "openai_moderation/samples-1680.jsonl",
)
Judged = tuple[str, str, str]
"""A row's label, the reasoner's verdict and its reason."""


def judged(file: str, most: int) -> list[Judged]:
    """Return what the reasoner makes of the labeled prompts of a file."""
    recipe = schema.load("demo")
    reasoner = reasoner_of(recipe)
    found: list[Judged] = []
    for row in read_samples(Data(path=str(DATA / file), split="seed", prompts_only=True)).rows:
        label = row.labels.get("request")
        if label is not None and len(found) < most:
            trace = reasoner.ask(Question(str(len(found)), row.prompt)).trace
            assert trace is not None
            found.append((label, trace.request, trace.explanation))
    return found


def measured(rows: Sequence[Judged], draws: int, bound: float) -> dict[str, Any]:
    """Return the figures of one file's rows."""
    cells = Counter((label, verdict) for label, verdict, _ in rows)
    hit, missed, alarm = (
        cells[cell] for cell in (("harmful",) * 2, ("harmful", "unharmful"), ("unharmful", "harmful"))
    )
    untouched = sum(reason == "No policy is touched." for _, _, reason in rows)
    out = [_is_left_out(rows, random.Random(seed), bound) for seed in range(draws)]
    return {
        "rows": len(rows),
        "harmful": hit + missed,
        "recall": _rate(hit, hit + missed),
        "precision": _rate(hit, hit + alarm),
        "no policy is touched": untouched,
        "left out, share of draws": sum(out) / draws,
    }


def _is_left_out(rows: Sequence[Judged], rng: random.Random, bound: float) -> bool:
    counts = []
    for label in ("harmful", "unharmful"):
        of_label = [verdict for given, verdict, _ in rows if given == label]
        drawn = rng.sample(of_label, min(ROWS_WANTED // 2, len(of_label)))
        counts.append((drawn.count(label), len(drawn)))
    share = right_share(counts)
    return share is not None and share.high < bound


def _rate(k: int, n: int) -> list[float | None]:
    low, high = wilson(k, n)
    return [round(k / n, 3) if n else None, *(None if end is None else round(end, 3) for end in (low, high))]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--bound", type=float, default=0.75)
    options = parser.parse_args()
    for file in FILES:
        found = measured(judged(file, options.rows), options.draws, options.bound)
        print(json.dumps({"file": file, **found}), flush=True)


if __name__ == "__main__":
    _main()
