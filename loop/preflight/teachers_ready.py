"""Whether the teachers of a recipe could be asked tonight: key, model, its life, price. It asks nothing that costs."""

from dataclasses import dataclass
from datetime import datetime

from wizloop.backends.teachers.base import Answer
from wizloop.backends.teachers.remote import ModelInfo
from wizloop.loop.teaching import clients
from wizloop.loop.teaching.prices import PriceError, Tariff
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe

_ADVICE = {
    "unauthorised": "set another key with `wizloop keys set`, or name a model that it may use",
    "account_disabled": "the provider has stopped this account: write to its support",
    "spend_limit": "raise the limit with the provider",
    "rate_limited": "the provider limits the rate: look again in a few minutes",
}
_UNREACHED = "look at the network and at the address; what a night cannot reach is asked of the next teacher"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one teacher."""

    name: str
    ok: bool
    found: str
    advice: str | None = None


def findings(recipe: Recipe, now: datetime) -> list[Finding]:
    """One for each teacher behind a network, in the recipe's order."""
    if recipe.teacher.replay is not None:
        return []
    return [_finding(recipe, name, now) for name in recipe.teacher.names if not clients.runs_here(name)]


def _finding(recipe: Recipe, name: str, now: datetime) -> Finding:
    try:
        key = clients.key_of(name)
        tariff = clients.tariff_of(recipe.teacher, name, now.date())
        teacher = clients.teacher_of(recipe, name, key)
    except (clients.NotReady, PriceError, PolicyError) as error:
        return Finding(name, False, str(error))
    try:
        looked = teacher.model_info()
    finally:
        teacher.close()
    told = f"{teacher.model}, key from {key.where if key else 'nowhere'}, {_price(recipe, name, tariff)}"
    if isinstance(looked, Answer):
        return Finding(name, False, f"{told}: {looked.category}", _ADVICE.get(looked.outcome, _UNREACHED))
    return _living(name, told, looked)


def _living(name: str, told: str, model: ModelInfo) -> Finding:
    life = "" if model.lifecycle == "unknown" else f", {model.lifecycle}"
    says = f"; {model.note}" if model.note else ""
    if model.lifecycle == "retired":
        return Finding(name, False, f"{told}{life}{says}", "name another model in the recipe")
    advice = "name a newer model in the next recipe" if model.lifecycle == "deprecated" else None
    return Finding(name, True, f"{told}{life}{says}", advice)


def _price(recipe: Recipe, name: str, tariff: Tariff | None) -> str:
    if not clients.is_paid(recipe.teacher, name):
        return "free"
    if tariff is None:
        return "its price is not known, so that no budget can be kept"
    first = tariff.tiers[0]
    return f"${first.input:g} in and ${first.output:g} out for a million tokens"
