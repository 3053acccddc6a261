"""Phase export: write the champion as folders for other programs, each with a model card and a parity check."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wizloop import plugins
from wizloop.backends import artifacts
from wizloop.backends.guard_types import BackendError
from wizloop.loop.context import Context
from wizloop.loop.guard import guard_file, run_base
from wizloop.loop.guard.backend import other_library
from wizloop.loop.guard.inference import Direct
from wizloop.loop.guard.judge import Judge
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import model_card, model_roles
from wizloop.loop.stored_samples import usable
from wizloop.recipes.schema import BUILT_IN, recipe_hash
from wizloop.store import control, evaluations, exports, models, reviews, samples, steps, teacher_calls
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Export the champion in the recipe's formats, unless it was exported before."""
    with ctx.store.read() as db:
        champion, wanted = model_roles.champion(db), control.get_run(db)
        before = [one for number in range(ctx.round + 1) for one in exports.of_round(db, number)]
    if champion is None:
        return "no champion to export"
    last = wanted is None or ctx.round >= wanted.rounds_wanted
    if not (ctx.recipe.export.every_round or last):
        return "exported after the last round only"
    done = {one.format for one in before if one.model_id == champion.id}
    formats = [format for format in ctx.recipe.export.formats if format not in done]
    for number, format in enumerate(formats):
        ctx.progress(number, len(formats))
        _export(ctx, champion, format)
    return f"{champion.name} as {', '.join(formats)}" if formats else f"{champion.name} is exported already"


PARTS = 4
"""Steps of an export that are reported, each as it begins; two fewer without a dev sample."""


def _silent(part: str) -> None:
    pass


def write_export(
    ctx: Context, model: models.Model, format: str, final: Path, report: Callable[[str], None] = _silent
) -> dict[str, Any]:
    """Export a model into the new folder `final`, with card and hashes; return the parity of its answers.

    `report` is called with each step as it begins. Raises BackendError, FileExistsError, PluginError, ValueError for
    the base.
    """
    adapter = ctx.adapter(model)
    if adapter is None:
        raise ValueError(f"{model.name} is the base model: there is nothing to export")
    ctx.check(model)
    about = {"model": model.name, "sha256": model.sha256, "format": format, "recipe": recipe_hash(ctx.recipe)}
    with artifacts.writing(final, about, _suffixes(format)) as folder:
        report("writing the weights")
        _write(ctx, format, adapter, folder)
        parity = compare(ctx, model, format, folder, report)
        report("writing the card and the hashes")
        with ctx.store.read() as db:
            base = run_base.named(db, ctx.recipe.guard.base)
        guard_file.write(folder, ctx.recipe, ctx.renderer.instruction, ctx.limits(model).sampling.window, base)
        card = model_card.render(facts(ctx, model, format, parity))
        (folder / "README.md").write_text(card, encoding="utf-8")
    return parity


def _plugin(format: str) -> plugins.Exporter | None:
    """Return the installed exporter of a format; None for a built-in one. Raises PluginError."""
    return None if format in BUILT_IN["exporter"] else plugins.exporter(format)


def _suffixes(format: str) -> Collection[str]:
    plugin = _plugin(format)
    return () if plugin is None else plugin.suffixes


def _write(ctx: Context, format: str, adapter: Path, folder: Path) -> None:
    """Write the weights only. Raises BackendError, PluginError."""
    plugin = _plugin(format)
    if plugin is None:
        ctx.backend.export(format, ctx.base(), adapter, folder)
        return
    with plugins.blamed("exporter", format):
        plugin.export(ctx.base(), adapter, folder)


def compare(
    ctx: Context, model: models.Model, format: str, folder: Path, report: Callable[[str], None] = _silent
) -> dict[str, Any]:
    """Compare the direct answers of the exported model and the original on the same dev samples; see `agreement`."""
    frozen = list(usable(ctx.store, "dev"))[: ctx.recipe.export.parity_n]
    plugin = _plugin(format)
    if not frozen or (plugin is not None and not plugin.loads):
        return {"n": 0, "agree": 0, "max_difference": 0.0}
    report("running the original on dev")
    judge = ctx.judge(model)
    ours = judge.direct(frozen)
    report("running the export on dev")
    whole = format != "adapter"
    base, adapter = (str(folder), None) if whole else (ctx.base(), folder)
    exported = ctx.backend.load(base, adapter, quantise=not whole and ctx.quantise)
    found = agreement(ours, replace(judge, guard=exported).direct(frozen), judge.calibration)
    del exported
    return found if format != "safetensors" else found | _elsewhere(ctx, folder, judge, frozen, ours, found)


def _elsewhere(
    ctx: Context, folder: Path, judge: Judge, frozen: Sequence[Sample], ours: Sequence[Direct], here: dict[str, Any]
) -> dict[str, Any]:
    """Ask the export in the library that did not write it too; return the worse agreement and which were run."""
    own = getattr(ctx.backend, "LIBRARY", ctx.backend.NAME)
    other = {"mlx-lm": "transformers", "transformers": "mlx-lm"}.get(own)
    library, why = other_library(ctx.backend, folder)
    if library is None:
        return {"run": [own], "not_run": {other: why} if other else {}}
    try:
        theirs = replace(judge, guard=library.load(str(folder), None, quantise=False)).direct(frozen)
    except BackendError as error:
        ctx.say(f"{library.LIBRARY} cannot run the export: {error}", "warn")
        return {"run": [own], "not_run": {library.LIBRARY: str(error)}}
    there = agreement(ours, theirs, judge.calibration)
    worse = max(here, there, key=lambda each: (each["n"] - each["agree"], each["max_difference"]))
    return {**worse, "run": sorted([own, library.LIBRARY]), "not_run": {}}


def agreement(ours: Sequence[Direct], theirs: Sequence[Direct], known: Calibration) -> dict[str, Any]:
    """Count the direct verdicts that are the same at the calibrated thresholds."""
    n = agree = 0
    largest = 0.0
    for one, other in zip(ours, theirs, strict=True):
        for task, p in one.p.items():
            threshold = known.threshold(task, "direct")
            n += 1
            agree += (p >= threshold) == (other.p[task] >= threshold)
            largest = max(largest, abs(p - other.p[task]))
    return {"n": n, "agree": agree, "max_difference": largest}


def facts(ctx: Context, model: models.Model, format: str, parity: dict[str, Any]) -> model_card.Facts:
    """Collect the facts for a model's card."""
    with ctx.store.read() as db:
        run = control.get_run(db)
        first, own = steps.get_round(db, 0), steps.get_round(db, model.round)
        scores = evaluations.of_model(db, model.id)
        counts = samples.counts(db)
        base_is = run_base.named(db, ctx.recipe.guard.base)
        calls = [one for number in range(model.round + 1) for one in teacher_calls.calls(db, number)]
        approved, waiting = len(reviews.approved(db, model.round)), reviews.waiting_count(db)
    known = Calibration.from_json(model.calibration_json)
    outcomes = {
        name: dict(Counter(one.result for one in calls if one.teacher == name))
        for name in {one.teacher for one in calls}
    }
    return model_card.Facts(
        model=model.name,
        round=model.round,
        format=format,
        base=ctx.recipe.guard.base,
        base_is={word: value for word, value in base_is.items() if word != "name"},
        run=ctx.recipe.name if run is None else run.name,
        recipe_hash=recipe_hash(ctx.recipe),
        data_hash=data_hash(ctx),
        rendering="" if first is None else str(first.record.get("rendering", "")),
        samples=counts,
        teachers=outcomes,
        reviews={"approved": approved, "waiting": waiting},
        gate="" if own is None else own.gate_reason or "",
        evaluations=scores,
        parity=parity,
        loads=(plugin := _plugin(format)) is None or plugin.loads,
        thresholds=known.thresholds,
        source=known.source,
        example=ctx.renderer.example(),
        longest=ctx.recipe.guard.max_prompt_tokens,
    )


def data_hash(ctx: Context) -> str:
    """Return the SHA-256 (hex) over the hashes of every usable sample, split by split."""
    digest = hashlib.sha256()
    for split in samples.SPLITS:
        for sample in usable(ctx.store, split):
            digest.update(f"{split}:{sample.hash}\n".encode())
    return digest.hexdigest()


def _export(ctx: Context, model: models.Model, format: str) -> None:
    final = ctx.workspace / "exports" / f"{ctx.round:02d}-{format}"
    artifacts.sweep(final.parent)
    # An existing folder was written before a crash, but has no row yet.
    parity = compare(ctx, model, format, final) if final.exists() else write_export(ctx, model, format, final)
    with ctx.store.write() as db:
        path, sha256 = f"exports/{final.name}", artifacts.verify(final, _suffixes(format))
        exports.add(db, ctx.round, model.id, format, path, json.dumps(parity), sha256, ctx.now())
    if parity["agree"] < parity["n"]:
        ctx.say(
            f"The export {final.name} agrees with its model on {parity['agree']} of {parity['n']} verdicts; "
            f"probabilities differ by at most {parity['max_difference']:.4f}.",
            "warn",
            parity,
        )
