"""Choose lr, epochs, rank and batch for a pretrained guard: train SmolLM2-135M-Instruct on the same labels, key by key.

    python benchmarks/tuning.py cell [NAME] [--results FILE]   # the next training without a result
    python benchmarks/tuning.py table [--results FILE]         # all results as a table

Each cell changes one key of [train]; its figures are appended to benchmarks/tuning_results.jsonl. It trains on 32
prompts of WildGuardTest of at most 200 characters, each as a trace and as a direct answer, and measures P(request
harmful) of a direct answer on 200 other ones. The order: every change with seed 1, learning rate, epochs, rank and
batch first; then the start and the four best changes with seed 2; then the start and the two best of those with seed 3.
The other changes are given up. Run it in the repository root, beside ../shared/data.
"""

import argparse
import hashlib
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("tuning_results.jsonl")
DATA = ROOT.parent / "shared" / "data" / "wildguardtest" / "wildguardtest.parquet"
LESSONS, MEASURED = 32, 200
START: dict[str, Any] = {"lr": 2e-4, "epochs": 3, "rank": 16, "batch": 8, "layers": 10, "warmup": 0.05}
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    *({"lr": lr} for lr in (1e-3, 5e-4, 5e-5)),
    *({"epochs": epochs} for epochs in (1, 6)),
    *({"rank": rank} for rank in (4, 64)),
    *({"batch": batch} for batch in (4, 16)),
    {"warmup": 0.0},
    {"layers": -1},
)
KEPT = {2: 4, 3: 2}
"""How many changes go on to a seed, the best by average precision so far; the start does always."""


def named(change: dict[str, Any], seed: int) -> str:
    """Return a cell's name."""
    return f"{'-'.join(f'{key}={value}' for key, value in change.items()) or 'start'}-seed={seed}"


CELLS = {named(change, seed): (change, seed) for seed in (1, *KEPT) for change in CHANGES}


def wanted(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the cells without a result, in order; those of a later seed once the earlier seeds' are there."""
    done = {one["cell"]: one["taught"]["ap"] for one in results}
    going = list(CHANGES)
    for seed in (1, *KEPT):
        if seed in KEPT:
            means = {index: _mean(done, change, seed) for index, change in enumerate(going) if change}
            best = sorted(means, key=lambda index: -means[index])[: KEPT[seed]]
            going = [change for index, change in enumerate(going) if not change or index in best]
        missing = [name for name in (named(change, seed) for change in going) if name not in done]
        yield from missing
        if missing:
            return


def _mean(done: dict[str, float], change: dict[str, Any], seed: int) -> float:
    return statistics.fmean(done[named(change, earlier)] for earlier in range(1, seed))


def cell(name: str, lessons: int, measured: int, untaught: dict[str, float] | None) -> dict[str, Any]:
    """Train and measure one cell; return its figures. Those of the base are measured where they are not given."""
    from learning import Lessons, changed, linear, train
    from nights import recipe_file
    from real import fetch

    from wizloop.backends import chat, model_folder
    from wizloop.backends.mlx import guard as mlx_guard
    from wizloop.loop.guard.judge import renderer_of
    from wizloop.loop.guard.rendering import choice
    from wizloop.recipes import policies, schema

    began, spent = time.monotonic(), _processor_seconds()
    change, seed = CELLS[name]
    keys = [f"{key}={value}" for key, value in (START | change).items()]
    recipe = changed(schema.load(recipe_file("real")), keys, [], None)
    base = str(model_folder.find(str(fetch())))
    taught, asked = _rows(lessons, measured)
    guard = mlx_guard.load(base)
    rendered = Lessons(recipe, guard)
    frame = chat.render(base)
    rendered.renderer = renderer_of(recipe.guard, base, policies.instruction(), (frame.before, frame.after))
    examples = rendered.examples(taught)
    truth = np.array([row.harmful for row in asked])
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "adapter"
        seconds = train(base, None, examples, recipe, seed, to)
        p = mlx_guard.load(base, to).score(rendered.asked(asked), choice("request"))[:, 0]
    if untaught is None:
        untaught = _figures(truth, guard.score(rendered.asked(asked), choice("request"))[:, 0])
    return {
        "cell": name,
        "seed": seed,
        **START,
        **change,
        "lessons": lessons,
        "measured": measured,
        "train_s": round(seconds),
        "wall_s": round(time.monotonic() - began),
        "processor_s": round(_processor_seconds() - spent),
        "harmful": int(truth.sum()),
        "taught": _figures(truth, p),
        "untaught": untaught,
        "linear": _figures(truth, linear(taught, asked)),
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rows(lessons: int, measured: int) -> tuple[list[Any], list[Any]]:
    """Return the rows to learn and the rows to measure: the same in every cell, drawn by their prompts' hash."""
    from learning import Row

    from wizloop.loop.data.sample_reader import read_samples
    from wizloop.recipes.sections import Data

    read = read_samples(Data(path=str(DATA), split="test", max_chars=200, prompts_only=True))
    rows = [Row(one.prompt, None, {"request": one.labels["request"]}) for one in read.rows if "request" in one.labels]
    rows.sort(key=lambda row: hashlib.sha256(row.prompt.encode()).hexdigest())
    random.Random(0).shuffle(rows)
    return rows[:lessons], rows[lessons : lessons + measured]


def _figures(truth: np.ndarray, p: np.ndarray) -> dict[str, float]:
    best = max(f1_score(truth, p > cut) for cut in np.quantile(p, np.linspace(0.02, 0.98, 49)))
    found = {
        "ap": average_precision_score(truth, p),
        "auc": roc_auc_score(truth, p),
        "f1": f1_score(truth, p > 0.5),
        "best_f1": best,
    }
    return {key: round(100 * float(value), 1) for key, value in found.items()}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as a Markdown table: a line for each setting, its seeds side by side."""
    lines = ["| changed | seed | AP | AUC | F1 at 0.5 | best F1 |", "|---|---|---|---|---|---|"]
    for one in results:
        figures = " | ".join(f"{one['taught'][key]:.1f}" for key in ("ap", "auc", "f1", "best_f1"))
        lines.append(f"| {one['cell'].rpartition('-seed=')[0]} | {one['seed']} | {figures} |")
    for name in ("untaught", "linear"):
        if results:
            figures = " | ".join(f"{results[0][name][key]:.1f}" for key in ("ap", "auc", "f1", "best_f1"))
            lines.append(f"| ({name}) | | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the options and do what is asked."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["cell", "table"])
    ask.add_argument("name", nargs="?", choices=list(CELLS), help="the cell; none runs the next")
    ask.add_argument("--lessons", type=int, default=LESSONS)
    ask.add_argument("--measured", type=int, default=MEASURED)
    ask.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where figures are appended")
    given = ask.parse_args()
    lines = given.results.read_text(encoding="utf-8").splitlines() if given.results.is_file() else []
    size = (given.lessons, given.measured)
    results = [one for one in map(json.loads, lines) if (one["lessons"], one["measured"]) == size]
    if given.run == "table":
        print(table(results))
        return
    name = given.name or next(wanted(results), None)
    if name is None or name in {one["cell"] for one in results}:
        print(f"{name or 'every cell'} has its result in {given.results}")
        return
    found = cell(name, *size, results[0]["untaught"] if results else None)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    print(
        f"{table([found])}\n{name}: {found['wall_s'] / 60:.1f} min, {found['processor_s'] / 60:.1f} of processor time"
    )


if __name__ == "__main__":
    main()
