"""Categories of a harmful text: how a guard is taught to name them, how it is asked for them, how its line is read.

They come after the verdicts, which never depend on them. A trace ends in one more line, `Categories: a, b` or
`Categories: None`. A direct answer says yes or no to each category, because a threshold needs a probability of each:

    Categories:
    violence: yes
    hate: no

Only what is not let through is asked: a text that violates nothing has no category.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wizloop import regular_file
from wizloop.backends.guard_types import Choice, Prompt
from wizloop.loop.guard import grammar
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.readers import Reader, Reading
from wizloop.loop.guard.rendering import Completion, Renderer, Text
from wizloop.loop.words import DEFAULT, NONE, Declaration, Task, Verdict
from wizloop.recipes import policies
from wizloop.recipes.categories import MOST, POLICIES, checked_names, plain
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Guard as Settings

HEAD: Final = "Categories:"
ANSWER: Final = Choice((" yes", " no"))
Probabilities = Mapping[str, float]
"""P(the category applies) by name; empty where the guard's answer cannot be read."""
_LINE: Final = re.compile(rf"\n{HEAD}[ \t]*(?P<named>[^\n]*?)\s*\Z")


def settled(recipe: Recipe) -> Settings:
    """Return [guard] with the categories as a list of names. Raises policies.PolicyError, which names the file."""
    given = recipe.guard.categories
    if not isinstance(given, str):
        return recipe.guard
    path = _policy_file(recipe) if given == POLICIES else Path(given)
    if path is not None and path.suffix == ".txt":
        found = _lines(path)
    else:
        found = tuple(policy.name for policy in policies.load(path))
    try:
        return recipe.guard.model_copy(update={"categories": checked_names(found)})
    except ValueError as error:
        raise policies.PolicyError(f"{path or policies.SHIPPED}: guard.categories: {error}") from None


def _policy_file(recipe: Recipe) -> Path | None:
    """Return the file of the guard's policies, or of the teacher's if it has none; None for the shipped ones."""
    own = recipe.teacher.policies if recipe.guard.policies is None else recipe.guard.own_policies
    return None if own is None else Path(own)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in regular_file.read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise policies.PolicyError(f"{path}: guard.categories cannot be read: {error}; give a text file") from None
    if found := tuple(line for line in lines if line)[: MOST + 1]:
        return found
    raise policies.PolicyError(f"{path}: guard.categories names none: write one name a line")


def matched(words: Iterable[str], names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the declared names that some words mean, in the declared order, and the words that mean none."""
    by_word = {plain(name): name for name in names}
    given = list(words)
    found = {by_word[plain(word)] for word in given if plain(word) in by_word}
    return tuple(name for name in names if name in found), [word for word in given if plain(word) not in by_word]


def is_held(verdict: Mapping[Any, str | None], declared: Declaration) -> bool:
    """Return whether a verdict blocks the request or the response."""
    tasks: tuple[Task, ...] = ("request", "response")
    return any(not declared.passes(task, label) for task in tasks if (label := verdict.get(task)) is not None)


def in_trace(completion: Completion, named: Sequence[str] | None) -> Completion:
    """Return a trace with the line of its categories; as it is if they are not known."""
    if named is None:
        return completion
    return Completion(f"{completion.text}\n{HEAD} {', '.join(named) or NONE}", completion.strong)


def in_direct(
    completion: Completion, renderer: Renderer, named: Sequence[str] | None, verdict: Mapping[Any, str | None]
) -> Completion:
    """Return a direct answer with yes or no to each category; as it is if they are not known, or not asked for."""
    if named is None or not is_held(verdict, renderer.declared):
        return completion
    text, strong = f"{completion.text}\n{HEAD}", list(completion.strong)
    for name in renderer.categories:
        text += f"\n{name}:"
        strong.append((len(text) + 1, len(text) + len(_answer(name in named))))
        text += _answer(name in named)
    return Completion(text, tuple(strong))


def endings(names: Sequence[str]) -> list[str]:
    """Return what may follow an answer block, each name and each answer once; nothing without names."""
    answers = ["\n".join([f"\n{HEAD}", *(f"{name}:{word}" for name in names)]) for word in ANSWER.words]
    return [*(f"\n{HEAD} {name}" for name in (*names, NONE)), *answers] if names else [""]


def prompt(renderer: Renderer, sample: Text, verdict: Verdict, said: Sequence[bool]) -> Prompt:
    """Render a sample with the verdicts and the answers to the first categories; the next one is asked."""
    lines = [f"{name}:{_answer(yes)}" for name, yes in zip(renderer.categories, said, strict=False)]
    opening = "\n".join(
        [grammar.answer_block(verdict, renderer.declared), HEAD, *lines, f"{renderer.categories[len(said)]}:"]
    )
    return renderer.prompt(sample, opening)


def ask_categories(
    guard: Guard,
    renderer: Renderer,
    samples: Sequence[Text],
    verdicts: Sequence[Mapping[Any, str | None]],
    traces: Sequence[Sequence[str] | None],
    *,
    max_tokens: int,
) -> list[Probabilities]:
    """Return P(category) by name of each sample, given its verdicts.

    Read from the texts of its traces, or where these are None from one forward pass per category, each given the
    answers before it. It is 0 for a sample that is let through, and empty for one whose verdict or traces say nothing.
    """
    names = renderer.categories
    found: list[Probabilities] = [dict.fromkeys(names if any(one.values()) else (), 0.0) for one in verdicts]
    held = [at for at, verdict in enumerate(verdicts) if is_held(verdict, renderer.declared)]
    for at in held:
        found[at] = {} if (texts := traces[at]) is None else of_traces(texts, names)
    said: dict[int, list[float]] = {at: [] for at in held if traces[at] is None}
    for _ in names if said else ():
        prompts = [prompt(renderer, samples[at], verdicts[at], [p >= 0.5 for p in ps]) for at, ps in said.items()]
        encoded = [guard.encode(one, max_tokens=max_tokens) for one in prompts]
        for ps, row in zip(said.values(), guard.score(encoded, ANSWER), strict=True):
            ps.append(float(row[0]))
    return [dict(zip(names, said[at], strict=True)) if at in said else p for at, p in enumerate(found)]


def of_traces(texts: Sequence[str], names: Sequence[str]) -> Probabilities:
    """Return the share of the traces with a readable line that name each category; empty without one."""
    read = [found for text in texts if (found := named_in(text, names)) is not None]
    return {name: sum(name in found for found in read) / len(read) for name in names} if read else {}


def chosen(p: Probabilities, thresholds: Mapping[str, float], names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the categories from their thresholds on, 0.5 where none was learned; None if nothing could be read."""
    return tuple(name for name in names if p.get(name, 0.0) >= thresholds.get(name, 0.5)) if p else None


def named_in(text: str, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the categories in the last line of a trace.

    None without the line, and for a line with anything but declared names, each once, or `None`.
    """
    line = _LINE.search(text)
    if line is None:
        return None
    given = [part.strip() for part in line["named"].split(",")]
    if given == [NONE]:
        return ()
    return tuple(given) if len(set(given)) == len(given) and set(given) <= set(names) else None


@dataclass(frozen=True)
class BeforeLine:
    """Reads the verdicts of an answer before the line of its categories, whatever stands in that line."""

    inner: Reader

    @property
    def name(self) -> str:
        """Its name on record: the verdicts are read as ever."""
        return self.inner.name

    def read(self, text: str, sample: Text, declared: Declaration = DEFAULT) -> Reading | None:
        """Return the verdicts; None for an answer that is unparsed."""
        line = _LINE.search(text)
        return self.inner.read(text if line is None else text[: line.start()], sample, declared)


def _answer(yes: bool) -> str:
    return ANSWER.words[0 if yes else 1]
