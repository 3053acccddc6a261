"""Phase gate: promote the challenger or keep the champion, in one transaction. The rule is in `promotion`."""

import json
from dataclasses import asdict

from wizloop.loop.context import Context
from wizloop.loop.measures.promotion import Decision, decide
from wizloop.loop.phases import model_roles
from wizloop.loop.phases.score_predictions import dev_verdicts
from wizloop.loop.stored_samples import usable
from wizloop.store import control, models, steps


def run(ctx: Context) -> str:
    """Decide on the round's challenger, once; without a challenger the champion stays."""
    with ctx.store.read() as db:
        round = steps.get_round(db, ctx.round)
        challenger, champion = model_roles.challenger(db, ctx.round), model_roles.champion(db)
    if round is not None and round.gate_reason is not None:
        return round.gate_reason
    decision = _decide(ctx, champion, challenger) if challenger is not None else _no_challenger(round, champion)
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


def _decide(ctx: Context, champion: models.Model | None, challenger: models.Model) -> Decision:
    dev, bounds = list(usable(ctx.store, "dev")), ctx.recipe.gate
    return decide(
        None if champion is None else dev_verdicts(ctx, champion, dev),
        dev_verdicts(ctx, challenger, dev),
        margin=bounds.margin,
        max_unparsable=bounds.max_unparsable,
        max_over_refusal_rise=bounds.max_over_refusal_rise,
        rng=ctx.rng("gate"),
    )


def _no_challenger(round: steps.Round | None, champion: models.Model | None) -> Decision:
    why = "nothing was trained" if round is None else round.record.get("no_challenger", "nothing was trained")
    stays = "There is no champion yet." if champion is None else "The champion stays."
    return Decision(False, f"There is no challenger: {why}. {stays}", {})
