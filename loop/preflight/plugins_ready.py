"""Which plugins are installed, and whether they can be used. See `wizloop.plugins`."""

from datetime import datetime

from wizloop import plugins
from wizloop.loop.data import format_choice
from wizloop.loop.preflight.doctor import Check
from wizloop.loop.teaching import clients, plugin_teachers
from wizloop.loop.teaching.prices import PriceError
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import BUILT_IN, Recipe


def checks() -> list[Check]:
    """Return one check for each installed plugin, by kind and name; it imports them."""
    return [_check(kind, name) for kind in plugins.KINDS for name in plugins.installed(kind)]


def teacher(recipe: Recipe, name: str, *, capped: bool, now: datetime) -> Check:
    """Return the check of an installed teacher that a recipe names: its settings and its price."""
    table = clients.table_of(recipe.teacher)
    try:
        client = plugin_teachers.client_of(recipe, name, table, now.date(), capped=capped)
    except (plugins.PluginError, PriceError, PolicyError) as error:
        return Check("teacher", False, str(error))
    paid = "of a price that is not known" if client.tariff is None else "paid"
    return Check("teacher", True, f"{name}: {client.teacher.model}, {'free' if client.teacher.free else paid}")


def _check(kind: plugins.Kind, name: str) -> Check:
    entries = plugins.installed(kind)[name]
    built_in = BUILT_IN.get(kind, (name,) if kind == "format" and format_choice.taken(name) else ())
    why = plugins.fault(kind, name, built_in)
    packages = " and ".join(plugins.package_of(entry) for entry in entries)
    return Check(f"{kind} {name}", why is None, why or f"{packages} ({entries[0].value})")
