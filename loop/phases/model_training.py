"""Train one model and store its row. Its folder is complete or absent, and is written before the row.

`train` decides on data and starting point.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wizloop.backends import artifacts
from wizloop.backends.guard_types import (
    DpoPair,
    LoraShape,
    OnStep,
    OnWait,
    SftExample,
    TrainJob,
    TrainResult,
    TrainSettings,
)
from wizloop.loop.context import Context
from wizloop.recipes.training import Dpo
from wizloop.recipes.training import Train as TrainSection
from wizloop.store import models, training
from wizloop.store.db import Connection
from wizloop.store.rows import pieces

T = TypeVar("T")
Train = Callable[[Path, Path, OnStep, OnWait], TrainResult]
"""Train into an empty folder, with a folder for checkpoints."""
Sources = Sequence[tuple[int, int | None, str]]
"""Sample id, teacher trace id and kind of each training example."""

LOG_EVERY = 10
"""Steps between two logged losses."""
HELD_OUT = "held-out"
"""The kind under which the loss on held-out dev samples is stored."""
_TOO_LONG = "prompt and trace together are too long"


@dataclass(frozen=True)
class ModelSpec:
    """The model to train."""

    name: str
    role: str
    parent_id: int | None
    kind: str
    """The kind of training: sft or dpo."""
    meta: dict[str, Any]


def train_once(ctx: Context, spec: ModelSpec, train: Train, used: Sources) -> models.Model:
    """Train a model unless it exists, and return its row; one whose folder is missing or damaged is trained again.

    Raises NotFinite, Interrupted (a checkpoint is kept).
    """
    with ctx.store.read() as db:
        existing = models.by_name(db, spec.name)
    final = ctx.workspace / "models" / spec.name
    if not artifacts.is_whole(final):
        artifacts.remove(final)
        _train(ctx, spec, train, final)
    elif existing is not None:
        return existing
    about = artifacts.about(final)
    with ctx.store.write() as db:
        model_id = models.add(
            db,
            name=spec.name,
            role=spec.role,
            round=ctx.round,
            parent_id=spec.parent_id,
            path=f"models/{spec.name}",
            sha256=artifacts.verify(final),
            meta_json=json.dumps(about, sort_keys=True),
            now=ctx.now(),
        )
        # In the same transaction: an existing model is never looked at again.
        _record(db, ctx.round, model_id, spec, about, used)
        return models.get(db, model_id)


def sft_settings(ctx: Context, name: str, examples: int) -> TrainSettings:
    """Return the recipe's R-SFT settings for a number of examples."""
    how = ctx.recipe.train
    steps_per_epoch = -(-examples // how.batch)
    return _settings(
        ctx,
        how,
        seed=ctx.seed("sft", name),
        epochs=max(how.epochs, -(-how.least_steps // steps_per_epoch)),
        verdict_weight=how.verdict_weight,
        prompt_weight=how.prompt_weight,
        word_dropout=how.word_dropout,
    )


def dpo_settings(ctx: Context, name: str) -> TrainSettings:
    """Return the recipe's HS-DPO settings."""
    how = ctx.recipe.dpo
    seed = ctx.seed("dpo", name)
    return _settings(ctx, how, seed=seed, epochs=how.epochs, beta=how.beta, sft_weight=how.sft_weight)


def lora(ctx: Context) -> LoraShape:
    """Return the recipe's LoRA shape."""
    how = ctx.recipe.train
    return LoraShape(how.rank, how.scale, how.dropout, how.layers, how.method)


def sft(
    ctx: Context,
    name: str,
    start: Path | None,
    examples: Sequence[SftExample],
    held_out: Sequence[SftExample] = (),
) -> Train:
    """Return R-SFT of the base, from an adapter or from none; the loss of `held_out` is measured beside it."""
    settings = sft_settings(ctx, name, len(examples))
    return _training(ctx, ctx.backend.train_sft, start, settings, examples, tuple(held_out))


def dpo(ctx: Context, name: str, start: Path, pairs: Sequence[DpoPair]) -> Train:
    """Return HS-DPO from an adapter, which is also the reference."""
    return _training(ctx, ctx.backend.train_dpo, start, dpo_settings(ctx, name), pairs)


def _training(
    ctx: Context,
    train: Callable[[TrainJob, Sequence[T], OnStep, OnWait], TrainResult],
    start: Path | None,
    settings: TrainSettings,
    lessons: Sequence[T],
    held_out: tuple[SftExample, ...] = (),
) -> Train:
    def run(to: Path, checkpoint: Path, on_step: OnStep, on_wait: OnWait) -> TrainResult:
        job = TrainJob(ctx.base(), start, settings, lora(ctx), to, checkpoint, ctx.quantise, held_out)
        return train(job, lessons, on_step, on_wait)

    return run


def _settings(ctx: Context, how: TrainSection | Dpo, **settings: Any) -> TrainSettings:
    guard = ctx.recipe.guard
    return TrainSettings(
        batch=how.batch,
        lr=how.lr,
        checkpoint_every=ctx.recipe.train.checkpoint_every,
        warmup=ctx.recipe.train.warmup,
        max_tokens=guard.max_prompt_tokens + guard.max_trace_tokens,
        scale=ctx.scale,
        **settings,
    )


def _train(ctx: Context, spec: ModelSpec, train: Train, final: Path) -> None:
    checkpoints = ctx.workspace / "models" / ".checkpoints"
    losses = checkpoints / f"{spec.name}.jsonl"
    checkpoints.mkdir(parents=True, exist_ok=True)
    artifacts.sweep(final.parent)
    about = dict(spec.meta)

    def on_step(step: int, total: int, loss: float) -> None:
        if step % LOG_EVERY == 0 or step == total:
            with losses.open("a", encoding="utf-8") as file:
                # Newline first: a line torn by a full disk or a power cut stays separate from the next.
                file.write("\n" + json.dumps([step, loss]))
        ctx.progress(step, total)

    with artifacts.writing(final, about) as folder:
        result = train(folder, checkpoints / spec.name, on_step, lambda doing: ctx.wait(f"{spec.name}: {doing}"))
        about |= {"steps": result.steps, "halvings": result.halvings, "dropped": result.dropped}
        about["losses"] = sorted(_logged(losses).items())
        about["held_out"] = result.held_out
    losses.unlink(missing_ok=True)
    if result.held_out:
        ctx.say(_told(spec.name, about))


def _told(name: str, about: dict[str, Any]) -> str:
    """Say how the loss fell on what was learned, and on dev."""
    (first, begun), (last, ended) = about["held_out"][0], about["held_out"][-1]
    learned = f"; {about['losses'][-1][1]:.3f} on the lessons of its last step" if about["losses"] else ""
    fell = f"{begun:.3f} after step {first:,}, {ended:.3f} after step {last:,}"
    return f"{name}: loss on held-out dev samples {fell}{learned}."


def _logged(losses: Path) -> dict[int, float]:
    """Return losses by step, the last one of a repeated step; torn lines are skipped."""
    logged: dict[int, float] = {}
    for line in losses.read_text(encoding="utf-8", errors="replace").splitlines() if losses.exists() else ():
        with suppress(ValueError):
            step, loss = json.loads(line)
            logged[step] = loss
    return logged


def _record(db: Connection, round: int, model_id: int, spec: ModelSpec, about: dict[str, Any], used: Sources) -> None:
    """Store what the model was trained on, its losses, and what was too long."""
    for piece in pieces(used):
        training.use(db, model_id, piece)
    # The folder of an older version has none.
    for kind, losses in ((spec.kind, about["losses"]), (HELD_OUT, about.get("held_out", ()))):
        for step, loss in losses:
            training.log(db, model_id, kind, step, loss, "{}")
    for sample_id in sorted(set(about["dropped"])):
        training.dropped(db, round, sample_id, f"{spec.role}-{spec.kind}", _TOO_LONG)
