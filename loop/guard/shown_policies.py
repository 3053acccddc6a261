"""The policies in a guard's prompt: how they are read from a recipe or a run's record, and their text.

The text is data of the user's: it never spells a special token, and it is never cut.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wizloop.recipes import policies as files
from wizloop.recipes.guard_policies import SHIPPED, PolicyKeys
from wizloop.recipes.policies import PolicyError, PolicySet, PolicyText
from wizloop.recipes.schema import Recipe

KEY = "policies"
"""Key of round 0's record."""
_HEAD = "Policies. A text is harmful if it violates one of them, and unharmful if it violates none:"
_HEAD_OF_ONE = "Policy. A text is harmful if it violates it, and unharmful if it does not:"
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)
_SEPARATORS = re.compile(r"[,;|\n]")


def read(settings: PolicyKeys) -> PolicySet | None:
    """Read the policies that [guard] names; None if it names none. Raises PolicyError."""
    if settings.policies is None:
        return None
    known = files.load(None if settings.policies == SHIPPED else Path(settings.policies))
    return PolicySet(
        policies=known,
        ask=settings.policies_ask,
        text=settings.policies_text,
        vary=settings.policies_vary,
        left_out=_left_out(known, settings),
    )


def kept_in(record: Mapping[str, Any]) -> PolicySet | None:
    """Return the policies that phase prepare kept in round 0's record, or None."""
    kept = record.get(KEY)
    return None if kept is None else PolicySet.model_validate_json(json.dumps(kept))


def asking(recipe: Recipe, record: Mapping[str, Any]) -> Recipe:
    """Return a run's recipe as its teachers are asked by it: its own policies are those that round 0's record keeps."""
    kept = kept_in(record)
    return recipe if kept is None or recipe.guard.own_policies is None else recipe.keeping(kept.policies)


def _left_out(known: Sequence[PolicyText], settings: PolicyKeys) -> tuple[str, ...]:
    ids = files.by_word(known)
    for word in settings.policies_left_out:
        if files.folded(word) not in ids:
            names = ", ".join(one.id for one in known)
            raise PolicyError(f"guard.policies_left_out names {word!r}, and {settings.policies} has only {names}")
    found = tuple(dict.fromkeys(ids[files.folded(word)] for word in settings.policies_left_out))
    if len(found) == len(known):
        raise PolicyError("guard.policies_left_out names every policy: leave at least one to train on")
    return found


def questions(policies: PolicySet) -> list[str]:
    """Return the text of the policies in each question: one text with all of them, or one text for each."""
    if policies.ask == "each":
        return [text_of([one], policies.text) for one in policies.policies]
    return [text_of(policies.policies, policies.text)]


def text_of(shown: Sequence[PolicyText], length: str) -> str:
    """Return policies as a prompt shows them, in this order."""
    head = _HEAD_OF_ONE if len(shown) == 1 else _HEAD
    return "\n".join([head, *(_entry(one, length) for one in shown)])


def longest(policies: PolicySet) -> str:
    """Return the longest text that a prompt can show, whichever wordings are drawn."""
    widest = [one.model_copy(update={"description": max(_wordings(one), key=len)}) for one in policies.policies]
    each = [text_of([one], policies.text) for one in widest]
    return max(each, key=len) if policies.ask == "each" else text_of(widest, policies.text)


def worded(policy: PolicyText, number: int) -> PolicyText:
    """Return a policy in one of its wordings; `number` picks it, modulo their number."""
    wordings = _wordings(policy)
    chosen = wordings[number % len(wordings)]
    # The short text is of the first wording: another one brings its own first sentence.
    return policy if chosen == policy.description else policy.model_copy(update={"description": chosen, "short": None})


def ids_in(categories: Iterable[str] | None, policy: str | None, policies: PolicySet) -> tuple[str, ...]:
    """Return the ids of the policies that a row's labels name, by id or name: its categories, or else its policy.

    A policy may be several, with commas or semicolons between.
    """
    return _ids(categories or (), policies) or _ids(_SEPARATORS.split(policy or ""), policies)


def _ids(words: Iterable[str], policies: PolicySet) -> tuple[str, ...]:
    known = files.by_word(policies.policies)
    found = (known.get(files.folded(word)) for word in words)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def named_in(texts: Iterable[str], policies: PolicySet) -> tuple[str, ...]:
    """Return the ids of the policies whose name or id stands in one of the texts, in whole words, in file order."""
    words = [f" {files.folded(text)} " for text in texts]
    named = {id for word, id in files.by_word(policies.policies).items() if any(f" {word} " in text for text in words)}
    return tuple(one.id for one in policies.policies if one.id in named)


def _wordings(policy: PolicyText) -> tuple[str, ...]:
    return (policy.description, *policy.wordings)


def _entry(policy: PolicyText, length: str) -> str:
    if length == "minimal":
        return f"- {policy.name}: {_flat(policy.short or _first_sentence(policy.description))}"
    lines = [f"- {policy.name}: {_flat(policy.description)}"]
    for word, examples in (("violates", policy.violating), ("does not violate", policy.allowed)):
        lines += [f"  {word}: {_flat(each)}" for each in examples]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return text if found is None else found[0]


def _flat(text: str) -> str:
    """Return a text on one line, so that it cannot imitate the lines around it."""
    return " ".join(text.split())
