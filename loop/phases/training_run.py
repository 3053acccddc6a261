"""One model trained and put on record: its folder is whole or not there, the row comes after it.

Which data and which start it has is decided in `train`.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wizloop.backends import artifacts
from wizloop.backends.guard_types import DpoPair, LoraShape, OnStep, SftExample, TrainJob, TrainResult, TrainSettings
from wizloop.loop.context import Context
from wizloop.store import models, training
from wizloop.store.db import Connection
from wizloop.store.rows import pieces

Train = Callable[[Path, Path, OnStep], TrainResult]
"""Trains into an empty folder, with a folder for checkpoints."""

LOG_EVERY = 10
"""Steps between two logged losses."""
_TOO_LONG = "prompt and trace are too long together"


@dataclass(frozen=True)
class Wanted:
    """The model to be made."""

    name: str
    role: str
    parent_id: int | None
    kind: str
    """Of its training, in the log: sft or dpo."""
    meta: dict[str, Any]


def made(ctx: Context, wanted: Wanted, train: Train, used: Sequence[tuple[int, int | None, str]]) -> models.Model:
    """The model, trained unless it is there already. Raises NotFinite, Interrupted (a checkpoint is kept)."""
    with ctx.store.read() as db:
        there = models.by_name(db, wanted.name)
    if there is not None:
        return there
    final = ctx.workspace / "models" / wanted.name
    if not final.exists():
        _train(ctx, wanted, train, final)
    about = artifacts.about(final)
    with ctx.store.write() as db:
        model_id = models.add(
            db,
            name=wanted.name,
            role=wanted.role,
            round=ctx.round,
            parent_id=wanted.parent_id,
            path=f"models/{wanted.name}",
            sha256=artifacts.verify(final),
            meta_json=json.dumps(about, sort_keys=True),
            now=ctx.now(),
        )
        # With the row and not after it: a model that is there is never looked at again.
        _record(db, ctx.round, model_id, wanted, about, used)
        return models.get(db, model_id)


def sft_settings(ctx: Context, name: str, examples: int) -> TrainSettings:
    """The recipe's R-SFT of so many examples."""
    how = ctx.recipe.train
    steps_of_epoch = -(-examples // how.batch)
    return TrainSettings(
        epochs=max(how.epochs, -(-how.least_steps // steps_of_epoch)),
        batch=how.batch,
        lr=how.lr,
        seed=ctx.seed("sft", name),
        checkpoint_every=how.checkpoint_every,
        max_tokens=_longest(ctx),
        verdict_weight=how.verdict_weight,
        prompt_weight=how.prompt_weight,
        word_dropout=how.word_dropout,
        scale=ctx.scale,
    )


def dpo_settings(ctx: Context, name: str) -> TrainSettings:
    """The recipe's HS-DPO."""
    how = ctx.recipe.dpo
    return TrainSettings(
        epochs=how.epochs,
        batch=how.batch,
        lr=how.lr,
        seed=ctx.seed("dpo", name),
        checkpoint_every=ctx.recipe.train.checkpoint_every,
        max_tokens=_longest(ctx),
        beta=how.beta,
        sft_weight=how.sft_weight,
        scale=ctx.scale,
    )


def lora(ctx: Context) -> LoraShape:
    how = ctx.recipe.train
    return LoraShape(how.rank, how.scale, how.dropout, how.layers)


def sft(ctx: Context, name: str, start: Path | None, examples: Sequence[SftExample]) -> Train:
    """R-SFT of the base from an adapter, or from none."""

    def train(to: Path, checkpoint: Path, on_step: OnStep) -> TrainResult:
        settings = sft_settings(ctx, name, len(examples))
        job = TrainJob(ctx.base(), start, settings, lora(ctx), to, checkpoint, ctx.quantise)
        return ctx.backend.train_sft(job, examples, on_step)

    return train


def dpo(ctx: Context, name: str, start: Path, pairs: Sequence[DpoPair]) -> Train:
    """HS-DPO from an adapter, which is also the reference."""

    def train(to: Path, checkpoint: Path, on_step: OnStep) -> TrainResult:
        job = TrainJob(ctx.base(), start, dpo_settings(ctx, name), lora(ctx), to, checkpoint, ctx.quantise)
        return ctx.backend.train_dpo(job, pairs, on_step)

    return train


def _train(ctx: Context, wanted: Wanted, train: Train, final: Path) -> None:
    checkpoints = ctx.workspace / "models" / ".checkpoints"
    losses = checkpoints / f"{wanted.name}.jsonl"
    checkpoints.mkdir(parents=True, exist_ok=True)
    artifacts.sweep(final.parent)
    about = dict(wanted.meta)

    def on_step(step: int, total: int, loss: float) -> None:
        if step % LOG_EVERY == 0 or step == total:
            with losses.open("a", encoding="utf-8") as file:
                # Before it and not behind it: a line that a full disk or a power cut tore stays by itself.
                file.write("\n" + json.dumps([step, loss]))
        ctx.between_pieces(step, total)

    with artifacts.writing(final, about) as folder:
        result = train(folder, checkpoints / wanted.name, on_step)
        about |= {"steps": result.steps, "halvings": result.halvings, "dropped": result.dropped}
        about["losses"] = sorted(_logged(losses).items())
    losses.unlink(missing_ok=True)


def _logged(losses: Path) -> dict[int, float]:
    """Losses by step, of a step that was done again the last; a line that is not whole is not counted."""
    logged: dict[int, float] = {}
    for line in losses.read_text(encoding="utf-8", errors="replace").splitlines() if losses.exists() else ():
        with suppress(ValueError):
            step, loss = json.loads(line)
            logged[step] = loss
    return logged


def _record(
    db: Connection,
    round: int,
    model_id: int,
    wanted: Wanted,
    about: dict[str, Any],
    used: Sequence[tuple[int, int | None, str]],
) -> None:
    """Note what the model was trained on, its losses, and what was too long."""
    for piece in pieces(used):
        training.use(db, model_id, piece)
    for step, loss in about["losses"]:
        training.log(db, model_id, wanted.kind, step, loss, "{}")
    for sample_id in sorted(set(about["dropped"])):
        training.dropped(db, round, sample_id, f"{wanted.role}-{wanted.kind}", _TOO_LONG)


def _longest(ctx: Context) -> int:
    return ctx.recipe.guard.max_prompt_tokens + ctx.recipe.guard.max_trace_tokens
