"""Load policies and the guard's instruction: text that people edit. Judges nothing."""

import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wizloop import regular_file

SHIPPED = Path(__file__).with_name("policies.toml")
INSTRUCTION = Path(__file__).with_name("instruction.md")
FORMER_INSTRUCTION = Path(__file__).with_name("former_instruction.md")
MOST_BYTES = 200_000
"""Maximum size of a policy file; the shipped one has 7,000 bytes."""
MOST_POLICIES = 64


class PolicyError(ValueError):
    """A policy file cannot be used; the message names the file and the key."""


def _one_line(text: str) -> str:
    """Return a name as it is. Raises ValueError for what would break a line or a list of names."""
    if text != text.strip() or not text.isprintable() or "," in text or ";" in text or text.casefold() == "none":
        raise ValueError('a name is one line without a comma or semicolon, and not "None"')
    return text


def _plain(text: str) -> str:
    """Return a text as it is. Raises ValueError for control characters other than a line feed."""
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in text if each != "\n"):
        raise ValueError("it holds a control character: write plain text")
    return text


_Text = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_plain)]
_Texts = Annotated[tuple[_Text, ...], Field(max_length=200)]
_Phrase = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_plain)]
_Phrases = Annotated[tuple[_Phrase, ...], Field(max_length=1000)]


class PolicyText(BaseModel):
    """One policy as people write it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str = Field(pattern=r"^[a-z0-9_]+$", max_length=64)
    """Stable name in tables and counts."""
    name: Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_one_line)]
    """At most three words: it is part of every explanation that the guard learns."""
    description: _Text
    """What is forbidden, in a sentence or a few."""
    severity: str = Field(default="high", pattern=r"^(medium|high|critical)$")
    """Severity of a miss."""
    short: _Text | None = None
    """What is forbidden, in a few words, for a guard's minimal text; None takes the description's first sentence."""
    wordings: _Texts = ()
    """The description in other words, among which the prompts of a guard's training vary."""
    keywords: Annotated[_Phrases, Field(min_length=1)] | None = None
    """Whole words that name the harm itself; the policy reasoner needs them, a guard does not."""
    indicators: _Phrases = ()
    """Whole words that make harm likely."""
    violating: _Texts = ()
    """Example prompts that violate the policy."""
    allowed: _Texts = ()
    """Example prompts that look similar but are fine."""


class PolicySet(BaseModel):
    """The policies of a guard's prompt and how they are shown: what a run keeps, and what an export carries."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    policies: Annotated[tuple[PolicyText, ...], Field(min_length=1, max_length=MOST_POLICIES)]
    """In the order of their file, which is the order in which they are shown."""
    ask: Literal["all", "each"] = "all"
    text: Literal["minimal", "full"] = "full"
    vary: bool = True
    left_out: tuple[str, ...] = ()
    """Ids of policies that no training prompt shows."""

    @property
    def trained(self) -> tuple[PolicyText, ...]:
        """The policies that training prompts show."""
        return tuple(one for one in self.policies if one.id not in self.left_out)


def load(path: Path | None = None) -> tuple[PolicyText, ...]:
    """Load the policies of a file, or the six shipped ones. Raises PolicyError, which names the file and the key."""
    path = path or SHIPPED
    try:
        tables = tomllib.loads(regular_file.read_text(path, MOST_BYTES))
    except (OSError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise PolicyError(f"{path}: cannot be read as TOML: {why}") from error
    entries = tables.pop("policy", None)
    if tables or not isinstance(entries, list) or not entries:
        raise PolicyError(f"{path}: it must hold [[policy]] tables and nothing else")
    if len(entries) > MOST_POLICIES:
        raise PolicyError(f"{path}: it has {len(entries)} policies, and at most {MOST_POLICIES} can be used")
    policies = tuple(_policy(entry, f"{path}: policy {number}") for number, entry in enumerate(entries, 1))
    _refuse_twins(policies, path)
    return policies


def by_word(policies: Iterable[PolicyText]) -> dict[str, str]:
    """Return the id of each policy by its id and its name, both folded as `folded` does."""
    return {folded(word): one.id for one in policies for word in (one.name, one.id)}


def folded(word: str) -> str:
    """Return a name as it is compared: "Self-harm", "self_harm" and "self harm" are one."""
    kept = "".join(each if each.isalnum() else " " for each in unicodedata.normalize("NFKC", word).casefold())
    return " ".join(kept.split())


def instruction() -> str:
    """Return the guard's shipped instruction, without a final newline."""
    return INSTRUCTION.read_text(encoding="utf-8").strip()


def former_instruction() -> str:
    """Return the shipped instruction of the runs that did not store theirs."""
    return FORMER_INSTRUCTION.read_text(encoding="utf-8").strip()


def _refuse_twins(policies: Sequence[PolicyText], path: Path) -> None:
    """Raise PolicyError for two policies with one id or name: a label could not be told from the other's."""
    owners: dict[str, str] = {}
    for policy in policies:
        for word in {folded(policy.id): policy.id, folded(policy.name): policy.name}.items():
            if word[0] in owners:
                raise PolicyError(f"{path}: the id or name {word[1]!r} is used twice; ids and names must differ")
        owners |= dict.fromkeys((folded(policy.id), folded(policy.name)), policy.id)


def _policy(entry: object, place: str) -> PolicyText:
    try:
        return PolicyText.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise PolicyError(f"{place}: {'.'.join(map(str, first['loc']))}: {message}") from error
