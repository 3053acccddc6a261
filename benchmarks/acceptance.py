"""The acceptance runs on real data, as tables: the loop beside random selection, a linear model and "always harmful".

    python benchmarks/acceptance.py acceptance [--keep DIR]
    python benchmarks/acceptance.py toxicchat [--seeds 1 2 3 4 5] [--keep DIR] [--at-once 2]

`acceptance` runs recipes/acceptance.toml twice, as it is and with every sample chosen at random. `toxicchat` runs a
shorter recipes/toxicchat.toml twice for each seed and gives the differences with a 95 % interval over the seeds
(Student's t). Both print Markdown. A workspace that is there already (--keep) goes on instead of beginning again.
Start it in the repository's root: the recipes read ../shared/data.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nights import RANDOM, Round, always, night, read
from scipy.stats import t as student

from wizloop.loop.measures.metrics import Score

SHORT = {"rounds": 4, "select": {"budget": 60}}
"""Of the toxicchat recipe, because ten nights are run: fewer answers a round."""


def acceptance(folder: Path) -> None:
    for name, changes in (("chosen", {}), ("random", {"select": {"shares": RANDOM}})):
        seconds = night("acceptance", folder / name, changes)
        found = read(folder / name)
        print(f"\n### Selection: {name} ({seconds / 60:.1f} min)\n")
        for line in _table(found, always(folder / name)):
            print(line)
        print()
        for one in found:
            print(_story(one))


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
    return [
        *(_f1(scores[name]) for name in benchmarks),
        _number(scores["all test"].auroc),
        _number(scores["all test"].ece),
    ]


def toxicchat(folder: Path, seeds: Sequence[int], at_once: int) -> None:
    jobs = [(seed, name) for seed in seeds for name in ("chosen", "random")]

    def run(job: tuple[int, str]) -> None:
        seed, name = job
        shares = {"select": {**SHORT["select"], "shares": RANDOM}} if name == "random" else {}
        night("toxicchat", folder / f"{name}-{seed}", {**SHORT, "seed": seed, **shares})

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, jobs))
    figures = {job: _figures(read(folder / f"{job[1]}-{job[0]}")) for job in jobs}
    names = list(next(iter(figures.values())))
    print(_row(["seed", "selection", *names]))
    print(_row(["---"] * (len(names) + 2)))
    for (seed, name), values in figures.items():
        print(_row([str(seed), name, *(f"{values[each]:.3f}" for each in names)]))
    for name in names:
        gains = [figures[seed, "chosen"][name] - figures[seed, "random"][name] for seed in seeds]
        low, high = interval(gains)
        print(f"\n{name}: chosen minus random {statistics.mean(gains):+.3f} (95 % interval {low:+.3f} to {high:+.3f})")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t, 95 %."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(student.ppf(0.975, len(values) - 1)) * error
    return mean - half, mean + half


def _figures(found: list[Round]) -> dict[str, float]:
    """Of one night: its last challenger on test, and what was chosen in all rounds after the seed's."""
    last, chosen = found[-1], [one for one in found if one.number > 0]
    shares = [one.harmful_selected for one in chosen if one.harmful_selected is not None]
    return {
        "harmful among the chosen": statistics.mean(shares),
        "average precision": last.guard["all test"].average_precision or 0.0,
        "F1 at dev's threshold": last.guard["all test"].f1 or 0.0,
        "TF-IDF average precision": last.linear["all test"].average_precision or 0.0,
        "TF-IDF F1": last.linear["all test"].f1 or 0.0,
    }


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
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["acceptance", "toxicchat"])
    ask.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    ask.add_argument("--at-once", type=int, default=1)
    ask.add_argument("--keep", type=Path)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        if given.run == "acceptance":
            acceptance(folder)
        else:
            toxicchat(folder, given.seeds, given.at_once)


if __name__ == "__main__":
    main()
