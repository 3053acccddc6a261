"""The model card of an export: where the model comes from and how it did, as Markdown. Pure: facts in, text out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One line of the table; rates are fractions, None where undefined."""

    benchmark: str
    task: str
    n: int
    unparsed: int
    f1: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Facts:
    """All that the card tells."""

    model: str
    round: int
    format: str
    base: str
    run: str
    recipe_hash: str
    data_hash: str
    rendering: str
    samples: Mapping[str, int]
    teachers: Mapping[str, Mapping[str, int]]
    """By teacher, how many calls came to which outcome."""
    reviews: Mapping[str, int]
    gate: str
    measured: Sequence[Measured]
    parity: Mapping[str, Any]
    thresholds: Mapping[str, Mapping[str, float]]
    source: Mapping[str, str]
    example: Sequence[str]
    """How the guard is asked: the pieces of a prompt."""
    longest: int
    """Tokens of a prompt at most."""
    loads: bool = True
    """Whether wizloop can ask what was exported."""


_ASKED = (
    "With these pieces, to the letter, with the sample in the place of PROMPT and RESPONSE, or None where there is no",
    "response: then the request alone is asked for. Each piece is encoded by itself, since a tokenizer that merges",
    "across a seam makes another prompt of them; the sample's with no special token, and before all stands the BOS of",
    "a tokenizer that has one. The probability is that of ` harmful` against ` unharmful` as what comes next, where",
    "the two first differ. For the next task the last piece goes on with the likelier one,",
    "`Answers:\\nRequest: harmful\\nCompletion:` (` refusal` against ` compliance`), and then with `Response:`.",
    "`wizloop classify` does this.",
)


def card(facts: Facts) -> str:
    """The card. Names of data sets and models are shown as code, so that they cannot be read as markup."""
    return "\n".join(
        [
            f"# {_code(facts.model)}, round {facts.round} of {_code(facts.run)}",
            "",
            "A safety guard that wizloop taught. It judges the request and, where there is an answer, whether that is",
            "a refusal and whether it is harmful. It can be wrong: read the figures below before you rely on it.",
            "",
            "## Where it comes from",
            "",
            f"- base: {_code(facts.base)}; format: {facts.format}",
            f"- recipe (sha256): {_code(facts.recipe_hash)}",
            f"- samples (sha256): {_code(facts.data_hash)}; {_listed(facts.samples)}",
            f"- prompt rendering (sha256): {_code(facts.rendering)}",
            *(f"- teacher {_code(name)}: {_listed(outcomes)}" for name, outcomes in sorted(facts.teachers.items())),
            f"- reviews: {_listed(facts.reviews)}",
            f"- gate: {facts.gate}",
            "",
            "## How it did",
            "",
            "| set | task | samples | unparsed | F1 (95 % interval) |",
            "| --- | --- | --- | --- | --- |",
            *(_line(one) for one in facts.measured),
            "",
            "## How to ask it",
            "",
            *_ASKED,
            "",
            *(f"    {line}" for line in json.dumps(facts.example, indent=1).splitlines()),
            "",
            f"At most {facts.longest:,} tokens in all: longer samples are cut in their middle.",
            "",
            *(_threshold(task, facts.source.get(task, "direct"), by) for task, by in sorted(facts.thresholds.items())),
            "",
            "## Parity with the model that was measured",
            "",
            _parity(facts.parity, loads=facts.loads),
            "",
        ]
    )


def _line(one: Measured) -> str:
    return f"| {_code(one.benchmark)} | {one.task} | {one.n} | {one.unparsed} | {_interval(one)} |"


def _interval(one: Measured) -> str:
    if one.f1 is None:
        return "not defined"
    if one.low is None or one.high is None:
        return f"{100 * one.f1:.1f}"
    return f"{100 * one.f1:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def _threshold(task: str, source: str, by: Mapping[str, float]) -> str:
    how = "the direct answer" if source == "direct" else "the mean over its traces"
    return f"- {task}: positive from a probability of {by.get(source, 0.5):.3f}, by {how}"


def _parity(parity: Mapping[str, Any], *, loads: bool) -> str:
    if not loads:
        return "Not run: wizloop cannot load this format. Compare its verdicts with the guard's before you rely on it."
    if not parity.get("n"):
        return "Not checked: the recipe sets export.parity_n to 0."
    told = (
        f"On {parity['n']} verdicts of frozen dev samples it agrees in {parity['agree']}; its probabilities differ by "
        f"{parity['max_difference']:.4f} at most."
    )
    return told if parity["agree"] == parity["n"] else f"{told} **It does not agree everywhere.**"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in sorted(counts.items())) or "none"


def _code(text: str) -> str:
    clean = "".join(c if c.isprintable() and c not in "`|" else " " for c in text)
    return f"`{clean}`"
