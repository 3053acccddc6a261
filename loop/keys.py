"""API keys of the teachers: read from the environment, then from the keyring; set and deleted only in the keyring.

The environment may also set a provider's address. A key is never in a recipe, the database, a log or an exception.
`keyring` is imported only here.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from wizloop import plugins

SERVICE = "wizloop"
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "claude": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    # Not OPENAI_API_KEY: a recipe sets the address, and a key for another provider must not be sent there.
    "openai": ("WIZLOOP_OPENAI_KEY",),
    # For the server that runs the guard, whose address a recipe sets too.
    "server": ("WIZLOOP_SERVER_KEY",),
}
"""Environment variables of each teacher and of the guard's server, in order of precedence."""
ADDRESSES: Mapping[str, str] = {"claude": "ANTHROPIC_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}
"""Variables that may replace a provider's own address. No recipe may, because the key is sent there."""


class KeyringError(Exception):
    """The keyring of this machine cannot be used."""


class UnknownTeacher(ValueError):
    """No teacher of that name takes a key."""


@dataclass(frozen=True)
class Key:
    """A key and its origin, such as "the environment (ANTHROPIC_API_KEY)". Its repr hides the secret."""

    secret: SecretStr
    where: str


def find(name: str) -> Key | None:
    """Return the key of a teacher, or None; an unusable keyring counts as empty. Raises UnknownTeacher."""
    for variable in variables(name):
        if secret := os.environ.get(variable, "").strip():
            return Key(SecretStr(secret), f"the environment ({variable})")
    with suppress(KeyringError):
        if secret := _keyring("get_password", name):
            return Key(SecretStr(secret), "the keyring")
    return None


def address(name: str) -> str | None:
    """Return the provider's address from the environment; None for the provider's own."""
    return os.environ.get(ADDRESSES.get(name, ""), "").strip() or None


def store(name: str, secret: SecretStr) -> None:
    """Store a key in the keyring, replacing an earlier one. Raises UnknownTeacher, KeyringError, ValueError."""
    variables(name)
    if not secret.get_secret_value().strip():
        raise ValueError(f"the key for {name} is empty: nothing was stored")
    _keyring("set_password", name, secret.get_secret_value().strip())


def delete(name: str) -> bool:
    """Delete a key from the keyring; return whether there was one. Raises UnknownTeacher, KeyringError."""
    variables(name)
    if _keyring("get_password", name) is None:
        return False
    _keyring("delete_password", name)
    return True


def variables(name: str) -> tuple[str, ...]:
    """Return the environment variables of a teacher's key. Raises UnknownTeacher."""
    if name not in VARIABLES and name in plugins.installed("teacher"):
        return (f"WIZLOOP_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_KEY",)
    if name not in VARIABLES:
        raise UnknownTeacher(f"no teacher {name!r} takes a key; these do: {', '.join(VARIABLES)}")
    return VARIABLES[name]


def _keyring(function: str, *values: str) -> Any:
    import keyring
    from keyring.errors import KeyringError as RingError

    try:
        return getattr(keyring, function)(SERVICE, *values)
    except RingError as error:
        # Only the class: the text may quote the key.
        reason = type(error).__name__
    raise KeyringError(f"this machine has no usable keyring ({reason}): set the key in the environment")
