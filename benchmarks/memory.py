"""Measure the memory of a training step: the peak of a process that trains alone, beside what the dry run estimates.

    python benchmarks/memory.py --base DIR --library mlx --batch 4 8 16

Each line is one process that trains a few steps of R-SFT on rows of random tokens, with the shared prefix, prompt and
trace of the given lengths. The lengths of a row are what fills a pass; the words are not. With --results, each figure
is appended to that file as it is measured, and what stands there is not measured again.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wizloop.backends.guard_types import Encoded, LoraShape, SftExample, TrainJob, TrainSettings
from wizloop.backends.training_memory import needed

KEY = ("library", "method", "rank", "shared", "prompt", "trace", "steps")


def train(given: argparse.Namespace, batch: int) -> None:
    """Train a few steps in this process and print its peak memory in bytes and the seconds of each step."""
    if given.library == "mlx":
        from wizloop.backends.mlx import blas

        blas.preload()
        from wizloop.backends.mlx.train import train_sft
    else:
        from wizloop.backends.torch.train import train_sft
    shared, body = tuple(range(100, 100 + given.shared)), tuple(range(300, 300 + given.prompt))
    lessons = [SftExample(i, Encoded(shared, body), " word" * given.trace) for i in range(batch * given.steps)]
    settings = TrainSettings(1, batch, 1e-5, 1, 10_000, 100_000)
    times = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "to"
        to.mkdir()
        job = TrainJob(given.base, None, settings, lora(given), to, Path(folder) / "checkpoint")
        train_sft(job, lessons, lambda *_: times.append(time.perf_counter()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = resource.getrusage(resource.RUSAGE_SELF)
    steps = [after - before for before, after in itertools.pairwise(times)]
    print(json.dumps({"peak": peak, "steps_s": steps, "processor_s": used.ru_utime + used.ru_stime}))


def lora(given: argparse.Namespace) -> LoraShape:
    """Return what is trained."""
    return LoraShape(given.rank, 2.0, 0.05, -1, given.method)


def main() -> None:
    """Measure each batch size in a process of its own and print a table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--base", required=True)
    ask.add_argument("--library", choices=["mlx", "torch"], default="mlx")
    ask.add_argument("--batch", type=int, nargs="+", default=[4, 8, 16])
    ask.add_argument("--rank", type=int, default=16)
    ask.add_argument("--method", choices=["lora", "dora", "full"], default="lora")
    ask.add_argument("--shared", type=int, default=150)
    ask.add_argument("--prompt", type=int, default=150)
    ask.add_argument("--trace", type=int, default=80)
    ask.add_argument("--steps", type=int, default=2)
    ask.add_argument("--results", type=Path, metavar="FILE", help="where figures are appended")
    ask.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.alone:
        return train(given, given.batch[0])
    config = json.loads((Path(given.base) / "config.json").read_text(encoding="utf-8"))
    row = given.shared + given.prompt + given.trace + 1
    print("| library | method | batch | measured GB | estimated GB | seconds a step |\n|---|---|---|---|---|---|")
    for batch in given.batch:
        found = measured(given, batch)
        how = {"gpu": False, "four_bits": False, "row": row, "batch": batch}
        told = needed(config, lora(given), given.library, **how) or 0.0
        figures = f"{found['peak'] / 1e9:.2f} | {told / 1e9:.2f} | {min(found['steps_s']):.1f}"
        print(f"| {given.library} | {given.method} | {batch} | {figures} |", flush=True)


def measured(given: argparse.Namespace, batch: int) -> dict[str, Any]:
    """Return a batch size's figures: those that stand in the results, or those of a process that trains."""
    key = {name: getattr(given, name) for name in KEY} | {"base": Path(given.base).name, "batch": batch}
    lines = given.results.read_text(encoding="utf-8").splitlines() if given.results and given.results.is_file() else []
    known = [one for one in map(json.loads, lines) if key.items() <= one.items()]
    if known:
        return dict(known[-1])
    began = time.monotonic()
    command = [sys.executable, __file__, *sys.argv[1:], "--batch", str(batch), "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = key | json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.monotonic() - began}
    if given.results:
        with given.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found, sort_keys=True) + "\n")
    return found


if __name__ == "__main__":
    main()
