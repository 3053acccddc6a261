"""Compare speed and memory of HS-DPO on torch with TRL's DPOTrainer at its defaults, on the same pairs.

    python benchmarks/torch_dpo.py [--pairs 48] [--batch 8] [--layers 14] [--longest 4000] [--repeats 2] [--here]

The model has random weights and Qwen3's architecture, about 30 M parameters with 14 layers. Prompts and answers are
recorded ones of ../shared/data: the 8B guard's answer is the chosen one, the 1B guard's the rejected one. Both sides
train the same LoRA adapter, whose start is the reference, 8 pairs per step; TRL runs the reference in every step. Each
side runs in a process of its own, in turn; with --here both run in this one, which is faster but cannot measure memory.
A step's time is the mean processor time after the first step, which other work on the machine does not lengthen. Our
reference pass is added to one epoch's steps; a run of two epochs pays it once. Memory is the process's peak, and the
part of it after loading.
"""

import argparse
import contextlib
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_speed import DATA, LAYERS, make_model

from wizloop.backends.guard_types import DpoPair, Encoded, LoraShape, TrainSettings

LORA = LoraShape(16, 2.0, 0.0, -1)
Rows = list[tuple[str, str, str]]
"""(prompt, chosen, rejected)."""


def recorded(size: str) -> list[dict[str, str]]:
    """Read the recorded outputs of a published guard."""
    path = DATA / "recorded" / size / "AegisSafetyTest" / "generated_predictions.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def texts(count: int, longest: int) -> Rows:
    """Return texts whose answers differ, spread over the file, with fewer characters than `longest`."""
    rows = [
        (good["prompt"], good["predict"], bad["predict"])
        for good, bad in zip(recorded("8B"), recorded("1B"), strict=True)
        if good["predict"] != bad["predict"] and len(good["prompt"]) + len(good["predict"] + bad["predict"]) < longest
    ]
    return rows[:: max(1, len(rows) // count)][:count]


def ours(base: str, rows: Rows, batch: int) -> dict[str, float]:
    """Train with our backend and return its times and memory."""
    from wizloop.backends import training_rows
    from wizloop.backends.tokens import Tokens
    from wizloop.backends.torch import adapter as torch_adapter
    from wizloop.backends.torch import load as torch_load
    from wizloop.backends.torch import train as torch_train
    from wizloop.backends.torch.batches import dpo_batches
    from wizloop.backends.torch.trainers import Course, dpo_trainer
    from wizloop.backends.training_memory import MOST_TOKENS

    loaded = torch_load.load(base, None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, LORA, seed=1)
    tokens = Tokens(loaded.tokenizer)
    pairs = [
        DpoPair(i, Encoded((), tuple(tokens.encode_data(asked))), good, bad, 1.0)
        for i, (asked, good, bad) in enumerate(rows)
    ]
    settings = TrainSettings(epochs=1, batch=batch, lr=1e-6, seed=1, checkpoint_every=10_000, max_tokens=4096, beta=0.1)
    known, _ = training_rows.dpo_rows(pairs, tokens, settings.max_tokens)
    plan = training_rows.Plan([len(row.chosen.ids) for row in known], settings, "benchmark")
    before = memory()
    with tempfile.TemporaryDirectory() as folder:
        trainer = dpo_trainer(model, loaded, settings, Path(folder))
        start = time.process_time()
        reference = torch_train.reference_logprobs(trainer.model, known, MOST_TOKENS["torch", False])
        pass_s = time.process_time() - start
        ends: list[float] = []

        def batches(step: int) -> list[dict[str, Any]]:
            chosen = plan.indices(step)
            return dpo_batches([known[i] for i in chosen], reference[chosen])

        trainer.follow(
            Course(plan.steps, batches, lambda _: 0, lambda *_: ends.append(time.process_time())), settings.lr
        )
    return {"reference_s": pass_s, "steps": plan.steps, **told(ends, before)}


def trl(base: str, rows: Rows, batch: int) -> dict[str, float]:
    """Train with TRL's DPOTrainer and return its times and memory."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    from wizloop.backends.torch import adapter as torch_adapter
    from wizloop.backends.torch import load as torch_load

    class Peer(DPOTrainer):
        def _send_telemetry(self) -> None:
            """Send nothing."""

    loaded = torch_load.load(base, None, quantise=False, device="cpu")
    model = torch_adapter.add_new_adapter(loaded.model, LORA, seed=1)
    ends: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.process_time())

    data = Dataset.from_list([{"prompt": a, "chosen": b, "rejected": c} for a, b, c in rows])
    before = memory()
    with tempfile.TemporaryDirectory() as folder:
        # All else is TRL's default, including gradient checkpointing; nothing is truncated.
        args = DPOConfig(
            folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Peer(model, args=args, processing_class=loaded.tokenizer, train_dataset=data)
        trainer.add_callback(Watch())
        trainer.train()
    return {"reference_s": 0.0, "steps": len(ends), **told(ends, before)}


def told(ends: list[float], before: float) -> dict[str, float]:
    """Return the step time and memory of a side."""
    return {"step_s": (ends[-1] - ends[0]) / (len(ends) - 1), "peak_mb": memory(), "grown_mb": memory() - before}


def memory() -> float:
    """Return the process's peak memory, in MiB; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


SIDES: dict[str, Callable[[str, Rows, int], dict[str, float]]] = {"trl": trl, "ours": ours}


def apart(name: str, folder: str, given: argparse.Namespace) -> dict[str, float]:
    """Run a side in a process of its own."""
    same = [word for key in ("pairs", "batch", "longest") for word in (f"--{key}", str(getattr(given, key)))]
    command = [sys.executable, __file__, "--side", name, "--base", folder, *same]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def here(name: str, folder: str, rows: Rows, batch: int) -> dict[str, float]:
    """Run a side in this process."""
    # TRL prints its own table.
    with contextlib.redirect_stdout(sys.stderr):
        found = SIDES[name](folder, rows, batch)
    return {key: value for key, value in found.items() if not key.endswith("_mb")}


def compared(results: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the ratios of both sides."""
    best = {name: min(runs, key=lambda run: run["step_s"]) for name, runs in results.items()}
    one, other = best["ours"], best["trl"]
    whole = one["step_s"] + one["reference_s"] / one["steps"]
    kinds = [kind for kind in ("peak", "grown") if f"{kind}_mb" in one]
    return {
        **best,
        "step_ratio": round(other["step_s"] / one["step_s"], 2),
        "step_ratio_with_the_reference_pass": round(other["step_s"] / whole, 2),
        **{f"{kind}_ratio": round(one[f"{kind}_mb"] / other[f"{kind}_mb"], 2) for kind in kinds},
    }


def main() -> None:
    """Run both sides in turn and print the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8, help="pairs per step")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--longest", type=int, default=4000, help="maximum characters of a prompt and both answers")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="run both sides in this process")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    given = parser.parse_args()
    rows = texts(given.pairs, given.longest)
    if len(rows) <= given.batch:
        parser.error(f"{len(rows)} pairs at {given.batch} a step are one step, and the first is not counted")
    if given.side:
        print(json.dumps(SIDES[given.side](given.base, rows, given.batch)))
        return
    results: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(Path(folder), [text for row in rows for text in row], given.layers)
        for name in [*SIDES] * given.repeats:
            found = here(name, folder, rows, given.batch) if given.here else apart(name, folder, given)
            results[name].append(found)
    print(json.dumps({"parameters": parameters, "pairs": len(rows), **compared(results)}, indent=2))


if __name__ == "__main__":
    main()
