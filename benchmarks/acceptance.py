"""Compare the loop on real data with random selection, a linear model and "always harmful", as Markdown tables.

    python benchmarks/acceptance.py acceptance [--keep DIR [--read]] [--changes TOML]
    python benchmarks/acceptance.py toxicchat [--seeds 1 2 3 4 5] [--at-once 2] [--keep DIR [--read]] [--changes TOML]

The recipes are in benchmarks/recipes. `acceptance` runs its own twice, as it is and with all samples chosen at random;
`toxicchat` runs a shorter one twice for each seed and reports the differences with a 95 % interval over the seeds
(Student's t). An existing workspace (--keep) is resumed. Run it in the repository root: the recipes read
../shared/data.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nights import RANDOM, Nights, Round, add_options, always, asked, interval, read

from wizloop.loop.measures.metrics import Score

SELECTIONS: Mapping[str, Mapping[str, Any]] = {"chosen": {}, "random": {"select": {"shares": RANDOM}}}
SHORT = {"rounds": 4, "select": {"budget": 60}}
"""Changes to the toxicchat recipe for ten nights: fewer answers per round."""


def acceptance(nights: Nights, at_once: int) -> None:
    """Run and print both acceptance nights."""
    with ThreadPoolExecutor(at_once) as pool:
        took = pool.map(lambda name: nights.run("acceptance", name, {}, SELECTIONS[name]), SELECTIONS)
        for name, how_long in zip(SELECTIONS, took, strict=True):
            print(f"\n### Selection: {name} ({how_long})\n")
            _tell(nights.folder / name)


def _tell(workspace: Path) -> None:
    found = read(workspace)
    for line in _table(found, always(workspace)):
        print(line)
    print()
    for one in found:
        print(_story(one), flush=True)


def _table(found: Sequence[Round], harmful: dict[str, Score]) -> Iterator[str]:
    benchmarks = list(found[0].guard)
    yield _row(["round", "labels", "guard", *benchmarks, "AUROC test", "ECE test", "gate"])
    yield _row(["---"] * (len(benchmarks) + 6))
    for one in found:
        gate = "passed" if one.passed else "held"
        yield _row([str(one.number), str(one.labels), "wizloop", *_figures_of(one.guard, benchmarks), gate])
        yield _row(["", "", "TF-IDF + LR", *_figures_of(one.linear, benchmarks), ""])
    yield _row(["", "0", "always harmful", *(_f1(harmful[name]) for name in benchmarks), "0.500", "", ""])


def _figures_of(scores: dict[str, Score], benchmarks: Sequence[str]) -> list[str]:
    if not scores:
        return ["-"] * (len(benchmarks) + 2)
    return [
        *(_f1(scores[name]) for name in benchmarks),
        _number(scores["all test"].auroc),
        _number(scores["all test"].ece),
    ]


def toxicchat(nights: Nights, seeds: Sequence[int], at_once: int) -> None:
    """Run the ToxicChat nights of all seeds and print the gains of selection."""
    jobs = [(seed, name) for seed in seeds for name in SELECTIONS]

    def run(job: tuple[int, str]) -> None:
        seed, name = job
        nights.run("toxicchat", f"{name}-{seed}", SHORT, {"seed": seed, **SELECTIONS[name]})

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, jobs))
    figures = {job: _figures(read(nights.folder / f"{job[1]}-{job[0]}")) for job in jobs}
    names = list(next(iter(figures.values())))
    print(_row(["seed", "selection", *names]))
    print(_row(["---"] * (len(names) + 2)))
    for (seed, name), values in figures.items():
        print(_row([str(seed), name, *(f"{values[each]:.3f}" for each in names)]))
    for name in names:
        gains = [figures[seed, "chosen"][name] - figures[seed, "random"][name] for seed in seeds]
        print(f"\n{name}: chosen minus random {statistics.mean(gains):+.3f} ({_interval(gains)})")


def _interval(gains: Sequence[float]) -> str:
    if len(gains) < 2:
        return "one seed: no interval"
    low, high = interval(gains)
    return f"95 % interval {low:+.3f} to {high:+.3f}"


def _figures(found: list[Round]) -> dict[str, float]:
    """Return figures of a night: its last challenger on test, and its selections after round 0.

    NaN if undefined.
    """
    last, chosen = found[-1], [one for one in found if one.number > 0]
    shares = [one.harmful_selected for one in chosen if one.harmful_selected is not None]
    guard, linear = last.guard["all test"], last.linear.get("all test")
    return {
        "harmful among the chosen": statistics.mean(shares) if shares else math.nan,
        "average precision": _or_nan(guard.average_precision),
        "F1 at dev's threshold": _or_nan(guard.f1),
        "TF-IDF average precision": _or_nan(linear and linear.average_precision),
        "TF-IDF F1": _or_nan(linear and linear.f1),
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _story(one: Round) -> str:
    record = one.record["evaluate"]
    cells = ", ".join(
        f"{name.replace('_', ' ')} {cell['n']} ({cell['right']} right)"
        for name, cell in sorted(record["cells"].items())
    )
    chosen = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(one.selected.items()))
    unread = record.get("traces_unparsed")
    traces = "no trace was sampled" if unread is None else f"{100 * unread:.0f} % of traces without a whole answer"
    unparsed = f"verdicts unparsed {one.guard['dev'].unparsed}; {traces}"
    return f"- Round {one.number}: chosen {chosen}. Dev cells: {cells}; {unparsed}. {one.gate}"


def _f1(one: Score) -> str:
    if one.f1 is None or one.f1_low is None or one.f1_high is None:
        return "-"
    return f"{100 * one.f1:.1f} ({100 * one.f1_low:.0f}-{100 * one.f1_high:.0f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse the options and run a benchmark."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["acceptance", "toxicchat"])
    ask.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    add_options(ask)
    given = ask.parse_args()
    with asked(ask, given) as nights:
        if given.run == "acceptance":
            acceptance(nights, given.at_once)
        else:
            toxicchat(nights, given.seeds, given.at_once)


if __name__ == "__main__":
    main()
