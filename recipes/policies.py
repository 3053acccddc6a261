"""Load the policies and the guard's instruction: text that people edit. Judges nothing."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wizloop import regular_file

SHIPPED = Path(__file__).with_name("policies.toml")
INSTRUCTION = Path(__file__).with_name("instruction.md")
FORMER_INSTRUCTION = Path(__file__).with_name("former_instruction.md")


class PolicyError(ValueError):
    """A policy file cannot be used; the message names the file and the key."""


class PolicyText(BaseModel):
    """One policy as people write it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    """Stable name in tables and counts."""
    name: str = Field(min_length=1, max_length=40)
    """At most three words: it is part of every explanation that the guard learns."""
    description: str = Field(min_length=1, max_length=300)
    """One sentence on what is forbidden."""
    severity: str = Field(pattern=r"^(medium|high|critical)$")
    """Severity of a miss."""
    keywords: tuple[str, ...] = Field(min_length=1)
    """Whole words that name the harm itself."""
    indicators: tuple[str, ...] = ()
    """Whole words that make harm likely."""
    violating: tuple[str, ...] = ()
    """Example prompts that violate the policy."""
    allowed: tuple[str, ...] = ()
    """Example prompts that look similar but are fine."""


def load(path: Path | None = None) -> tuple[PolicyText, ...]:
    """Load the policies of a file, or the six shipped ones. Raises PolicyError, which names the file and the key."""
    path = path or SHIPPED
    try:
        tables = tomllib.loads(regular_file.read_text(path))
    except (OSError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise PolicyError(f"{path}: cannot be read as TOML: {why}") from error
    entries = tables.pop("policy", None)
    if tables or not isinstance(entries, list) or not entries:
        raise PolicyError(f"{path}: it must hold [[policy]] tables and nothing else")
    policies = tuple(_policy(entry, f"{path}: policy {number}") for number, entry in enumerate(entries, 1))
    ids = [policy.id for policy in policies]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise PolicyError(f"{path}: the id {twice[0]!r} is used twice; ids must differ")
    return policies


def instruction() -> str:
    """Return the guard's shipped instruction, without a final newline."""
    return INSTRUCTION.read_text(encoding="utf-8").strip()


def former_instruction() -> str:
    """Return the shipped instruction of the runs that did not store theirs."""
    return FORMER_INSTRUCTION.read_text(encoding="utf-8").strip()


def _policy(entry: object, place: str) -> PolicyText:
    try:
        return PolicyText.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise PolicyError(f"{place}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
