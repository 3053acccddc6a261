"""Render the model card of an export as Markdown: provenance, scores, usage and parity."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wizloop.store.evaluations import Evaluation


@dataclass(frozen=True)
class Facts:
    """The content of the card."""

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
    """Number of calls by teacher and outcome."""
    reviews: Mapping[str, int]
    gate: str
    evaluations: Sequence[Evaluation]
    parity: Mapping[str, Any]
    thresholds: Mapping[str, Mapping[str, float]]
    source: Mapping[str, str]
    example: Sequence[str]
    """The pieces of a prompt."""
    longest: int
    """Maximum tokens of a prompt."""
    base_is: Mapping[str, str] = field(default_factory=dict)
    """The base's revision on the hub, or the sha256 of its files, by that word."""
    loads: bool = True
    """Whether wizloop can load the export."""


_USAGE = (
    "Build the prompt from exactly these pieces, with the sample in place of PROMPT and RESPONSE, or None if there is",
    "no response; then only the request is judged. Encode each piece separately, because a tokenizer that merges",
    "tokens across pieces produces a different prompt; encode the sample without special tokens, and prepend the BOS",
    "token if the tokenizer has one. The probability is that of ` harmful` against ` unharmful` as the next token, at",
    "the first token where the two differ. For the next task append the likelier word to the last piece,",
    "`Answers:\\nRequest: harmful\\nCompletion:` (` refusal` against ` compliance`), and then `Response:`.",
    "`wizloop classify` does this.",
)


def render(facts: Facts) -> str:
    """Return the card. Names of data sets and models are shown as code, so that they cannot be read as markup."""
    return "\n".join(
        [
            f"# {_code(facts.model)}, round {facts.round} of {_code(facts.run)}",
            "",
            "A safety guard trained with wizloop. It judges whether a request is harmful and, if there is a response,",
            "whether that is a refusal and whether it is harmful. It makes mistakes: read the scores below first.",
            "",
            "## Provenance",
            "",
            f"- base: {_code(facts.base)}; format: {facts.format}",
            *(f"- base ({word}): {_code(value)}" for word, value in sorted(facts.base_is.items())),
            f"- recipe (sha256): {_code(facts.recipe_hash)}",
            f"- samples (sha256): {_code(facts.data_hash)}; {_listed(facts.samples)}",
            f"- prompt rendering (sha256): {_code(facts.rendering)}",
            *(f"- teacher {_code(name)}: {_listed(outcomes)}" for name, outcomes in sorted(facts.teachers.items())),
            f"- reviews: {_listed(facts.reviews)}",
            f"- gate: {facts.gate}",
            "",
            "## Scores",
            "",
            "| set | task | samples | unparsed | F1 (95 % interval) |",
            "| --- | --- | --- | --- | --- |",
            *(_line(one) for one in facts.evaluations),
            "",
            "## Usage",
            "",
            *_USAGE,
            "",
            *(f"    {line}" for line in json.dumps(facts.example, indent=1).splitlines()),
            "",
            f"At most {facts.longest:,} tokens in total: longer samples are cut in the middle.",
            "",
            *(_threshold(task, facts.source.get(task, "direct"), by) for task, by in sorted(facts.thresholds.items())),
            "",
            "## Parity with the original model",
            "",
            _parity(facts.parity, loads=facts.loads),
            "",
        ]
    )


def _line(one: Evaluation) -> str:
    return f"| {_code(one.benchmark)} | {one.task} | {one.n} | {one.unparsed} | {_f1(json.loads(one.metrics_json))} |"


def _f1(figures: Mapping[str, float | None]) -> str:
    f1, low, high = figures["f1"], figures["low"], figures["high"]
    if f1 is None:
        return "undefined"
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * f1:.1f}{interval}"


def _threshold(task: str, source: str, by: Mapping[str, float]) -> str:
    how = "the direct answer" if source == "direct" else "the mean over its traces"
    return f"- {task}: positive from a probability of {by.get(source, 0.5):.3f} of {how}"


def _parity(parity: Mapping[str, Any], *, loads: bool) -> str:
    if not loads:
        return "Not run: wizloop cannot load this format. Compare its verdicts with the guard's before you rely on it."
    if not parity.get("n"):
        return "Not checked: the recipe sets export.parity_n to 0."
    text = (
        f"It agrees on {parity['agree']} of {parity['n']} verdicts on dev samples; probabilities differ by at most "
        f"{parity['max_difference']:.4f}."
    )
    text = text if parity["agree"] == parity["n"] else f"{text} **Some verdicts differ.**"
    return f"{text}{_libraries(parity)}"


def _libraries(parity: Mapping[str, Any]) -> str:
    """Say which libraries answered, and which were not run and why; nothing for a format of one library."""
    run, not_run = parity.get("run", ()), parity.get("not_run", {})
    said = f" Run in {' and '.join(run)}." if run else ""
    return said + "".join(f" **Not run in {name}**: {_code(why)}." for name, why in sorted(not_run.items()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in sorted(counts.items())) or "none"


def _code(text: str) -> str:
    clean = "".join(c if c.isprintable() and c not in "`|" else " " for c in text)
    return f"`{clean}`"
