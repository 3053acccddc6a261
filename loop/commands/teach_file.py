"""Traces for any file, outside of a run: the phase teach on a small workspace beside the output.

That workspace is the ledger of what was paid: the same command again asks for what is missing and for nothing twice.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.guard.rendering import main_task
from wizloop.loop.phases import import_samples
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import clients
from wizloop.loop.teaching.calls import Seat
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.recipes.sections import Data
from wizloop.store import control, samples, selections, steps, teacher_calls
from wizloop.store.db import Store
from wizloop.store.samples import Sample

PHASE = "teach"
_REASONING = (
    "surface_analysis",
    "legitimate_uses",
    "harmful_uses",
    "context_clues",
    "risk_factors",
    "mitigating_factors",
)


class OtherQuestions(ValueError):
    """The ledger beside the output was made with another recipe or teacher."""


def ledger_of(out: Path) -> Path:
    """The workspace that stands beside an output file."""
    return out.with_name(f"{out.name}.ledger")


def recipe_for(base: Recipe | None, teacher: str | None) -> Recipe:
    """The recipe that asks: `base`, or one of defaults, with this one teacher where it is named. Raises ValueError."""
    asked: dict[str, Any] = {"name": "teach", "source": "demo"} if base is None else base.model_dump(mode="json")
    if teacher is not None:
        section = dict(asked.get("teacher", {}))
        for other in {"recorded", "openai"} - {teacher}:
            section.pop(other, None)
        options = {name: given for name, given in section.pop("options", {}).items() if name == teacher}
        asked["teacher"] = {**section, "options": options, "names": [teacher]}
    return Recipe.model_validate_json(json.dumps(asked))


def traces_of(
    file: Path,
    out: Path,
    recipe: Recipe,
    *,
    limit: int | None,
    cap_micro: int | None,
    clock: Callable[[], datetime],
    stop_asked: Callable[[], bool],
) -> dict[str, Any]:
    """Ask the recipe's teachers about the rows of a file, and write `out`; its metadata.

    Raises ImportRefused, OtherQuestions, seats.NotReady, PriceError, Interrupted (what was answered is kept).
    """
    asked = clients.seats(recipe, clock(), capped=cap_micro is not None)
    with Store.create(ledger_of(out)) as store:
        ctx = Context(store, ledger_of(out), recipe, 0, PHASE, clock, stop_asked)
        _begin(ctx, file, cap_micro)
        # What was left out is seen in the output, which has no trace of it.
        import_samples.import_file(ctx, Data(path=str(file), split="pool", limit=limit, skip_bad=True))
        _pick_all(ctx)
        try:
            teach(ctx, asked)
        finally:
            clients.close(asked)
        found = _document(ctx, asked)
    aside = out.with_name(f"{out.name}.part")
    aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(out)
    metadata: dict[str, Any] = found["metadata"]
    return metadata


def _begin(ctx: Context, file: Path, cap_micro: int | None) -> None:
    with ctx.store.write() as db:
        run = control.get_run(db)
        if run is None:
            control.create_run(
                db,
                name=ctx.recipe.name,
                recipe_json=canonical_json(ctx.recipe),
                recipe_hash=recipe_hash(ctx.recipe),
                seed=ctx.recipe.seed,
                cap_micro=cap_micro,
                until=None,
                rounds_wanted=0,
                now=ctx.now(),
            )
        elif run.recipe_hash != recipe_hash(ctx.recipe):
            raise OtherQuestions(f"{ctx.workspace} holds calls of another recipe or teacher: name another --out")
        control.set_limits(db, cap_micro=cap_micro)
        steps.begin_round(db, 0, None, ctx.now())
        begun = steps.get_round(db, 0)
        if begun is not None and begun.record.get("file", file.name) != file.name:
            raise OtherQuestions(f"{ctx.workspace} holds calls about {begun.record['file']}: name another --out")
        steps.merge_record(db, 0, {"file": file.name})
        steps.begin_step(db, 0, PHASE, ctx.now())


def _pick_all(ctx: Context) -> None:
    with ctx.store.read() as db:
        ids = samples.ids(db, "pool")
    picked = [selections.Selection(0, one, "random", 0.0, one, None, "Named on the command line.") for one in ids]
    with ctx.store.write() as db:
        selections.add(db, picked)


def _document(ctx: Context, asked: Sequence[Seat]) -> dict[str, Any]:
    with ctx.store.read() as db:
        ids = samples.ids(db, "pool")
        known = {one.id: one for one in samples.get(db, ids)}
        found = {one.sample_id: one for one in teacher_calls.traces(db, 0)}
        money = teacher_calls.budget(db)
    rows = [_row(known[one], found[one]) for one in ids if one in found]
    judged = [row["correct"] for row in rows if row["correct"] is not None]
    metadata = {
        "generated": ctx.now().isoformat(timespec="seconds"),
        "teachers": [seat.name for seat in asked],
        "model": ", ".join(seat.teacher.model for seat in asked),
        "total_samples": len(ids),
        "answered": len(rows),
        "accuracy": sum(judged) / len(judged) if judged else None,
        "usd": money.settled_micro / 1e6,
        "usd_reserved": money.reserved_micro / 1e6,
    }
    return {"metadata": metadata, "traces": rows}


def _row(sample: Sample, trace: teacher_calls.TeacherTrace) -> dict[str, Any]:
    """One trace in the published shape, the verdicts on all three tasks beside it."""
    task = main_task(sample)
    expected, said = getattr(sample, samples.LABELS[task]), trace.verdict[task]
    whole = json.loads(trace.trace_json)
    chain = [f"Step {n}: {step}" for n, step in enumerate(whole[f"{task}_steps"], start=1)]
    reasoning = {name: whole[name] for name in _REASONING}
    reasoning |= {"reasoning_chain": chain, "final_label": said, "confidence": trace.confidence_word}
    return {
        "id": sample.id,
        "text": sample.prompt,
        "response": sample.response,
        "task": task,
        "expected_label": expected,
        "predicted_label": said,
        "confidence": trace.confidence_word,
        "correct": None if expected is None else expected == said,
        "verdicts": trace.verdict,
        "teacher": trace.teacher,
        "reasoning": {**reasoning, "explanation": trace.explanation},
        "steps": json.loads(trace.steps_json),
    }
