"""Compare the speed of a real guard on MLX with mlx-lm, one contender a call, so that short quiet hours suffice.

    python benchmarks/speed_cells.py cell [NAME] [--model smollm2] [--prompts 24] [--tokens 24] [--repeats 3]
    python benchmarks/speed_cells.py cells [--model smollm2]       # which cells have a result
    python benchmarks/speed_cells.py table [--model smollm2]       # the ratios, with their bars

The contenders and prompts are those of speed.py. A cell is one contender in one repeat; a repeat runs each contender
once, and batch_generate at three batch sizes in the first and at the fastest of them afterwards. A cell warms up on two
prompts and appends its figures to speed_results.jsonl, which is committed. The speed of a matrix product of 1,024 by
1,024 is measured before and after: a cell in which it changed by more than 10 % is run again, and a ratio is taken
between cells whose speed is within 10 %, of the same repeat where there are such, else of any.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speed import REAL, SHAPES, contenders_of, device_name, make_prompts, model, mx

from wizloop.backends.mlx import guard as mlx_guard

RESULTS = Path(__file__).with_name("speed_results.jsonl")
KEY = ("model", "prompts", "tokens", "contender", "repeat")
BATCHES = ("batch_generate 24", "batch_generate 48", "batch_generate 96")
CONTENDERS = ("loop", "label alone", "matrix products", "ours", *BATCHES)
"""In the order of a repeat: the two whose ratio has the highest bar stand side by side."""
BATCH = "batch_generate"
RATIOS = {
    "label_vs_loop": ("loop", "label alone", 20.0),
    "label_vs_floor": ("matrix products", "label alone", 0.62),
    "ours_vs_loop": ("loop", "ours", 8.0),
    "ours_vs_batch_generate": (BATCH, "ours", 2.0),
}
"""The slower side's seconds per unit over the faster's, and the bar."""
SIDE, PRODUCTS, WARM = 1024, 30, 2
AGREE = 0.1

Cell = dict[str, Any]


def reference() -> float:
    """Return the speed of matrix products now, in GFLOP/s."""
    left, right = mx.random.normal((SIDE, SIDE)), mx.random.normal((SIDE, SIDE))
    mx.eval(left @ right)
    began = time.perf_counter()
    for _ in range(PRODUCTS):
        mx.eval(left @ right)
    return 2 * SIDE**3 * PRODUCTS / (time.perf_counter() - began) / 1e9


def measure(given: argparse.Namespace, contender: str, repeat: int) -> Cell:
    """Run one contender once; return its figures."""
    drawn: dict[str, float] = {}
    rows = (int(contender.split()[1]),) if contender.startswith(BATCH) else ()
    with model(given.model) as folder:
        guard = mlx_guard.load(folder)
        prompts = make_prompts(guard, given.prompts)
        contenders_of(guard, prompts[:WARM], given.tokens, rows, {})[contender]()
        run = contenders_of(guard, prompts, given.tokens, rows, drawn)[contender]
        before, began, spent = reference(), time.perf_counter(), processor_seconds()
        runs = [run()]
        while time.perf_counter() - began < given.seconds:
            runs.append(run())
        wall, spent, after = time.perf_counter() - began, processor_seconds() - spent, reference()
    return {
        **dict(zip(KEY, (given.model, given.prompts, given.tokens, contender, repeat), strict=True)),
        "instruction_tokens": len(prompts[0].shared),
        "seconds_per_unit": statistics.median(runs),
        "runs": len(runs),
        "wall_s": round(wall, 2),
        "processor_s": round(spent, 2),
        "reference_gflops": [round(before, 1), round(after, 1)],
        "load": round(os.getloadavg()[0], 2),
        "tokens_per_trace": next(iter(drawn.values()), None),
        "device": device_name(),
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def processor_seconds() -> float:
    """Return what this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def steady(cell: Cell) -> bool:
    """Say whether the machine was equally fast before and after."""
    before, after = cell["reference_gflops"]
    return agree(before, after)


def agree(one: float, other: float) -> bool:
    """Say whether two speeds are within 10 % of the higher."""
    return abs(one - other) <= AGREE * max(one, other)


def speed_of(cell: Cell) -> float:
    """Return the machine's speed during a cell, in GFLOP/s."""
    return statistics.fmean(cell["reference_gflops"])


def wanted(repeats: int, cells: Sequence[Cell]) -> Iterator[tuple[str, int]]:
    """Yield contender and repeat without a steady result, in order."""
    done = {(one["contender"], one["repeat"]) for one in cells if steady(one)}
    for repeat in range(1, repeats + 1):
        best = fastest(cells) if repeat > 1 else None
        for name in CONTENDERS:
            if (name, repeat) not in done and (best is None or not name.startswith(BATCH) or name == best):
                yield name, repeat


def fastest(cells: Sequence[Cell]) -> str | None:
    """Return the batch size with the least time at the reference's speed."""
    batches = [one for one in cells if one["contender"].startswith(BATCH) and steady(one)]
    best = min(batches, key=lambda one: one["seconds_per_unit"] * speed_of(one), default=None)
    return None if best is None else str(best["contender"])


def ratios(cells: Sequence[Cell], slower: str, faster: str) -> tuple[list[float], str]:
    """Return the ratios of cells whose reference agrees, of the same repeat if there are such, and which they are."""
    good = [one for one in cells if steady(one)]
    pairs = [
        (left["repeat"] == right["repeat"], left["seconds_per_unit"] / right["seconds_per_unit"])
        for left in good
        for right in good
        if left["contender"] == slower and right["contender"] == faster and agree(speed_of(left), speed_of(right))
    ]
    same = [ratio for together, ratio in pairs if together]
    return (same, "same repeat") if same else ([ratio for _, ratio in pairs], "any repeat")


def table(cells: Sequence[Cell]) -> str:
    """Return the ratios and each contender's time as Markdown."""
    lines = ["| ratio | median | lowest | highest | pairs | bar |", "|---|---|---|---|---|---|"]
    best = fastest(cells)
    for name, (slower, faster, bar) in RATIOS.items():
        found, of = ratios(cells, (best or BATCH) if slower == BATCH else slower, faster)
        told = f"{statistics.median(found):.2f} | {min(found):.2f} | {max(found):.2f}" if found else "- | - | -"
        lines.append(f"| {name} | {told} | {len(found)} of {of} | {bar:g} |")
    lines += ["", "| contender | s per unit | GFLOP/s | repeat |", "|---|---|---|---|"]
    for one in sorted(cells, key=lambda one: CONTENDERS.index(one["contender"])):
        unsteady = "" if steady(one) else ", not steady"
        figures = f"{one['seconds_per_unit']:.3f} | {speed_of(one):.0f}{unsteady} | {one['repeat']}"
        lines.append(f"| {one['contender']} | {figures} |")
    return "\n".join(lines)


def read(given: argparse.Namespace) -> list[Cell]:
    """Return the cells of the model, the prompts and the tokens asked for."""
    lines = given.results.read_text(encoding="utf-8").splitlines() if given.results.is_file() else []
    asked = (given.model, given.prompts, given.tokens)
    return [one for one in map(json.loads, lines) if tuple(one[key] for key in KEY[:3]) == asked]


def next_cell(given: argparse.Namespace, cells: Sequence[Cell]) -> str:
    """Run the next cell, of one contender if given, and append it; return what it measured."""
    open_cells = [one for one in wanted(given.repeats, cells) if given.name in (None, one[0])]
    if not open_cells:
        return f"{given.name or 'every cell'} has its result in {given.results}"
    found = measure(given, *open_cells[0])
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    return json.dumps(found, sort_keys=True) + f"\n{len(open_cells) - steady(found)} cells left"


def main() -> None:
    """Parse the options and do what is asked."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["cell", "cells", "table"])
    ask.add_argument("name", nargs="?", choices=CONTENDERS, help="the contender; none runs the next")
    ask.add_argument("--model", choices=[*SHAPES, REAL], default=REAL)
    ask.add_argument("--prompts", type=int, default=24)
    ask.add_argument("--tokens", type=int, default=24, help="tokens per trace")
    ask.add_argument("--repeats", type=int, default=3)
    ask.add_argument(
        "--seconds", type=float, default=8, help="for which a quick contender runs again; its median counts"
    )
    ask.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where figures are appended")
    given = ask.parse_args()
    cells = read(given)
    if given.run == "cell":
        print(next_cell(given, cells))
    elif given.run == "table":
        print(table(cells))
    else:
        print("\n".join(f"{name}, repeat {repeat}: no steady result" for name, repeat in wanted(given.repeats, cells)))


if __name__ == "__main__":
    main()
