"""Measure the memory of a training step: the peak of a process that trains alone, beside what the dry run estimates.

    python benchmarks/memory.py --base DIR --library mlx --batch 4 8 16

Each line is one process that trains a few steps of R-SFT on rows of random tokens, with the shared prefix, prompt and
trace of the given lengths. The lengths of a row are what fills a pass; the words are not.
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

from wizloop.backends.guard_types import Encoded, LoraShape, SftExample, TrainJob, TrainSettings
from wizloop.backends.training_memory import needed


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
    print(json.dumps([peak, [after - before for before, after in itertools.pairwise(times)]]))


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
    ask.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.alone:
        return train(given, given.batch[0])
    config = json.loads((Path(given.base) / "config.json").read_text(encoding="utf-8"))
    row = given.shared + given.prompt + given.trace + 1
    print("| library | method | batch | measured GB | estimated GB | seconds a step |\n|---|---|---|---|---|---|")
    for batch in given.batch:
        options = sys.argv[1:]
        done = subprocess.run(
            [sys.executable, __file__, *options, "--batch", str(batch), "--alone"], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        peak, steps = json.loads(done.stdout.splitlines()[-1])
        how = {"gpu": False, "four_bits": False, "row": row, "batch": batch}
        told = needed(config, lora(given), given.library, **how) or 0.0
        figures = f"{peak / 1e9:.2f} | {told / 1e9:.2f} | {min(steps):.1f}"
        print(f"| {given.library} | {given.method} | {batch} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
