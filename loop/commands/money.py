"""`costs` and `keys`: what the teachers came to, and the keys that they are asked with."""

from pathlib import Path
from typing import Any

import click

from wizloop.loop.commands.common import in_workspace, put, reading, refuse, say, sentences, with_json


@click.command(short_help="What the teachers have cost.")
@in_workspace
@with_json
def costs(workspace: Path, as_json: bool) -> None:
    """What the teachers have cost: by teacher, model, day and round, with their refusals."""
    with sentences(), reading(workspace) as db:
        from wizloop.loop.commands.costs import costs_of

        found, left_out = costs_of(db)
    if left_out is not None:
        say(f"refusals are told without their policies: {left_out}")
    if as_json:
        put(found)
        return
    _print(found)


@click.group(short_help="The keys that teachers are asked with.")
def keys() -> None:
    """The keys of claude, gemini, openai and a guard's server: from the environment first, then from the keyring."""


@keys.command("set", short_help="Put a key into the keyring.")
@click.argument("name")
def set_(name: str) -> None:
    """Put the key of the teacher NAME into the keyring; it is asked for, or read from stdin, and never shown."""
    import sys

    from pydantic import SecretStr

    from wizloop.loop import keys as kept

    with sentences(kept.UnknownTeacher, ValueError, failures=(kept.KeyringError,)):
        kept.variables(name)
        typed = sys.stdin.isatty()
        text = click.prompt(f"key for {name}", hide_input=True, err=True) if typed else sys.stdin.readline()
        kept.store(name, SecretStr(text))
    say(f"the key for {name} is in the keyring")


@keys.command("list", short_help="Which teachers have a key, and from where.")
@with_json
def list_(as_json: bool) -> None:
    """Which teachers have a key, and where it comes from. No key is shown."""
    from wizloop.loop import keys as kept

    found = {name: kept.find(name) for name in kept.VARIABLES}
    if as_json:
        put({name: None if key is None else key.where for name, key in found.items()})
        return
    for name, key in found.items():
        wanted = " or ".join(kept.variables(name))
        print(f"{name:8} {f'from {key.where}' if key else f'none: set {wanted}, or `wizloop keys set {name}`'}")


@keys.command("delete", short_help="Take a key out of the keyring.")
@click.argument("name")
def delete(name: str) -> None:
    """Take the key of the teacher NAME out of the keyring."""
    from wizloop.loop import keys as kept

    with sentences(kept.UnknownTeacher, failures=(kept.KeyringError,)):
        there = kept.delete(name)
    if not there:
        refuse(f"the keyring holds no key for {name}")
    say(f"the key for {name} is deleted")


def _print(found: dict[str, Any]) -> None:
    from wizloop.store.display import shown

    for row in found["rows"]:
        print(shown(f"{row['teacher']} ({row['model']}), {row['day']}, round {row['round']}"))
        print(f"    {_sums(row)}")
    print("all")
    print(f"    {_sums(found['total'])}")
    for one in found["refusals"]:
        kind = f" ({one['category']})" if one["category"] else ""
        print(shown(f"{one['teacher']}: {one['n']} {one['outcome']}{kind}, policy {one['policy']}"))
    budget = found["budget"]
    cap = "no cap" if budget["cap"] is None else f"of ${budget['cap']:.2f}"
    say(f"${budget['settled']:.4f} settled and ${budget['reserved']:.4f} reserved, {cap}")
    if found["unanswered"]:
        say(f"{found['unanswered']} samples that no teacher answered: `wizloop teach --unanswered` lists them")


def _sums(row: dict[str, Any]) -> str:
    calls = ", ".join(f"{row[name]:,} {name}" for name in ("calls", "answers", "refusals", "failures", "ambiguous"))
    cached = f"{row['cached_tokens']:,} cached"
    tokens = f"{row['input_tokens'] + row['cache_write_tokens']:,} in, {cached}, {row['output_tokens']:,} out"
    return f"{calls}\n    tokens {tokens}; ${row['settled_usd']:.4f} settled, ${row['reserved_usd']:.4f} reserved"
