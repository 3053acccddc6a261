"""Phase gate: promote the challenger or keep what stands, in one transaction. The rule is in `promotion`.

The champion stands; before the first one, the base.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from wizloop.loop.context import Context
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.promotion import Candidate, Decision, decide
from wizloop.loop.phases import model_roles, predict
from wizloop.loop.phases.score_predictions import traces_unparsed, verdicts_of
from wizloop.loop.stored_samples import usable
from wizloop.store import control, models, steps
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Decide on the round's challenger, once; without a challenger what stands stays."""
    with ctx.store.read() as db:
        round = steps.get_round(db, ctx.round)
        challenger, champion = model_roles.challenger(db, ctx.round), model_roles.champion(db)
    if round is not None and round.gate_reason is not None:
        return round.gate_reason
    decision = _decide(ctx, challenger) if challenger is not None else _no_challenger(round, champion)
    after = challenger if decision.passed else champion
    record = {"gate": {name: asdict(difference) for name, difference in decision.differences.items()}}
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


def _decide(ctx: Context, challenger: models.Model) -> Decision:
    dev, bounds = list(usable(ctx.store, "dev")), ctx.recipe.gate
    with ctx.store.read() as db:
        standing = model_roles.standing(db)
    return decide(
        _candidate(ctx, standing, dev),
        _candidate(ctx, challenger, dev),
        name="base" if standing.role == "base" else "champion",
        margin=bounds.margin,
        max_unparsable=bounds.max_unparsable,
        max_over_refusal_rise=bounds.max_over_refusal_rise,
        rng=ctx.rng("gate"),
    )


def _candidate(ctx: Context, model: models.Model, dev: Sequence[Sample]) -> Candidate:
    found = list(predict.stored(ctx, model, dev).values())
    sources = Calibration.from_json(model.calibration_json).source
    return Candidate(verdicts_of(ctx, model, dev), sources, traces_unparsed(found))


def _no_challenger(round: steps.Round | None, champion: models.Model | None) -> Decision:
    why = "nothing was trained" if round is None else round.record.get("no_challenger", "nothing was trained")
    stays = "There is no champion yet: the base stays." if champion is None else "The champion stays."
    return Decision(False, f"There is no challenger: {why}. {stays}", {})
