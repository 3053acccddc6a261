"""Compare the speed of the MLX backend with mlx-lm and mlx-lm-lora, on the same prompts and token counts.

    python benchmarks/speed.py [--model tiny|wide|smollm2] [--prompts 64] [--tokens 24] [--repeats 3]

`tiny` has the embedded guard's shape, `wide` is a random-weight Llama of 4 layers, 512 wide; `smollm2` is
SmolLM2-135M-Instruct, fetched once (`real.py`), and has no row for HS-DPO: the peer's step takes over 10 GB. It reads
24 prompts twice in eight ways, to warm up and to measure, and prints at the end; `speed_cells.py` runs one way a call.
All read the real instruction before each demo prompt. All contenders run in one process, in turn, `repeats` times;
ratios are of the best times. Random-weight models never end early; the tokens drawn are printed.

`label_vs_floor` is the time that the model's matrix products alone take for the tokens of the prompts, over the time
that the labels take: 1 means that nothing but matrix products is paid for.
"""

import argparse
import contextlib
import io
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wizloop.backends import model_folder, training_memory, training_rows
from wizloop.backends.guard_types import Choice, DpoPair, LoraShape, Part, Prompt, Sampling, TrainSettings
from wizloop.backends.mlx import adapter as mlx_adapter
from wizloop.backends.mlx import blas, cpu_entropy
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx import losses as mlx_losses
from wizloop.backends.mlx import train as mlx_train
from wizloop.backends.mlx.kinds import kind_of
from wizloop.backends.mlx.load import mx
from wizloop.backends.tiny.build import Shape, build
from wizloop.recipes import policies
from wizloop.recipes.demo_text import demo_samples

TRACES = 4
SIZES = (32, 64, 128, 256)
"""Rows in a batch of batch_generate."""
BATCH = 8
HARM = Choice((" harmful", " unharmful"))
SHAPES = {"tiny": Shape(), "wide": Shape(layers=4, width=512, mlp=1024, heads=8)}
REAL = "smollm2"
FLOOR_ROWS = 1024
"""Tokens in one matrix product of the floor: larger ones run no faster."""


def demo_prompts(seed: int, count: int) -> list[str]:
    """Return the prompts of a demo pool."""
    return [sample.prompt for sample in demo_samples(random.Random(seed), pool=count, seed=0, dev=0, test=0)]


def make_model(folder: Path, name: str) -> None:
    """Build a model of a shape with random weights."""
    texts = demo_prompts(1, 1600)
    fixed = [
        f"Human user:\n\nAI assistant:\nNone\n\nReasoning:\nAnswers:\nRequest: {word}\n"
        for word in ("harmful", "unharmful")
    ] * 4
    build(folder, texts, shape=SHAPES[name], epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)


@contextlib.contextmanager
def model(name: str) -> Iterator[str]:
    """Yield the folder of a model by its name on the command line."""
    if name == REAL:
        from real import fetch

        yield str(model_folder.find(str(fetch())))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), name)
        yield folder


def make_prompts(guard: mlx_guard.Guard, count: int) -> list[Any]:
    """Encode demo prompts behind the real instruction."""
    texts = demo_prompts(2, count)
    shared = policies.instruction() + "\n\n"
    rendered = [
        Prompt(shared, (Part("Human user:\n"), Part(t, data=True), Part("\n\nAI assistant:\nNone\n\n")), "Reasoning:\n")
        for t in texts
    ]
    return [guard.encode(each, max_tokens=512) for each in rendered]


def products(guard: mlx_guard.Guard, tokens: int) -> Callable[[], None]:
    """Return what runs the matrix products of the blocks on `tokens` random rows, and nothing else."""
    import mlx.nn as nn

    blocks = mlx_load.split(guard._loaded.model)[0]
    weights = [module.weight for _, module in blocks.named_modules() if isinstance(module, nn.Linear)]
    pieces = [min(FLOOR_ROWS, tokens - start) for start in range(0, tokens, FLOOR_ROWS)]
    rows = {(size, weight.shape[1]): mx.random.normal((size, weight.shape[1])) for size in pieces for weight in weights}
    mx.eval(rows)

    def run() -> None:
        for size in pieces:
            for weight in weights:
                mx.eval(rows[size, weight.shape[1]] @ weight.T)

    return run


def best_of(repeats: int, contenders: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Return the best seconds per unit of each contender, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            times[name].append(run())
    return {name: min(values) for name, values in times.items()}


def timed(units: int, run: Callable[[], Any]) -> float:
    """Run once and return the seconds per unit."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / units


def contenders_of(
    guard: mlx_guard.Guard, prompts: list[Any], tokens: int, sizes: tuple[int, ...], drawn: dict[str, float]
) -> dict[str, Callable[[], float]]:
    """Return what reads the prompts in each way and returns the seconds per unit; `drawn` gets the tokens per trace."""
    from mlx_lm import generate
    from mlx_lm.generate import batch_generate
    from mlx_lm.sample_utils import make_sampler

    model, tokenizer = guard._loaded.model, guard._loaded.tokenizer
    sampler = make_sampler(temp=0.7, top_p=0.95)
    whole = [[*prompt.shared, *prompt.body] for prompt in prompts]
    traced = sorted([ids for ids in whole for _ in range(TRACES)], key=len)

    def loop() -> float:
        def run() -> None:
            for ids in whole:
                generate(model, tokenizer, prompt=ids, max_tokens=tokens, sampler=sampler)

        return timed(len(whole), run)

    def batched(rows: int) -> Callable[[], float]:
        def run() -> float:
            def once() -> None:
                result = batch_generate(
                    model,
                    tokenizer,
                    traced,
                    max_tokens=tokens,
                    sampler=sampler,
                    completion_batch_size=rows,
                    prefill_batch_size=rows,
                )
                drawn["batch_generate"] = result.stats.generation_tokens / len(traced)

            with contextlib.redirect_stdout(io.StringIO()):
                return timed(len(traced), once)

        return run

    def ours() -> float:
        def run() -> None:
            sampling = Sampling(TRACES, TRACES, 0.7, 0.95, tokens, seed=1, watch={"harm": HARM}, rows=128)
            traces = guard.sample(prompts, sampling)
            drawn["ours"] = sum(trace.tokens for each in traces for trace in each) / len(traced)

        return timed(len(traced), run)

    contenders: dict[str, Callable[[], float]] = {"loop": loop, "ours": ours}
    contenders |= {f"batch_generate {rows}": batched(rows) for rows in sizes}
    contenders["label alone"] = lambda: timed(len(prompts), lambda: guard.score(prompts, HARM))
    floor = products(guard, len(prompts[0].shared) + sum(len(prompt.body) for prompt in prompts))
    contenders["matrix products"] = lambda: timed(len(prompts), floor)
    return contenders


def classify(guard: mlx_guard.Guard, prompts: list[Any], tokens: int, repeats: int) -> dict[str, Any]:
    """Return seconds per trace of the loop, of batch_generate and of ours, and per sample of the label alone."""
    drawn: dict[str, float] = {}
    contenders = contenders_of(guard, prompts, tokens, SIZES, drawn)
    for run in contenders.values():
        run()
    best = best_of(repeats, contenders)
    fastest = min((name for name in best if name.startswith("batch_generate")), key=lambda name: best[name])
    return {
        "traces_per_s": {name: round(1 / seconds, 1) for name, seconds in best.items()},
        "tokens_per_trace": {name: round(value, 2) for name, value in drawn.items()},
        "ours_vs_loop": round(best["loop"] / best["ours"], 2),
        "ours_vs_batch_generate": round(best[fastest] / best["ours"], 2),
        "batch_generate_best": fastest,
        "label_vs_loop": round(best["loop"] / best["label alone"], 1),
        "label_vs_floor": round(best["matrix products"] / best["label alone"], 2),
    }


def dpo(base: str, guard: mlx_guard.Guard, prompts: list[Any], repeats: int) -> dict[str, Any]:
    """Return seconds per HS-DPO step of mlx-lm-lora and of ours, on the same pairs.

    At most 64 pairs, in steps of 8. mlx-lm-lora runs the reference in every step.
    """
    from mlx import optimizers

    reason = "The words ask for help with a plan that would hurt somebody who is named in it.\nAnswers:\nRequest:"
    right, wrong = (reason + word + "\nCompletion: None\nResponse: None" for word in HARM.words)
    # Only whole steps: the peer drops the rest.
    asked = prompts[: min(64, len(prompts) // BATCH * BATCH)]
    pairs = [DpoPair(i, prompt, right, wrong, 1.0) for i, prompt in enumerate(asked)]
    lora = LoraShape(16, 2.0, 0.0, -1)
    theirs = _mlx_lm_lora(base, guard, pairs, lora)

    loaded = mlx_load.load(base, None, quantise=False, fuse=False)
    mlx_adapter.add_new_adapter(loaded.model, lora)
    hidden, head = mlx_load.split(loaded.model)
    settings = TrainSettings(epochs=1, batch=BATCH, lr=1e-5, seed=1, checkpoint_every=1000, max_tokens=1024)
    rows, _ = training_rows.dpo_rows(pairs, guard.tokens, settings.max_tokens)
    plan = training_rows.Plan([len(row.chosen.ids) for row in rows], settings, "benchmark")
    shared = mlx_losses.Shared(hidden, rows[0].chosen.shared, kind_of(loaded.model, loaded.config))
    optimizer = optimizers.AdamW(learning_rate=1e-5)
    loss = mlx_losses.dpo_loss(head, shared, beta=0.1, sft_weight=2.0)
    most = training_memory.most_tokens("mlx", gpu=not mlx_load.on_cpu())

    def ours() -> float:
        def run() -> None:
            # Includes the reference pass, once per epoch here; a run of two epochs pays it once.
            reference = mlx_losses.reference_logprobs(loaded.model, head, shared, rows, most)
            loaded.model.train()
            gradient = mlx_train.pass_gradient(loaded.model, loss)
            for number in range(plan.steps):
                chosen = plan.indices(number)
                passes = training_rows.dpo_passes([rows[i] for i in chosen], reference[chosen], most=most)
                optimizer.update(loaded.model, mlx_train.over_passes(gradient, passes)[1])
                mx.eval(loaded.model.trainable_parameters(), optimizer.state)

        with cpu_entropy.steps():
            return timed(plan.steps, run)

    contenders = {"mlx-lm-lora": theirs, "ours": ours}
    for run in contenders.values():
        run()
    best = best_of(repeats, contenders)
    return {
        "steps_per_s": {name: round(1 / seconds, 2) for name, seconds in best.items()},
        "ours_vs_mlx_lm_lora": round(best["mlx-lm-lora"] / best["ours"], 2),
    }


def _mlx_lm_lora(base: str, guard: mlx_guard.Guard, pairs: list[DpoPair], lora: LoraShape) -> Callable[[], float]:
    """Return a contender that trains one epoch of mlx_lm_lora's train_dpo.

    It asks for a GPU's memory limit, which a CPU does not have; that answer is replaced.
    """
    from mlx import optimizers
    from mlx_lm_lora.trainer.dpo_trainer import DPOTrainingArgs, train_dpo

    model = mlx_load.load(base, None, quantise=False, fuse=False).model
    mlx_adapter.add_new_adapter(model, lora)
    reference = mlx_load.load(base, None, quantise=False, fuse=False).model

    def ids(pair: DpoPair, text: str) -> list[int]:
        return [*pair.prompt.shared, *pair.prompt.body, *guard.tokens.encode(text), guard.tokens.end]

    rows = []
    for pair in pairs:
        length = len(pair.prompt.shared) + len(pair.prompt.body)
        rows.append(
            {
                "chosen": ids(pair, pair.chosen),
                "rejected": ids(pair, pair.rejected),
                "chosen_prompt_length": length,
                "rejected_prompt_length": length,
            }
        )
    steps = len(rows) // BATCH

    def run() -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            args = DPOTrainingArgs(
                batch_size=BATCH,
                iters=steps,
                steps_per_report=steps,
                steps_per_eval=10_000,
                steps_per_save=10_000,
                max_seq_length=1024,
                adapter_file=str(Path(folder) / "adapters.safetensors"),
            )
            known = mx.device_info, mx.set_wired_limit
            mx.device_info, mx.set_wired_limit = lambda: {"max_recommended_working_set_size": 0}, lambda _: 0
            try:
                return timed(
                    steps, lambda: train_dpo(model, reference, optimizers.AdamW(learning_rate=1e-5), rows, None, args)
                )
            finally:
                mx.device_info, mx.set_wired_limit = known

    return run


def device_name() -> str:
    """Return the device, with the BLAS on a CPU."""
    if mlx_load.on_cpu():
        return f"CPU ({sys.platform}, {blas.preload().name})"
    return str(mx.device_info().get("device_name", "GPU"))


def main() -> None:
    """Run all contenders and print the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*SHAPES, REAL], action="append")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24, help="tokens per trace")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.prompts < BATCH:
        parser.error(f"--prompts: a step of HS-DPO needs {BATCH} or more")
    for name in given.model or list(SHAPES):
        with model(name) as folder:
            guard = mlx_guard.load(folder)
            prompts = make_prompts(guard, given.prompts)
            about = {
                "model": name,
                "device": device_name(),
                "python": platform.python_version(),
                "instruction_tokens": len(prompts[0].shared),
                "prompts": len(prompts),
            }
            print(json.dumps(about, indent=2), flush=True)
            read = classify(guard, prompts, given.tokens, given.repeats)
            print(json.dumps({"classify": read}, indent=2), flush=True)
            if name != REAL:
                print(json.dumps({"dpo": dpo(folder, guard, prompts, given.repeats)}, indent=2), flush=True)


if __name__ == "__main__":
    main()
