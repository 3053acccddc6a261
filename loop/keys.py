"""Keys of the teachers: read from the environment, then from the keyring; set and deleted in the keyring alone.

The environment may also say where a provider is asked.

No key is ever part of a recipe, of the database, of a log or of an exception. `keyring` has its one home here.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from wizloop import plugins

SERVICE = "wizloop"
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "claude": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    # Not OPENAI_API_KEY: a recipe names the address, and a key that was meant for another must not be sent there.
    "openai": ("WIZLOOP_OPENAI_KEY",),
    # Of the server that answers for the guard, whose address a recipe names too.
    "server": ("WIZLOOP_SERVER_KEY",),
}
"""The teachers that take a key, and the guard's server, with the variables that may hold it, first looked at first."""
ADDRESSES: Mapping[str, str] = {"claude": "ANTHROPIC_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}
"""The variables that may name another address than the provider's own. No recipe may: the key is sent there."""


class KeyringError(Exception):
    """The keyring of this machine cannot be used."""


class UnknownTeacher(ValueError):
    """No teacher of that name takes a key."""


@dataclass(frozen=True)
class Key:
    """A key and where it was found, such as "the environment (ANTHROPIC_API_KEY)". Its text is not shown by repr."""

    secret: SecretStr
    where: str


def find(name: str, environment: Mapping[str, str] | None = None) -> Key | None:
    """The key of a teacher, or None. A keyring that cannot be used holds none. Raises UnknownTeacher."""
    there = os.environ if environment is None else environment
    for variable in variables(name):
        if there.get(variable, "").strip():
            return Key(SecretStr(there[variable].strip()), f"the environment ({variable})")
    try:
        held = _ring().get_password(SERVICE, name)
    except _errors():
        return None
    return Key(SecretStr(held), "the keyring") if held else None


def address(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Where the environment says that a provider listens; None for the provider's own address."""
    there = os.environ if environment is None else environment
    return there.get(ADDRESSES.get(name, ""), "").strip() or None


def store(name: str, secret: SecretStr) -> None:
    """Put a key into the keyring, in place of one that is there. Raises UnknownTeacher, KeyringError, ValueError."""
    variables(name)
    if not secret.get_secret_value().strip():
        raise ValueError(f"the key for {name} is empty: nothing was stored")
    _change("set_password", name, secret.get_secret_value().strip())


def delete(name: str) -> bool:
    """Take a key out of the keyring; whether there was one. Raises UnknownTeacher, KeyringError."""
    variables(name)
    try:
        if _ring().get_password(SERVICE, name) is None:
            return False
    except _errors() as error:
        raise _unusable(error) from None
    _change("delete_password", name)
    return True


def variables(name: str) -> tuple[str, ...]:
    """The variables that may hold a teacher's key. Raises UnknownTeacher."""
    if name not in VARIABLES and name in plugins.installed("teacher"):
        return (f"WIZLOOP_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_KEY",)
    if name not in VARIABLES:
        raise UnknownTeacher(f"{name!r} takes no key: {', '.join(VARIABLES)} do")
    return VARIABLES[name]


def _ring() -> Any:
    import keyring

    return keyring


def _errors() -> type[Exception]:
    from keyring.errors import KeyringError as cannot

    return cannot


def _change(what: str, *values: str) -> None:
    try:
        getattr(_ring(), what)(SERVICE, *values)
    except _errors() as error:
        raise _unusable(error) from None


def _unusable(error: Exception) -> KeyringError:
    # The cause is named by its class alone: its text may quote what it was given.
    return KeyringError(
        f"this machine has no keyring that can be used ({type(error).__name__}): put the key into the environment"
    )
