"""Measure how long phase select takes, and how much memory, on a pool of a million samples whose vectors are stored.

    python benchmarks/large_pool.py make build/large [--rows 1000000]   # a demo's round 0, then the large pool
    python benchmarks/large_pool.py choose build/large                  # select, in a process of its own

The pool is synthetic: short texts of random words, random probabilities, and random float16 vectors of SmolLM2-135M's
width (2 * 576). Round 0 is a real one, so that there are lessons for a committee to learn from.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import delete, insert

from wizloop.loop.context import Context, recipe_of
from wizloop.loop.phases import model_roles, select, vectors
from wizloop.loop.stored_samples import usable
from wizloop.store import samples, selections, steps, tables
from wizloop.store.db import Store
from wizloop.store.samples import NewSample, Sample
from wizloop.store.vector_file import VectorFile

WIDTH = 2 * 576
SOURCE = "large"
NOW = datetime.now(UTC)
RECIPE = """
name = "large"
source = "demo"
rounds = 0
[data_demo]
pool = 200
seed = 80
dev = 60
test = 60
[guard]
instruction = "none"
max_trace_tokens = 48
[classify]
verdict = "direct"
[members]
count = 0
[train]
epochs = 1
[dpo]
enabled = false
[review]
rule = "nothing"
[gate]
max_unparsable = 1.0
[export]
formats = ["adapter"]
"""


def make(folder: Path, rows: int) -> None:
    """Make the workspace: a round 0 by the program itself, then the large pool, its predictions and its vectors."""
    folder.mkdir(parents=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    wizloop = Path(sys.executable).with_name("wizloop")
    subprocess.run([wizloop, "start", recipe, "--workspace", folder / "runs", "--headless"], check=True)
    with Store.open(folder / "runs") as store:
        with store.write() as db:
            samples.add_kept(db, _texts(rows), NOW)
            # The small pool is read, and judged, by the night.
            steps.begin_round(db, 1, model_roles.standing(db).id, NOW)
        _predict(store)
        _read(context(store, folder))


def context(store: Store, folder: Path) -> Context:
    """Return the context of phase select in round 1."""
    with store.write() as db:
        recipe = recipe_of(db)
        steps.begin_step(db, 1, "select", NOW)
    return Context(store, folder / "runs", recipe, 1, "select", lambda: NOW, lambda: False)


def _texts(rows: int) -> Iterator[list[tuple[object, ...]]]:
    """Yield checked rows in pieces: ten words each, some of them harmful ones of the demo."""
    rng = np.random.default_rng(1)
    words = np.array([f"w{at:05}" for at in range(20_000)] + ["poison", "bread", "steal", "garden", "weapon"] * 400)
    for start in range(0, rows, 1000):
        drawn = words[rng.integers(len(words), size=(min(1000, rows - start), 10))]
        yield [
            samples.kept(*NewSample("pool", " ".join(row), None, SOURCE, f"row {start + at}"))
            for at, row in enumerate(drawn)
        ]


def _predict(store: Store) -> None:
    rng = np.random.default_rng(2)
    with store.read() as db:
        champion = model_roles.standing(db).id
    for piece in _pieces(store):
        with store.write() as db:
            db.execute(delete(tables.predictions).where(tables.predictions.c.sample_id.in_([one.id for one in piece])))
            db.execute(
                insert(tables.predictions),
                [
                    _prediction(champion, one.id, p)
                    for one, p in zip(piece, rng.random(len(piece)).tolist(), strict=True)
                ],
            )


def _prediction(model: int, sample: int, p: float) -> dict[str, object]:
    harmful, confidence = p >= 0.5, abs(2 * p - 1)
    cell = f"{'confident' if confidence > 0.5 else 'uncertain'}_{'block' if harmful else 'pass'}"
    return {
        "model_id": model, "sample_id": sample, "round": 1, "probability": {"request": p},
        "verdict": {"request": "harmful" if harmful else "unharmful"}, "confidence": confidence, "cell": cell,
        "signals": {"p_direct_request": p, "tokens": 21.0}, "n_traces": 0, "unparsed": False, "cut_tokens": 0,
    }  # fmt: skip


def _read(ctx: Context) -> None:
    """Write random vectors of all splits."""
    rng = np.random.default_rng(3)
    file = VectorFile.create(vectors._path(ctx), WIDTH)
    for split in samples.SPLITS:
        for piece in _pieces(ctx.store, split):
            drawn = rng.standard_normal((len(piece), WIDTH), np.float32).astype(np.float16)
            file.write([one.id for one in piece], [one.hash for one in piece], drawn)


def _pieces(store: Store, split: str = "pool") -> Iterator[list[Sample]]:
    piece = []
    for one in usable(store, split):
        piece.append(one)
        if len(piece) == 1000:
            yield piece
            piece = []
    if piece:
        yield piece


def choose(folder: Path) -> None:
    """Run phase select once and print its seconds, the peak memory of this process, and what was picked."""
    with Store.open(folder / "runs") as store:
        with store.write() as db:
            db.execute(delete(tables.selections).where(tables.selections.c.round == 1))
        ctx, began, before = context(store, folder), time.perf_counter(), time.process_time()
        said = select.run(ctx)
        seconds, processor = time.perf_counter() - began, time.process_time() - before
        with store.read() as db:
            picked, pool = len(selections.of_round(db, 1)), samples.counts(db)["pool"]
    # In kilobytes on Linux, in bytes on a Mac.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    figures = {"pool": pool, "picked": picked, "seconds": round(seconds, 1), "processor_s": round(processor, 1)}
    print(json.dumps(figures | {"peak_rss_gb": round(peak / 1e9, 2), "said": said}))


def main() -> None:
    """Make the workspace, or choose in it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=["make", "choose"])
    ask.add_argument("folder", type=Path)
    ask.add_argument("--rows", type=int, default=1_000_000)
    given = ask.parse_args()
    if given.what == "make":
        make(given.folder, given.rows)
    else:
        choose(given.folder)


if __name__ == "__main__":
    main()
