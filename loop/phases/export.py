"""Phase export: write the champion as folders for other programs, each with a model card and a parity check."""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from wizloop import plugins
from wizloop.backends import artifacts, gguf_names, model_folder
from wizloop.backends.guard_types import BackendError, BadArtifact
from wizloop.console import by_policy, chosen
from wizloop.loop.context import Context
from wizloop.loop.guard import guard_file, modelfile, run_base, speed
from wizloop.loop.guard.backend import ADAPTERS, GGUF, other_library
from wizloop.loop.guard.inference import Direct
from wizloop.loop.guard.judge import Judge
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import card_head, linear_export, lossy_export, model_card, model_roles
from wizloop.loop.phases.lossy_export import LOSSY, FailedExport
from wizloop.loop.stored_samples import usable
from wizloop.recipes.schema import BUILT_IN, recipe_hash
from wizloop.store import control, evaluations, exports, models, reviews, samples, steps, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Export the champion in the recipe's formats, unless it was exported before."""
    with ctx.store.read() as db:
        champion, wanted = model_roles.champion(db), control.get_run(db)
        before = [one for number in range(ctx.round + 1) for one in exports.of_round(db, number)]
    if champion is None:
        return "no champion to export: no challenger has passed the gate, and the base stays"
    last = wanted is None or ctx.round >= wanted.rounds_wanted
    wanted_now = ctx.recipe.export.formats if last else ctx.recipe.export.after_round()
    if not wanted_now:
        return "exported after the last round only"
    done = {one.format for one in before if one.model_id == champion.id}
    formats = [format for format in wanted_now if format not in done]
    steps_of = [parts(ctx, format) for format in formats]
    for number, format in enumerate(formats):
        _export(ctx, champion, format, _watched(ctx, sum(steps_of[:number]), sum(steps_of)))
    return f"{champion.name} as {', '.join(formats)}" if formats else f"{champion.name} is exported already"


def _watched(ctx: Context, done: int, total: int) -> Callable[[str], None]:
    """Return a report that stores the progress: a long measurement shows it, and ends when the user asks for it."""
    steps_done = count(done)
    return lambda part: ctx.progress(next(steps_done), total)


def parts(ctx: Context, format: str) -> int:
    """Return how many steps of an export are reported, each as it begins; two fewer without a dev sample."""
    return 2 + (lossy_export.batches(ctx) if format in LOSSY else 2)


def _silent(part: str) -> None:
    pass


def write_export(
    ctx: Context,
    model: models.Model,
    format: str,
    final: Path,
    report: Callable[[str], None] = _silent,
    *,
    timed: bool = False,
) -> dict[str, Any]:
    """Export a model into the new folder `final`, with card and hashes; return the parity of its answers.

    `report` is called with each step as it begins; `timed` measures speed for the card, which then is never the same
    twice. A lossy export gets thresholds and figures of its own. Raises
    BackendError, FailedExport if it loses more than the recipe's margin, which leaves no folder, FileExistsError,
    PluginError, ValueError for a format that needs a taught guard.
    """
    about: dict[str, Any] = {"model": model.name, "sha256": model.sha256, "format": format}
    about["recipe"] = recipe_hash(ctx.recipe)
    with artifacts.writing(final, about, _suffixes(format)) as folder:
        # A wrong folder is told at once, before gigabytes are hashed.
        ctx.check(model)
        report("writing the weights")
        _write(ctx, model, format, folder)
        known = linear_export.calibration_for(ctx, model, format)
        if known is not None and known.reads_linear:
            linear_export.write(ctx, model, folder)
        if format in LOSSY:
            known, about["parity"] = _measured(ctx, model, format, folder, report)
        else:
            about["parity"] = compare(ctx, model, format, folder, report)
        report("writing the card and the hashes")
        window = ctx.limits(model).sampling.window
        guard_file.write(folder, ctx.recipe, ctx.renderer, window, ctx.reader(model), known, _base(ctx))
        found = facts(ctx, model, format, about["parity"], known, timed=timed)
        # The figures of a lossy export are its own, and its speed is not measured.
        if timed and format not in LOSSY and about["parity"]["n"]:
            found = replace(found, speed=speed.of_few(ctx.judge(model), list(usable(ctx.store, "dev"))))
        card = model_card.render(found)
        (folder / "README.md").write_text(card, encoding="utf-8")
    parity: dict[str, Any] = about["parity"]
    return parity


def _base(ctx: Context) -> dict[str, str]:
    """Return how an export names its base."""
    with ctx.store.read() as db:
        return run_base.named(db, ctx.recipe.guard.base)


def finished(ctx: Context, model: models.Model, format: str) -> Path | None:
    """Return the undamaged folder in which the night has exported a model in a format, or None."""
    with ctx.store.read() as db:
        rows = [one for round in steps.rounds(db) for one in exports.of_round(db, round.number)]
    for one in rows:
        folder = ctx.workspace / one.path
        if (one.model_id, one.format, one.failed) == (model.id, format, None) and folder.is_dir():
            with suppress(BadArtifact):
                artifacts.verify(folder, _suffixes(format))
                return folder
    return None


def _measured(
    ctx: Context, model: models.Model, format: str, folder: Path, report: Callable[[str], None]
) -> tuple[Calibration, dict[str, Any]]:
    """Return the thresholds and figures of a lossy export. Raises FailedExport."""
    with _loadable(format, folder) as place:
        exported = lossy_export.loaded(ctx, model, place)
    found = lossy_export.measure(ctx, model, exported, report)
    if not found.parity["passed"]:
        raise FailedExport(
            f"the export of {model.name} as {format} failed: {found.parity['reason']}. Nothing was kept: "
            "export safetensors, or set a wider gate.margin",
            found.parity,
        )
    return found.known, found.parity


def _plugin(format: str) -> plugins.Exporter | None:
    """Return the installed exporter of a format; None for a built-in one. Raises PluginError."""
    return None if format in BUILT_IN["exporter"] else plugins.exporter(format)


def _suffixes(format: str) -> Collection[str]:
    if format in GGUF:
        return (".gguf", modelfile.NAME)
    plugin = _plugin(format)
    return () if plugin is None else plugin.suffixes


def _loads(format: str) -> bool:
    """Return whether wizloop itself can load an export."""
    plugin = _plugin(format)
    return plugin is None or plugin.loads


@contextmanager
def _loadable(format: str, folder: Path) -> Iterator[str]:
    """Yield a folder that backends load: of a GGUF file a copy that lives as long as it is loaded from."""
    if format not in GGUF:
        yield str(folder)
        return
    # Late import: gguf is loaded only for such a file.
    from wizloop.backends.gguf import folder as gguf_folder

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="tmp-") as place:
        gguf_folder.convert(folder / gguf_names.FILE, Path(place))
        yield place


def _write(ctx: Context, model: models.Model, format: str, folder: Path) -> None:
    """Write the weights, and what the program that loads them needs. Raises BackendError, PluginError, ValueError."""
    adapter, plugin = ctx.adapter(model), _plugin(format)
    if adapter is None and (plugin is not None or format in ADAPTERS):
        raise ValueError(f"{model.name} was never taught, and {format} needs an adapter: export safetensors")
    if ctx.recipe.train.method == "full" and (plugin is not None or format in ADAPTERS):
        raise ValueError(
            f'{model.name} was trained with train.method "full", and {format} needs an adapter: export safetensors'
        )
    if plugin is not None and adapter is not None:
        with plugins.blamed("exporter", format):
            plugin.export(ctx.base(), adapter, folder)
        return
    ctx.backend.export(format, ctx.base(), adapter, folder)
    if format in GGUF:
        base = model_folder.find(ctx.base())
        ends = gguf_names.bos_of(base), gguf_names.stops_of(base)
        text = modelfile.render(ctx.renderer, *ends, ctx.limits(model))
        (folder / modelfile.NAME).write_text(text, encoding="utf-8")


def compare(
    ctx: Context, model: models.Model, format: str, folder: Path, report: Callable[[str], None] = _silent
) -> dict[str, Any]:
    """Compare the direct answers of the exported model and the original on the same dev samples; see `agreement`."""
    frozen = list(usable(ctx.store, "dev"))[: ctx.recipe.export.parity_n]
    if not frozen or not _loads(format):
        return {"n": 0, "agree": 0, "max_difference": 0.0}
    report("running the original on dev")
    judge = ctx.judge(model)
    ours = judge.direct(frozen)
    report("running the export on dev")
    whole = format not in ADAPTERS
    with _loadable(format, folder) as place:
        base, adapter = (place, None) if whole else (ctx.base(), folder)
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
        largest = max([largest, *(abs(p - other.p[name]) for name, p in one.p.items())])
        for task in (each for each in known.declared.tasks if each in one.p):
            signals = ({f"p_direct_{name}": p for name, p in each.p.items()} for each in (one, other))
            n += 1
            agree += len({known.direct_verdict(each, task) for each in signals}) == 1
    return {"n": n, "agree": agree, "max_difference": largest}


def facts(
    ctx: Context,
    model: models.Model,
    format: str,
    parity: dict[str, Any],
    known: Calibration | None,
    *,
    timed: bool = False,
) -> model_card.Facts:
    """Collect the facts for the card of a model's export, which is calibrated by `known`; `timed` adds latencies."""
    ways = linear_export.told(ctx, model, known, timed=timed)
    with ctx.store.read() as db:
        run = control.get_run(db)
        first, own = steps.get_round(db, 0), steps.get_round(db, model.round)
        scores = _own_scores(model, parity) or ways.evaluations or evaluations.of_model(db, model.id)
        base = evaluations.of_model(db, model_roles.base(db).id)
        counts = samples.counts(db)
        taught = range(0 if model.role == "base" else model.round + 1)
        calls = [one for number in taught for one in teacher_calls.calls(db, number)]
        approved = len(reviews.approved(db, model.round)) if taught else 0
        waiting, gate = reviews.waiting_count(db), gate_of(db, model)
    known, record = known or Calibration(declared=ctx.declared), {} if own is None else own.record
    record = record.get("base_measured", {}) if model.role == "base" else record
    outcomes = {
        name: dict(Counter(one.result for one in calls if _named(one) == name)) for name in set(map(_named, calls))
    }
    return model_card.Facts(
        model=model.name,
        round=model.round,
        format=format,
        base=ctx.recipe.guard.base,
        base_is={word: value for word, value in _base(ctx).items() if word != "name"},
        run=ctx.recipe.name if run is None else run.name,
        recipe_hash=recipe_hash(ctx.recipe),
        data_hash=data_hash(ctx),
        rendering="" if first is None else str(first.record.get("rendering", "")),
        samples=counts,
        teachers=outcomes,
        reviews={"approved": approved, "waiting": waiting},
        gate=gate,
        evaluations=scores,
        beside=model_card.Beside(
            base, record.get("baselines", {}), {} if ways.evaluations else record.get("compared", {})
        ),
        parity=parity,
        loads=_loads(format),
        thresholds=known.thresholds,
        source=known.source,
        scales=known.scales,
        operating=known.operating() | {"source": known.source},
        example=ctx.renderer.example(),
        longest=ctx.recipe.guard.max_prompt_tokens,
        categories=parity.get("categories") or record.get("categories", {}),
        category_thresholds={name: known.categories.get(name, 0.5) for name in ctx.renderer.categories},
        license=card_head.license_of(model_folder.on_disk(ctx.base())),
        policies=record.get(by_policy.KEY, {}),
        ways=ways.lines,
        declared=ctx.declared,
    )


def _named(call: teacher_calls.Call) -> str:
    """Return the teacher's name for the card; reasoning that existed has the file that it came from."""
    return f"{call.teacher}: {call.model}" if call.teacher == "traces" else call.teacher


def gate_of(db: Connection, model: models.Model) -> str:
    """Return what the gate said of a model, and each choice of it over the gate, for the card."""
    if model.role == "base":
        return "none: this is the base, before anything was taught"
    own = steps.get_round(db, model.round)
    said = [line for one in steps.rounds(db) for line in chosen.lines(one.record, model.name)]
    return " ".join([*([] if own is None else [own.gate_reason or ""]), *said])


def _own_scores(model: models.Model, parity: dict[str, Any]) -> list[evaluations.Evaluation]:
    """Return the figures of a lossy export as evaluations; none for a lossless one."""
    return [
        evaluations.Evaluation(model.id, model.round, benchmark, task, one["n"], one["unparsed"], json.dumps(one))
        for benchmark, by_task in parity.get("metrics", {}).items()
        for task, one in by_task.items()
    ]


def data_hash(ctx: Context) -> str:
    """Return the SHA-256 (hex) over the hashes of every usable sample, split by split."""
    digest = hashlib.sha256()
    for split in samples.SPLITS:
        for sample in usable(ctx.store, split):
            digest.update(f"{split}:{sample.hash}\n".encode())
    return digest.hexdigest()


def _export(ctx: Context, model: models.Model, format: str, report: Callable[[str], None]) -> None:
    final = ctx.workspace / "exports" / f"{ctx.round:02d}-{format}"
    artifacts.sweep(final.parent)
    try:
        parity = _before(ctx, model, format, final) or write_export(ctx, model, format, final, report)
        sha256 = artifacts.verify(final, _suffixes(format))
    except FailedExport as error:
        # The row has the figures; without it the next start would export, measure and fail again.
        parity, sha256 = dict(error.parity), ""
        ctx.say(f"{str(error)[0].upper()}{str(error)[1:]}.", "warn", parity)
    with ctx.store.write() as db:
        path = f"exports/{final.name}"
        exports.add(db, ctx.round, model.id, format, path, json.dumps(parity), sha256, ctx.now())
    if format not in LOSSY and parity["agree"] < parity["n"]:
        ctx.say(
            f"The export {final.name} agrees with its model on {parity['agree']} of {parity['n']} verdicts; "
            f"probabilities differ by at most {parity['max_difference']:.4f}.",
            "warn",
            parity,
        )


def _before(ctx: Context, model: models.Model, format: str, final: Path) -> dict[str, Any] | None:
    """Return the parity of a folder that was written before a crash and has no row yet, or None without one."""
    if not final.exists():
        return None
    if format in LOSSY:
        found: dict[str, Any] = artifacts.about(final)["parity"]
        return found
    return compare(ctx, model, format, final)
