"""Phase prepare: build or load the base model, and store the run's prompt rendering."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import islice, product
from pathlib import Path

from wizloop.backends import artifacts, bounded_chat, devices, model_folder
from wizloop.backends.chat import Frame
from wizloop.backends.guard_types import NOT_FINITE, BadArtifact
from wizloop.backends.tiny.build import Shape
from wizloop.loop.context import Context
from wizloop.loop.guard import (
    backend,
    categories,
    grammar,
    instructions,
    kept_rendering,
    run_base,
    shown_policies,
)
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.inference import ask_direct
from wizloop.loop.guard.judge import renderer_of
from wizloop.loop.guard.rendering import ASSISTANT, HUMAN, TRACE_OPENING, choice
from wizloop.loop.phases import gate, model_roles
from wizloop.loop.stored_samples import usable
from wizloop.loop.teaching.teachers import sentences
from wizloop.loop.words import DEFAULT, NONE, Declaration, Verdict
from wizloop.store import models, samples, steps, teacher_calls
from wizloop.store.samples import Sample

SENTENCES = 400
"""Explanations in the pretraining text of the tiny guard."""


def run(ctx: Context) -> str:
    """Build the tiny guard, or check that the recipe's model loads. Raises BackendError, ImportRefused, ValueError."""
    if ctx.given is None:
        ctx.say(devices.pick(ctx.recipe.guard.backend, ctx.recipe.guard.device).sentence())
    tiny = ctx.recipe.guard.base == "tiny"
    if not tiny:
        pin(ctx)
        _refuse_unreadable(ctx)
    keep_rendering(ctx)
    if tiny and not Path(ctx.base()).exists():
        build(ctx)
    sha256, meta = (artifacts.verify(Path(ctx.base())), {}) if tiny else run_base.identify(ctx.base(), ctx.progress)
    _ask_once(ctx, ctx.backend.load(ctx.base(), None, quantise=ctx.quantise))
    for other in ctx.recipe.members.others:
        if other.base:
            ctx.backend.load(other.base, None, quantise=ctx.quantise)
    if ctx.recipe.guard.server is not None:
        # Late import: HTTP is loaded only for a server.
        from wizloop.loop.guard import server

        with closing(server.load(ctx.recipe.guard, ctx.base(), None)) as guard:
            ctx.say(guard.sentence(), "info" if guard.whole else "warn")
    with ctx.store.write() as db:
        models.add(
            db,
            name=model_roles.BASE,
            role="base",
            round=0,
            parent_id=None,
            path="models/base" if tiny else ctx.base(),
            sha256=sha256,
            meta_json=json.dumps(meta, sort_keys=True),
            now=ctx.now(),
        )
        steps.merge_record(db, ctx.round, {"base": ctx.recipe.guard.base})
    keep_bound(ctx)
    return "the tiny guard is built" if tiny else f"{ctx.base()} loads"


def keep_bound(ctx: Context) -> None:
    """Work out, before anything is taught, what the gates can exclude on dev, and say it."""
    bound = gate.bound_on(usable(ctx.store, "dev"), ctx.recipe.rounds, ctx.declared)
    if bound is not None:
        ctx.say(bound.sentence(ctx.recipe.gate.margin))
        with ctx.store.write() as db:
            steps.merge_record(db, ctx.round, {gate.BOUND: asdict(bound)})


def pin(ctx: Context) -> None:
    """Record the hub's commit of the base before anything is loaded from it: every later load takes that one."""
    commit = model_folder.revision_of(model_folder.find(ctx.base()))
    if commit is not None:
        with ctx.store.write() as db:
            steps.merge_record(db, ctx.round, {run_base.REVISION: commit})


def _refuse_unreadable(ctx: Context) -> None:
    """Raise BadArtifact for a base that the backend would not read as it was trained; the dry run says it too."""
    longest = ctx.recipe.guard.max_prompt_tokens + ctx.recipe.guard.max_trace_tokens
    if why := backend.base_fault(ctx.backend, str(model_folder.find(ctx.base())), longest):
        raise BadArtifact(why)


def _ask_once(ctx: Context, guard: Guard) -> None:
    """Ask the base about one sample, whole instruction included, before a teacher is paid. Raises BadArtifact."""
    sample = next(iter(_texts(ctx)), None)
    if sample is None:
        return
    renderer = ctx.renderer
    if renderer.policies is not None:
        renderer = replace(renderer, shown=shown_policies.longest(renderer.policies))
    [direct] = ask_direct(guard, renderer, [sample], max_tokens=ctx.recipe.guard.max_prompt_tokens)
    if not all(math.isfinite(p) for p in direct.p.values()):
        raise BadArtifact(f"{ctx.base()}: {NOT_FINITE}")
    for task in ctx.declared.tasks if ctx.declared != DEFAULT else ():
        # Raises BackendError for labels that this tokenizer cannot tell apart.
        guard.score((), choice(task, ctx.declared))


def keep_rendering(ctx: Context) -> None:
    """Render instruction, policies and chat template once, for the whole run, and say what the template needed.

    A start that was interrupted here renders anew: nothing has been asked yet. Raises BackendError, ImportRefused,
    PolicyError.
    """
    settings = categories.settled(ctx.recipe)
    frame = Frame("", "")
    if settings.template == "chat":
        frame = bounded_chat.render(ctx.base())
    instruction, policies = instructions.read(ctx.recipe) or "", shown_policies.read(settings)
    kept = (frame.before, frame.after)
    renderer = renderer_of(settings, ctx.base(), instruction, kept, policies=policies, declared=ctx.declared)
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, kept_rendering.record_of(renderer))
    if frame.notes:
        ctx.say(f"The chat template of {ctx.base()} is kept for the run: {'; '.join(frame.notes)}.")


def build(ctx: Context) -> None:
    """Build the tiny guard from the pool's prompts and the answer format. Raises ValueError for too small a pool."""
    pool = list(_texts(ctx))
    wanted = ctx.recipe.guard.tiny
    shape = Shape(wanted.vocab, wanted.layers, wanted.width, wanted.mlp)
    reasons = [*sentences(ctx.recipe, list(islice(pool, SENTENCES))), *_imported_reasons(ctx)]
    final = Path(ctx.base())
    artifacts.sweep(final.parent)
    with artifacts.writing(final, {"made_by": "wizloop", "seed": ctx.seed("tiny")}) as folder:
        ctx.backend.build_tiny(
            folder,
            [sample.prompt for sample in pool],
            shape=shape,
            epochs=wanted.epochs,
            seed=ctx.seed("tiny"),
            progress=lambda _, done, total: ctx.progress(done, total),
            fixed_texts=fixed_texts(
                reasons, ctx.renderer.instruction, ctx.renderer.shown, ctx.declared, ctx.renderer.categories
            ),
        )


def _texts(ctx: Context) -> Iterator[Sample]:
    """Yield the samples whose wording the guard meets: the pool's or, in a run without a pool, the seed's."""
    with ctx.store.read() as db:
        split = "pool" if samples.counts(db)["pool"] else "seed"
    return usable(ctx.store, split)


def _imported_reasons(ctx: Context) -> list[str]:
    """Return the sentences of traces that were imported before the run, as far as the pretraining text has room."""
    with ctx.store.read() as db:
        return [trace.explanation for trace in teacher_calls.traces(db, ctx.round)[:SENTENCES]]


def fixed_texts(
    reasons: Sequence[str],
    instruction: str,
    policies: str = "",
    declared: Declaration = DEFAULT,
    names: Sequence[str] = (),
) -> list[str]:
    """Return the pretraining text besides the prompts: instruction, policies, answer blocks, reasons with a block.

    The blocks, each with every ending in categories, rotate over the reasons, so that this text teaches no verdict.
    """
    endings = categories.endings(names)
    blocks = [f"{grammar.answer_block(verdict, declared)}{end}" for end in endings for verdict in _verdicts(declared)]
    framed = [
        f"{instruction}\n\n{HUMAN}",
        *([f"{policies}\n\n"] if policies else ()),
        f"{ASSISTANT}{NONE}\n\n",
        *blocks,
    ]
    return framed + [f"{TRACE_OPENING}{reason}\n{blocks[at % len(blocks)]}" for at, reason in enumerate(reasons)]


def _verdicts(declared: Declaration) -> list[Verdict]:
    alone: list[Verdict] = [{"request": label} for label in declared.request]
    whole = product(*declared.by_task.values())
    return alone + [dict(zip(declared.tasks, labels, strict=True)) for labels in whole]
