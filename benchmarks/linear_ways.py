"""Measure each way in which a guard on SmolLM2 answers against TF-IDF with logistic regression on the same labels.

    python benchmarks/linear_ways.py states [--minutes 30]        # the base's hidden states, kept under build/; resumes
    python benchmarks/linear_ways.py cell [NAME] [--results FILE]   # the next cell without a result
    python benchmarks/linear_ways.py table [--results FILE]         # all results, with paired intervals over the seeds

A cell is a way, a number of labels and a seed: `linear-100-1` fits the linear head on the states of the untaught base,
`taught-100-1` trains the guard (R-SFT) and asks it at once. Labels are drawn from the pool of the acceptance recipe,
thresholds are set on its dev rows, and what is measured are its test rows of WildGuardTest and XSTest. Figures are
appended to benchmarks/linear_results.jsonl. Run it in the repository root, beside ../shared/data.
"""

import argparse
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "linear_states"
RESULTS = Path(__file__).with_name("linear_results.jsonl")
POOL, DEV = 1600, 400
"""Rows that are read, in the order of their prompts' hash; every test row is."""
TESTS = ("XSTest prompts", "WildGuardTest prompts")
DEPTH = 2 / 3
SEEDS = (1, 2, 3, 4, 5)
CELLS = {
    f"{way}-{labels}-{seed}": (way, labels, seed)
    for way, sizes in {"linear": (100, 400, 1000), "taught": (100, 400)}.items()
    for labels in sizes
    for seed in SEEDS
}
AT_ONCE = 64
"""Rows between two looks at the clock."""


class Rows:
    """The rows of a measurement: `pool`, `dev` and `tests` by name, and all of them in one order."""

    def __init__(self, pool: int, dev: int, test: int | None) -> None:
        from wizloop.recipes import schema

        recipe = schema.load(ROOT / "benchmarks" / "recipes" / "acceptance.toml")
        self.tests = {name: list(_read(recipe, "test", name))[:test] for name in TESTS}
        self.dev = list(_read(recipe, "dev"))[:dev]
        held = [*self.dev, *(row for rows in self.tests.values() for row in rows)]
        self.pool = _without(list(_read(recipe, "pool")), held)[:pool]
        self.all = [*self.pool, *held]


def _read(recipe: Any, split: str, benchmark: str | None = None) -> Iterator[Any]:
    """Yield the labeled prompts of a split or of one of its test sets, each once, by the hash of their text."""
    from learning import Row

    from wizloop.loop.data.sample_reader import read_samples

    found = {}
    for data in recipe.data:
        if data.split == split and data.benchmark == benchmark:
            whole = data.model_copy(update={"hide_labels": False, "sample": None})
            for one in read_samples(whole).rows:
                if label := one.labels["request"]:
                    found[one.prompt] = Row(one.prompt, None, {"request": label})
    yield from sorted(found.values(), key=lambda row: hashlib.sha256(row.prompt.encode()).hexdigest())


def _without(pool: list[Any], held: Sequence[Any]) -> list[Any]:
    """Leave out what is in dev or test too, or nearly."""
    from wizloop.loop.data.similarity import all_overlaps

    texts = [(at, row.prompt) for at, row in enumerate(pool)]
    leaking = all_overlaps(lambda: texts, [(at, row.prompt) for at, row in enumerate(held)])
    return [row for at, row in enumerate(pool) if at not in leaking]


class Asked:
    """The base with its prompt: the recipe of the measured nights on a real guard."""

    def __init__(self, base: str | None) -> None:
        from nights import recipe_file
        from real import MADE, fetch

        from wizloop.backends import chat, model_folder
        from wizloop.loop.guard.judge import renderer_of
        from wizloop.recipes import policies, schema

        here = MADE / "smollm2"
        self.base = base or str(here if here.is_dir() else model_folder.find(str(fetch())))
        self.recipe = schema.load(recipe_file("real"))
        frame = chat.render(self.base)
        self.renderer = renderer_of(self.recipe.guard, self.base, policies.instruction(), (frame.before, frame.after))

    def guard(self, adapter: Path | None = None) -> Any:
        """Load it, or what was trained on it."""
        from wizloop.loop.guard.backend import choose_backend

        return choose_backend("auto", "auto").load(self.base, adapter, quantise=False)

    def prompts(self, guard: Any, rows: Sequence[Any]) -> list[Any]:
        """Return the encoded prompts."""
        longest = self.recipe.guard.max_prompt_tokens
        return [guard.encode(self.renderer.direct_prompt(row), max_tokens=longest) for row in rows]

    def kept(self, rows: Rows) -> Path:
        """Return the file of these rows' states."""
        said = [self.renderer.hash, DEPTH, self.recipe.guard.max_prompt_tokens, [row.prompt for row in rows.all]]
        return KEPT / f"{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]}.npy"


def states(asked: Asked, rows: Rows, minutes: float) -> bool:
    """Read hidden states until all rows have theirs or the time is up; return whether all have."""
    file, began = asked.kept(rows), time.monotonic()
    known = np.load(file) if file.is_file() else np.zeros((0, 0), np.float16)
    guard = asked.guard() if len(known) < len(rows.all) else None
    KEPT.mkdir(parents=True, exist_ok=True)
    while guard is not None and len(known) < len(rows.all) and time.monotonic() - began < 60 * minutes:
        some = rows.all[len(known) : len(known) + AT_ONCE]
        found = guard.states(asked.prompts(guard, some), depth=DEPTH).astype(np.float16)
        known = np.concatenate([known, found]) if len(known) else found
        part = file.with_suffix(".part.npy")
        np.save(part, known)
        part.replace(file)
        print(f"{len(known):,} of {len(rows.all):,} rows, {(time.monotonic() - began) / 60:.1f} min", flush=True)
    return len(known) == len(rows.all)


def cell(name: str, asked: Asked, rows: Rows) -> dict[str, Any]:
    """Measure one way on one draw of labels, beside TF-IDF on the same labels."""
    from learning import linear

    way, labels, seed = CELLS[name]
    taught = random.Random(seed).sample(rows.pool, min(labels, len(rows.pool)))
    held = [*rows.dev, *(row for test in rows.tests.values() for row in test)]
    began = time.monotonic()
    p = _by_head(asked, rows, taught, held) if way == "linear" else _by_training(asked, taught, held, seed)
    return {
        "cell": name,
        "way": way,
        "labels": len(taught),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "harmful taught": sum(row.harmful for row in taught),
        "rows": {"dev": len(rows.dev), **{test: len(found) for test, found in rows.tests.items()}},
        "ours": _figures(rows, p),
        "tfidf": _figures(rows, linear(taught, held)),
    }


def _by_head(asked: Asked, rows: Rows, taught: Sequence[Any], held: Sequence[Any]) -> np.ndarray:
    """Return P(harmful) by the linear head, whose space is fitted on the pool."""
    from wizloop.loop.measures import linear_head
    from wizloop.loop.measures.features import Space

    if not states(asked, rows, 0):
        raise SystemExit("the hidden states are not read yet: run `python benchmarks/linear_ways.py states`")
    known = np.load(asked.kept(rows)).astype(np.float32)
    of = {row.prompt: known[at] for at, row in enumerate(rows.all)}
    space = Space.fit([row.prompt for row in rows.pool], known[: len(rows.pool)], 0)
    labels = [{"request": str(row.labels["request"])} for row in taught]
    head = linear_head.fit(space, taught, labels, np.array([of[row.prompt] for row in taught]))
    assert head is not None, "draw more labels: those drawn are all of one class"
    return np.array([one["request"] for one in head.p(held, np.array([of[row.prompt] for row in held]))])


def _by_training(asked: Asked, taught: Sequence[Any], held: Sequence[Any], seed: int) -> np.ndarray:
    """Return P(harmful) of the direct answer of a guard that was trained on the labels, each as a trace and at once."""
    from learning import Lessons, train

    from wizloop.backends.mlx import guard as mlx_guard
    from wizloop.loop.guard.rendering import choice

    guard = mlx_guard.load(asked.base)
    lessons = Lessons(asked.recipe, guard)
    lessons.renderer = asked.renderer
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "adapter"
        train(asked.base, None, lessons.examples(taught), asked.recipe, seed, to)
        return mlx_guard.load(asked.base, to).score(lessons.asked(held), choice("request"))[:, 0]


def _figures(rows: Rows, p: np.ndarray) -> dict[str, dict[str, float]]:
    """Return macro-F1 at dev's threshold and AUROC, of each test set and of both together."""
    from sklearn.metrics import f1_score, roc_auc_score

    from wizloop.loop.measures.platt import threshold

    truth = np.array([row.harmful for row in rows.all[len(rows.pool) :]])
    dev = len(rows.dev)
    cut = threshold(truth[:dev].astype(int).tolist(), p[:dev].tolist())
    places, start = {"both": slice(dev, None)}, dev
    for name, test in rows.tests.items():
        places[name] = slice(start, start + len(test))
        start += len(test)
    return {
        name: {
            "macro_f1": round(100 * float(f1_score(truth[at], p[at] >= cut, average="macro")), 2),
            "auroc": round(float(roc_auc_score(truth[at], p[at])), 4),
        }
        for name, at in places.items()
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return a line for each way, number of labels and test set: means over the seeds, and the paired difference."""
    from nights import interval

    lines = ["| way | labels | on | seeds | macro-F1 | TF-IDF | difference | AUROC | TF-IDF | difference |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for way, labels in dict.fromkeys((one["way"], one["labels"]) for one in results):
        found = [one for one in results if (one["way"], one["labels"]) == (way, labels)]
        for place in found[0]["ours"]:
            cells = [way, f"{labels:,}", place, str(len(found))]
            for figure, digits in (("macro_f1", 1), ("auroc", 3)):
                ours, theirs = ([one[side][place][figure] for one in found] for side in ("ours", "tfidf"))
                gaps = [mine - other for mine, other in zip(ours, theirs, strict=True)]
                cells += [f"{statistics.mean(each):.{digits}f}" for each in (ours, theirs)]
                low, high = interval(gaps) if len(gaps) > 1 else (None, None)
                spread = "" if low is None or high is None else f" ({low:+.{digits}f} to {high:+.{digits}f})"
                cells.append(f"{statistics.mean(gaps):+.{digits}f}{spread}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the options and do what is asked."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["states", "cell", "table"])
    ask.add_argument("name", nargs="?", choices=list(CELLS), help="the cell; none runs the next")
    ask.add_argument("--minutes", type=float, default=30, help="most minutes of reading states")
    ask.add_argument("--base", help="a model's folder instead of the fetched one")
    ask.add_argument("--pool", type=int, default=POOL, help="rows of the pool")
    ask.add_argument("--dev", type=int, default=DEV)
    ask.add_argument("--test", type=int, help="rows of each test set; all if not given")
    ask.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where figures are appended")
    given = ask.parse_args()
    lines = given.results.read_text(encoding="utf-8").splitlines() if given.results.is_file() else []
    results = [json.loads(line) for line in lines]
    if given.run == "table":
        print(table(results))
        return
    if given.run == "states":
        states(Asked(given.base), Rows(given.pool, given.dev, given.test), given.minutes)
        return
    done = {one["cell"] for one in results}
    name = given.name or next((each for each in CELLS if each not in done), None)
    if name is None or name in done:
        print(f"{name or 'every cell'} has its result in {given.results}")
        return
    found = cell(name, Asked(given.base), Rows(given.pool, given.dev, given.test))
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    print(table([found]))


if __name__ == "__main__":
    main()
