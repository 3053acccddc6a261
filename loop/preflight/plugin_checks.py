"""Checks of the installed plugins. See `wizloop.plugins`."""

from wizloop import plugins
from wizloop.loop.data import format_choice
from wizloop.loop.preflight import Check
from wizloop.recipes.schema import BUILT_IN


def checks() -> list[Check]:
    """Return one check for each installed plugin, by kind and name; imports them."""
    return [_check(kind, name) for kind in plugins.KINDS for name in plugins.installed(kind)]


def _check(kind: plugins.Kind, name: str) -> Check:
    entries = plugins.installed(kind)[name]
    built_in = BUILT_IN.get(kind, (name,) if kind == "format" and format_choice.taken(name) else ())
    why = plugins.fault(kind, name, built_in)
    packages = " and ".join(plugins.package_of(entry) for entry in entries)
    return Check(f"{kind} {name}", why is None, why or f"{packages} ({entries[0].value})")
