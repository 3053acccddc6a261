"""Build a recipe's local teachers and what they read. Asks no questions."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Question, Teacher, Words
from wizloop.backends.teachers.policy.reasoner import PolicyReasoner
from wizloop.backends.teachers.policy.scoring import Policy, score_all, top_score
from wizloop.backends.teachers.recorded import RecordedTeacher, explain, text_sha
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.data.sample_rows import SampleRow
from wizloop.loop.guard import categories
from wizloop.loop.guard.rendering import Text
from wizloop.loop.teaching import given_traces
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes import policies as texts
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.recipes.teaching import Recorded

MOST_CHARS = 50_000
"""Longest instruction of a recipe; a longer text is probably another file."""


def policies_of(recipe: Recipe) -> tuple[Policy, ...]:
    """Return the policies that the recipe names, or the shipped ones. Raises PolicyError."""
    own = recipe.own_policies
    return tuple(map(plain, own if isinstance(own, tuple) else texts.load(own)))


def plain(text: texts.PolicyText) -> Policy:
    """Return a policy as the scorer and the teachers take it."""
    known = text.model_dump(include=set(Policy.__dataclass_fields__))
    return Policy(**known | {"keywords": text.keywords or ()})


def reasoner_of(recipe: Recipe, names: Sequence[str] = ()) -> PolicyReasoner:
    """Return the policy reasoner of a recipe, which also names categories, by the names of its policies or their ids.

    Raises PolicyError, also for policies without wording to count.
    """
    policies = policies_of(recipe)
    refuse_wordless(policies, "the teacher policy")
    by_id = {one.id: categories.matched((one.name, one.id), names)[0] for one in policies}
    named = {id: found[0] for id, found in by_id.items() if found}
    try:
        return PolicyReasoner(policies, recipe.teacher.depth, words_of(recipe), named)
    except ValueError as error:
        raise texts.PolicyError(str(error)) from None


def refuse_wordless(policies: Sequence[Policy], who: str) -> None:
    """Raise PolicyError for a policy that no text can touch: it has no keywords."""
    if wordless := [policy.id for policy in policies if not policy.keywords]:
        raise texts.PolicyError(
            f"the policy {wordless[0]!r} has no keywords, which {who} counts: add some to its table"
        )


def words_of(recipe: Recipe) -> Words:
    """Return the label words as teachers take them."""
    tasks = recipe.tasks
    return Words(tasks.request, tasks.completion, tasks.response)


def categories_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the categories that teachers are asked for. Raises PolicyError."""
    return tuple(categories.settled(recipe).categories)


def instruction_of(recipe: Recipe, *, small: bool = False) -> str:
    """Return the instruction for the recipe's remote teachers, for the small schema or the full one.

    Raises PolicyError.
    """
    section, words = recipe.teacher, words_of(recipe)
    own = None if section.instruction is None else _own_instruction(Path(section.instruction))
    wording = teacher_prompt.Wording(own, section.reasoning, small, words, categories_of(recipe))
    # The shipped policies are about harm.
    about_harm = words.is_part_of_ours() or section.policies is not None
    return teacher_prompt.instruction(policies_of(recipe) if about_harm else (), wording)


def _own_instruction(path: Path) -> str:
    """Read the text of teacher.instruction. Raises PolicyError, which names the file."""
    try:
        if not path.is_file():
            raise OSError("no such file" if not path.exists() else "it is no plain file")
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise texts.PolicyError(f"{path}: teacher.instruction cannot be read: {error}; give a text file") from None
    if not text.strip() or len(text) > MOST_CHARS:
        size = "is empty" if not text.strip() else f"has more than {MOST_CHARS:,} characters"
        raise texts.PolicyError(f"{path}: teacher.instruction {size}: give another file")
    return text


def policies_hash(policies: tuple[Policy, ...]) -> str:
    """Return the hexadecimal SHA-256 of the policies' text."""
    values = [[getattr(policy, name) for name in Policy.__dataclass_fields__] for policy in policies]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def here(recipe: Recipe, name: str) -> Teacher:
    """Build a local teacher: policy, recorded or traces. Raises PolicyError, ImportRefused."""
    words = words_of(recipe)
    names = categories_of(recipe)
    if name == "policy":
        return reasoner_of(recipe, names)
    if name == "traces":
        return given_traces.teacher_of(recipe.teacher.traces, Declaration.of(recipe.tasks))
    assert recipe.teacher.recorded is not None
    rows = _recorded_rows(recipe.teacher.recorded, Declaration.of(recipe.tasks))
    # The first of a text counts, as at an import.
    named = {text_sha(one.prompt, one.response): one.categories for one in rows[::-1] if one.categories is not None}
    return RecordedTeacher(_labels_of(rows), words, named if names else None)


def recorded_labels(where: Recorded, declared: Declaration = DEFAULT) -> dict[str, Mapping[str, str | None]]:
    """Read verdicts by text; a text that occurs twice with different ones is left out: neither can be trusted."""
    return _labels_of(_recorded_rows(where, declared))


def _recorded_rows(where: Recorded, declared: Declaration) -> list[SampleRow]:
    how: dict[str, Any] = where.model_dump(exclude={"path"})
    return read_samples(Data(path=where.path, split="pool", **how), declared).rows


def _labels_of(rows: Sequence[SampleRow]) -> dict[str, Mapping[str, str | None]]:
    known: dict[str, Mapping[str, str | None]] = {}
    conflicting: set[str] = set()
    for row in (one for one in rows if one.labels):
        given: dict[str, str | None] = {str(task): label for task, label in row.labels.items()}
        forms = [(row.response, given)]
        if row.response is not None and "request" in given:
            forms.append((None, {"request": given["request"]}))
        for response, labels in forms:
            key = text_sha(row.prompt, response)
            if known.setdefault(key, labels) != labels:
                conflicting.add(key)
    return {key: labels for key, labels in known.items() if key not in conflicting}


def touched_policy(text: str, policies: tuple[Policy, ...], recipe: Recipe) -> str | None:
    """Return the id of the policy with the most wording in a text, or None."""
    top = top_score(score_all(text, policies, recipe.teacher.depth))
    return top.policy.id if top.touched else None


def sentences(recipe: Recipe, samples: list[Text]) -> Iterator[str]:
    """Yield reasons in these teachers' wording, for a guard that must learn to read. Looks up no label."""
    if "policy" in recipe.teacher.names:
        reasoner = reasoner_of(recipe)
        for number, sample in enumerate(samples):
            answer = reasoner.ask(Question(str(number), sample.prompt, sample.response))
            if answer.trace is not None:
                yield answer.trace.explanation
    if "recorded" in recipe.teacher.names:
        words = words_of(recipe)
        yield from (explain(request, None, None) for request in words.request)
        if len(words.tasks) > 1:
            given = product(words.request, words.completion or (None,), words.response or (None,))
            yield from (explain(*labels) for labels in given)
    if "traces" in recipe.teacher.names:
        yield from given_traces.reasons(recipe.teacher.traces, len(samples), Declaration.of(recipe.tasks))
