"""Traces for any file, outside of a run: phase teach on a small workspace next to the output.

That workspace is the ledger: the same command, run again, asks only for what is missing. Its run holds the cap
that every reservation is checked against, and the recipe; `costs`, `teach --keep` and similar commands work on it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.backends.teachers.base import TeacherTrace
from wizloop.loop.context import Context
from wizloop.loop.data.import_file import ImportReport, list_refused
from wizloop.loop.data.sample_reader import AS_IT_IS
from wizloop.loop.phases import import_samples
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import clients
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.screens import screened
from wizloop.loop.words import Declaration
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash, stored
from wizloop.recipes.sections import Data, Review
from wizloop.store import control, costs, samples, selections, sending, spending, steps, teacher_calls
from wizloop.store.db import Store
from wizloop.store.samples import Sample

PHASE = "teach"
_REASONING = tuple(TeacherTrace.model_fields)[:6]
"""The trace's fields before its steps."""


class OtherQuestions(ValueError):
    """The ledger next to the output belongs to another recipe, teacher or file."""


def ledger_of(out: Path) -> Path:
    """Return the workspace next to an output file."""
    return out.with_name(f"{out.name}.ledger")


def recipe_for(base: Recipe | None, teacher: str | None, *, sees_label: bool = False) -> Recipe:
    """Return `base`, or a recipe of defaults, with this one teacher if it is named. Raises ValueError.

    The rows are a pool's, whose labels a teacher sees only if the recipe or `sees_label` says all.
    """
    values: dict[str, Any] = {"name": "teach", "source": "demo"} if base is None else base.model_dump(mode="json")
    if sees_label:
        values["teacher"] = {**values.get("teacher", {}), "sees_label": "all"}
    if teacher is not None:
        section = dict(values.get("teacher", {}))
        for other in {"recorded", "openai", "traces"} - {teacher}:
            section.pop(other, None)
        options = {name: given for name, given in section.pop("options", {}).items() if name == teacher}
        values["teacher"] = {**section, "options": options, "names": [teacher]}
    return Recipe.model_validate_json(json.dumps(values))


def write_traces(
    file: Path,
    out: Path,
    recipe: Recipe,
    how: Mapping[str, Any] = AS_IT_IS,
    *,
    limit: int | None,
    cap_micro: int | None,
    clock: Callable[[], datetime],
    stop_asked: Callable[[], bool],
) -> dict[str, Any]:
    """Ask the recipe's teachers about the rows of a file, write `out` and return its metadata.

    `how` the file is read is settings of [[data]].
    Raises ImportRefused, OtherQuestions, clients.NotReady, PriceError, Interrupted (answers are kept).
    """
    asked = clients.clients_of(recipe, clock(), capped=cap_micro is not None)
    with Store.create(ledger_of(out)) as store:
        ctx = Context(store, ledger_of(out), recipe, 0, PHASE, clock, stop_asked)
        _begin(ctx, file, how, cap_micro)
        taken = import_samples.import_file(ctx, Data(path=str(file), split="pool", limit=limit, skip_bad=True, **how))
        _pick_all(ctx)
        try:
            teach(ctx, asked)
        finally:
            clients.close(asked)
        document = _document(ctx, asked, taken)
    aside = out.with_name(f"{out.name}.part")
    aside.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(out)
    return dict(document["metadata"])


def _begin(ctx: Context, file: Path, how: Mapping[str, Any], cap_micro: int | None) -> None:
    recipe, digest = ctx.recipe, recipe_hash(ctx.recipe)
    made: dict[str, Any] = {"recipe_json": canonical_json(recipe), "recipe_hash": digest, "seed": recipe.seed}
    with ctx.store.write() as db:
        run = control.get_run(db)
        if run is None:
            limits: dict[str, Any] = {"cap_micro": cap_micro, "until": None, "rounds_wanted": 0}
            control.create_run(db, name=recipe.name, now=ctx.now(), **made, **limits)
        elif recipe_hash(stored(run.recipe_json)) != digest:
            # Read again before it is compared: an older version wrote fewer keys.
            raise OtherQuestions(f"{ctx.workspace} holds calls of another recipe or teacher: choose another --out")
        control.set_limits(db, cap_micro=cap_micro)
        steps.begin_round(db, 0, None, ctx.now())
        begun = steps.get_round(db, 0)
        if begun is not None and begun.record.get("file", file.name) != file.name:
            raise OtherQuestions(f"{ctx.workspace} holds calls about {begun.record['file']}: choose another --out")
        if begun is not None and begun.record.get("read", {}) != dict(how) and "file" in begun.record:
            raise OtherQuestions(f"{ctx.workspace} holds calls about rows read in another way: choose another --out")
        steps.merge_record(db, 0, {"file": file.name} | ({"read": dict(how)} if how else {}))
        steps.begin_step(db, 0, PHASE, ctx.now())


def _pick_all(ctx: Context) -> None:
    with ctx.store.read() as db:
        ids = samples.ids(db, "pool")
    picked = [selections.Selection(0, one, "random", 0.0, one, None, "Named on the command line.") for one in ids]
    with ctx.store.write() as db:
        selections.add(db, picked)


def _document(ctx: Context, asked: Sequence[TeacherClient], taken: ImportReport) -> dict[str, Any]:
    with ctx.store.read() as db:
        ids = samples.ids(db, "pool")
        known = {one.id: one for one in samples.get(db, ids)}
        kept_back = sending.kept_back(db, ids)
        found = {one.sample_id: one for one in teacher_calls.traces(db, 0)}
        money, begun, failed = spending.budget(db), steps.get_round(db, 0), costs.failures(db)
    review = ctx.recipe.review
    rows = [_row(known[one], found[one], review, ctx.declared) for one in ids if one in found]
    blind = ctx.recipe.teacher.sees_label != "all"
    judged = [row["correct"] for row in rows if row["correct"] is not None] if blind else []
    metadata = {
        "generated": ctx.now().isoformat(timespec="seconds"),
        "teachers": [client.name for client in asked],
        "model": ", ".join(client.teacher.model for client in asked),
        "total_samples": len(ids),
        "answered": len(rows),
        "left_out": len(taken.refused),
        "why_left_out": list_refused(taken.refused),
        "unknown_labels": taken.unknown_labels,
        "kept_back": len(kept_back),
        "sees_label": not blind,
        "accuracy": sum(judged) / len(judged) if judged else None,
        "usd": money.settled_micro / 1e6,
        "usd_reserved": money.reserved_micro / 1e6,
        "given_up": {} if begun is None else begun.record["teach"]["given_up"],
        "failures": [asdict(one) for one in failed],
    }
    return {"metadata": metadata, "traces": rows}


def _row(sample: Sample, trace: teacher_calls.TeacherTrace, review: Review, declared: Declaration) -> dict[str, Any]:
    """Return one trace in the published format, with the verdicts on all three tasks and the screens it failed."""
    task = declared.main_task(sample)
    expected, predicted = getattr(sample, samples.LABELS[task]), trace.verdict[task]
    whole = json.loads(trace.trace_json)
    chain = [f"Step {n}: {step}" for n, step in enumerate(whole[f"{task}_steps"], start=1)]
    reasoning = {name: whole[name] for name in _REASONING}
    reasoning |= {"reasoning_chain": chain, "final_label": predicted, "confidence": trace.confidence_word}
    return {
        "id": sample.id,
        "text": sample.prompt,
        "response": sample.response,
        "task": task,
        "expected_label": expected,
        "predicted_label": predicted,
        "confidence": trace.confidence_word,
        "correct": None if expected is None else expected == predicted,
        "verdicts": trace.verdict,
        "teacher": trace.teacher,
        "reasoning": {**reasoning, "explanation": trace.explanation},
        "steps": json.loads(trace.steps_json),
        "screened": []
        if trace.teacher in clients.TEMPLATES
        else [one.why for one in screened(review, sample, trace, declared)],
    }
