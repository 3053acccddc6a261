"""Phase gate: promote the challenger or keep what stands, in one transaction. The rule is in `promotion`.

The champion stands; before the first one, the base.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Literal

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.gate_bound import GateBound, gate_bound
from wizloop.loop.measures.promotion import Candidate, Decision, decide
from wizloop.loop.phases import category_measures, model_roles, must_hold, predict, ways
from wizloop.loop.phases.score_predictions import traces_unparsed, verdicts_of
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.store import control, models, steps
from wizloop.store.samples import Sample

BOUND = "gate_bound"
"""Key of the bound in round 0's record."""


def run(ctx: Context) -> str:
    """Decide on the round's challenger, once; without a challenger what stands stays."""
    with ctx.store.read() as db:
        round = steps.get_round(db, ctx.round)
        challenger, champion = model_roles.challenger(db, ctx.round), model_roles.champion(db)
    if round is not None and round.gate_reason is not None:
        return round.gate_reason
    held = None if challenger is None else _held(ctx, challenger)
    decision = _decide(ctx, challenger, held) if challenger is not None else _no_challenger(round, champion)
    after = challenger if decision.passed else champion
    record = {
        "gate": {name: asdict(difference) for name, difference in decision.differences.items()},
        "gate_lower": decision.lower,
    }
    record |= {} if held is None else {must_hold.HELD: held.to_json()}
    with ctx.store.write() as db:
        if challenger is not None and decision.passed:
            control.set_champion(db, challenger.id)
        steps.end_round(
            db,
            ctx.round,
            champion_after=None if after is None else after.id,
            challenger=None if challenger is None else challenger.id,
            passed=decision.passed,
            gate_reason=decision.reason,
            record_json=json.dumps(record),
            now=ctx.now(),
        )
    ctx.say(decision.reason)
    return decision.reason


def bound_on(dev: Iterable[Sample], rounds: int, declared: Declaration = DEFAULT) -> GateBound | None:
    """Return what the gates of round 0 and of `rounds` more can exclude on dev; None if no task has both labels."""
    counts, prompts = Counter[tuple[str, str]](), set[str]()
    for sample in dev:
        if found := labels_of(sample, declared):
            counts.update(found.items())
            prompts.add(normalize(sample.prompt))
    # Of more than two labels the first is held against all others.
    classes = [
        (counts[task, positive], sum(counts[task, other] for other in others))
        for task, (positive, *others) in declared.by_task.items()
    ]
    return gate_bound(classes, len(prompts), rounds + 1)


def kept_bound(ctx: Context, dev: Sequence[Sample]) -> GateBound | None:
    """Return the bound that phase prepare kept; a run that an earlier version prepared has it worked out now."""
    with ctx.store.read() as db:
        first = steps.get_round(db, 0)
    kept = None if first is None else first.record.get(BOUND)
    return bound_on(dev, ctx.recipe.rounds, ctx.declared) if kept is None else GateBound(**kept)


def _held(ctx: Context, challenger: models.Model) -> must_hold.Held | None:
    with ctx.store.read() as db:
        standing = model_roles.standing(db)
    return must_hold.compared(ctx, standing, challenger)


def _decide(ctx: Context, challenger: models.Model, held: must_hold.Held | None) -> Decision:
    dev, bounds = list(usable(ctx.store, "dev")), ctx.recipe.gate
    with ctx.store.read() as db:
        standing = model_roles.standing(db)
    name: Literal["base", "champion"] = "base" if standing.role == "base" else "champion"
    of_categories, figures = category_measures.compared(ctx, bounds, standing, challenger, dev)
    decision = decide(
        _candidate(ctx, standing, dev),
        _candidate(ctx, challenger, dev),
        name=name,
        margin=bounds.margin,
        max_unparsable=bounds.max_unparsable,
        max_over_refusal_rise=bounds.max_over_refusal_rise,
        rng=ctx.rng("gate"),
        bound=kept_bound(ctx, dev),
        declared=ctx.declared,
        further=[*of_categories, *([] if held is None else [held.check()])],
    )
    if said := ways.told({"the challenger": _sources(challenger), f"the {name}": _sources(standing)}):
        decision = replace(decision, reason=f"{decision.reason} {said}")
    return replace(decision, differences={**decision.differences, **figures})


def _candidate(ctx: Context, model: models.Model, dev: Sequence[Sample]) -> Candidate:
    found = list(predict.stored(ctx, model, dev).values())
    return Candidate(verdicts_of(ctx, model, dev), _sources(model), traces_unparsed(found))


def _sources(model: models.Model) -> Mapping[str, str]:
    return Calibration.from_json(model.calibration_json).source


def _no_challenger(round: steps.Round | None, champion: models.Model | None) -> Decision:
    why = "nothing was trained" if round is None else round.record.get("no_challenger", "nothing was trained")
    stays = "There is no champion yet: the base stays." if champion is None else "The champion stays."
    return Decision(False, f"There is no challenger: {why}. {stays}", {})
