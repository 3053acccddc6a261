"""Render the model card of an export as Markdown: provenance, scores, usage and parity."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wizloop.console import by_policy, operating, standing
from wizloop.loop.measures.platt import UNSCALED, Scale, scaled
from wizloop.loop.phases import card_head, category_card
from wizloop.loop.words import DEFAULT, FIELD, Declaration
from wizloop.store.evaluations import Evaluation


@dataclass(frozen=True)
class Beside:
    """What was measured on the same samples beside the model."""

    base: Sequence[Evaluation]
    baselines: Mapping[str, Any]
    """Figures by baseline, benchmark and task."""
    compared: standing.Compared


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
    beside: "Beside"
    parity: Mapping[str, Any]
    thresholds: Mapping[str, Mapping[str, float]]
    source: Mapping[str, str]
    example: Sequence[str]
    """The pieces of a prompt."""
    longest: int
    """Maximum tokens of a prompt."""
    loads: bool = True
    """Whether wizloop can load the export."""
    license: str | None = None
    """The license that the base's own card names."""
    base_is: Mapping[str, str] = field(default_factory=dict)
    """The base's revision on the hub, or the sha256 of its files, by that word."""
    scales: Mapping[str, Mapping[str, Scale]] = field(default_factory=dict)
    """Platt scales by task and source."""
    policies: Mapping[str, Any] = field(default_factory=dict)
    """Figures by policy, as a round records them; empty for a guard without policies."""
    operating: Mapping[str, Any] = field(default_factory=dict)
    """Operating point and promised error, as `console.operating` reads them."""
    speed: Mapping[str, Any] = field(default_factory=dict)
    """Speed and memory where they were measured."""
    ways: Sequence[str] = ()
    """Sentences on the ways of answering."""
    declared: Declaration = DEFAULT
    """The label words."""
    categories: Mapping[str, Any] = field(default_factory=dict)
    """Figures of its categories by benchmark; empty for a guard without."""
    category_thresholds: Mapping[str, float] = field(default_factory=dict)
    """By every category that it names, the probability from which a text is in it."""


_USAGE = (
    "Build the prompt from exactly these pieces, with the sample in place of PROMPT and RESPONSE, or None if there is",
    "no response; then only the request is judged. Encode each piece separately, because a tokenizer that merges",
    "tokens across pieces produces a different prompt; encode the sample without special tokens, and prepend the BOS",
    "token if the tokenizer has one. The probability is that of ` harmful` against ` unharmful` as the next token, at",
    "the first token where the two differ. For the next task append the likelier word to the last piece,",
    "`Answers:\\nRequest: harmful\\nCompletion:` (` refusal` against ` compliance`), and then `Response:`.",
    "`wizloop classify` does this.",
)


_BASELINES = (
    "Base: the model before it was taught. All harmful: a guard that calls everything harmful, and every response a",
    "refusal. TF-IDF: with logistic regression, on the labels that this model was taught.",
)
_OWN_BASELINES = (
    "F1 is of each task's first label against all others. Base: the model before it was taught. All harmful: a guard",
    "that always answers the first label. TF-IDF: with logistic regression, on the labels that this model was taught.",
)
_OLLAMA = (
    "",
    "For Ollama: `ollama create NAME -f Modelfile`, then send the prompt as the user's message, and its response, if",
    "there is one, as the assistant's. The answer continues the answer block, with the likelier word first, whatever",
    "the thresholds above are.",
)
_PROGRAMS: Mapping[str, Sequence[str]] = {
    "adapter": ("", "For PEFT: `PeftModel.from_pretrained(base, DIR)`, over the base that is named above."),
    "adapter-mlx": ("", "For mlx-lm: `mlx_lm.load(BASE, adapter_path=DIR)`, over the base that is named above."),
    "gguf": _OLLAMA,
    "gguf-q8": _OLLAMA,
}


def render(facts: Facts) -> str:
    """Return the card. Names of data sets and models are shown as code, so that they cannot be read as markup."""
    name = f"{facts.run}-{facts.model}"
    return card_head.render(name, facts.base, facts.format, facts.license, facts.evaluations) + "\n".join(
        [
            f"# {_code(facts.model)}, round {facts.round} of {_code(facts.run)}",
            "",
            *_about(facts.declared),
            "",
            "## Provenance",
            "",
            f"- base: {_code(_named(facts.base))}; format: {facts.format}",
            *(f"- base ({word}): {_code(value)}" for word, value in sorted(facts.base_is.items())),
            f"- recipe (sha256): {_code(facts.recipe_hash)}",
            f"- samples (sha256): {_code(facts.data_hash)}; {_listed(facts.samples)}",
            f"- prompt rendering (sha256): {_code(facts.rendering)}",
            *(f"- teacher {_code(name)}: {_listed(outcomes)}" for name, outcomes in sorted(facts.teachers.items())),
            f"- reviews: {_listed(facts.reviews)}",
            f"- gate: {_escaped(facts.gate)}",
            "",
            "## Scores",
            "",
            f"| set | task | samples | unparsed | F1 (95 % interval) | {' | '.join(standing.NAMES.values())} |",
            f"| --- | --- | --- | --- | --- |{' --- |' * len(standing.NAMES)}",
            *(_line(one, facts.beside) for one in facts.evaluations),
            "",
            *_by_label(facts.evaluations),
            *(_BASELINES if facts.declared == DEFAULT else _OWN_BASELINES),
            "",
            *(f"- {said}" for said in _not_better(facts)),
            *(f"- {_escaped(said)}" for said in (*facts.ways, *_operating(facts))),
            "",
            *_policies(facts.policies),
            *category_card.section(facts.categories, facts.category_thresholds, rounded=_is_rounded(facts)),
            "## Usage",
            "",
            *_usage(facts.declared),
            "",
            *(f"    {line}" for line in json.dumps(facts.example, indent=1).splitlines()),
            "",
            f"At most {facts.longest:,} tokens in total: longer samples are cut in the middle.",
            "",
            *(_threshold(facts, task, by) for task, by in sorted(facts.thresholds.items())),
            *_PROGRAMS.get(facts.format, ()),
            "",
            "## Parity with the original model",
            "",
            _parity(facts.parity, loads=facts.loads),
            "",
        ]
    )


def _about(declared: Declaration) -> list[str]:
    if declared == DEFAULT:
        return [
            "A safety guard trained with wizloop. It judges whether a request is harmful and, if there is a response,",
            "whether that is a refusal and whether it is harmful. It makes mistakes: read the scores below first.",
        ]
    words = [f"{task} ({', '.join(_code(word) for word in of)})" for task, of in declared.by_task.items()]
    several = any(declared.classes(task) for task in declared.tasks)
    which = "The first label blocks" if declared.blocks == "first" else "All labels but the last block"
    return [
        f"A guard trained with wizloop. It gives labels of its own to: {'; '.join(words)}. The first label is the one",
        f"that P and F1 are of{f'. {which} a sample' if several else ''}. It makes mistakes: read the scores below",
        "first.",
    ]


def _usage(declared: Declaration) -> Sequence[str]:
    if declared == DEFAULT:
        return _USAGE
    words = [" against ".join(f"{_code(f' {word}')}" for word in of) for of in declared.by_task.values()]
    later = [f"`{FIELD[task]}:` ({said})" for task, said in zip(declared.tasks[1:], words[1:], strict=True)]
    more = f" For the next task append the likeliest word and a line {', then '.join(later)}." if later else ""
    return [
        *_USAGE[:3],
        f"token if the tokenizer has one. The probabilities are those of {words[0]} as the next",
        *[f"token, at the first token where they differ.{more} `wizloop classify` does this."],
    ]


def _by_label(rows: Sequence[Evaluation]) -> list[str]:
    said = [(one, standing.by_label(one.metrics)) for one in rows]
    lines = [f"- {_code(one.benchmark)} {one.task}, F1 by label: {_escaped(labels)}" for one, labels in said if labels]
    return [*lines, ""] if lines else []


def _line(one: Evaluation, beside: Beside) -> str:
    where = (one.benchmark, one.task)
    base = next((row.metrics for row in beside.base if (row.benchmark, row.task) == where), None)
    others = (beside.baselines.get(name, {}).get(one.benchmark, {}).get(one.task) for name in standing.NAMES)
    peers = [base if name == "base" else found for name, found in zip(standing.NAMES, others, strict=True)]
    cells = [f"{_code(one.benchmark)} | {one.task} | {one.n} | {one.unparsed} | {_f1(one.metrics)}"]
    cells += ["not measured" if found is None else _f1(found) for found in peers]
    return f"| {' | '.join(cells)} |"


def _not_better(facts: Facts) -> list[str]:
    """Return where the model does not beat every baseline, in words."""
    if not facts.beside.compared:
        return ["It was not compared with its baselines."]
    said = standing.sentences("**Not better than a baseline**", facts.beside.compared)
    lines = [_escaped(line) for line in said] or ["Its F1 is above that of every baseline on every set compared."]
    # What was compared is the guard, not its rounded weights.
    return [f"Before its weights were rounded: {line}" for line in lines] if "metrics" in facts.parity else lines


def _is_rounded(facts: Facts) -> bool:
    """Return whether the figures of categories are of the guard before its weights were rounded."""
    return "metrics" in facts.parity and "categories" not in facts.parity


def _policies(record: Mapping[str, Any]) -> list[str]:
    """Return what is told of the policies in the prompts; nothing for a guard without."""
    if not record:
        return []
    how = (
        "Each policy is asked about in a prompt of its own, of which the one below is the first. Any harmful verdict "
        "wins: the probability is the largest; of a refusal it is the mean."
        if record["ask"] == "each"
        else "Every prompt shows all of them."
    )
    names = ", ".join(map(_code, record["never_trained_on"])) or "none"
    lines = [f"- {_escaped(line)}" for line in by_policy.lines(record)]
    heading = ["## Policies", "", f"{how} `guard.json` has them. Policies never trained on: {names}.", ""]
    return [*heading, *lines, *([""] if lines else [])]


def _operating(facts: Facts) -> list[str]:
    """Return recall at false-positive rates, what is promised and was kept, and the speed, as far as measured."""
    by_place = {f"{one.benchmark} {one.task}": one.metrics for one in facts.evaluations}
    said = [
        f"Recall on {place} by false-positive rate (95 % interval): {told}."
        for place, figures in by_place.items()
        if (told := operating.recalls(figures))
    ]
    said += [*operating.sentences(facts.operating), *operating.measured(by_place)]
    return said + ([operating.speed(facts.speed)] if facts.speed else [])


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() and c not in "`|<>[]" else " " for c in text)


def _f1(figures: Mapping[str, float | None]) -> str:
    f1, low, high = (figures.get(name) for name in ("f1", "low", "high"))
    if f1 is None:
        return "undefined"
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * f1:.1f}{interval}"


def _threshold(facts: Facts, task: str, by: Mapping[str, float]) -> str:
    source = facts.source.get(task, "direct")
    raw, scale = by.get(source, 0.5), facts.scales.get(task, {}).get(source, UNSCALED)
    how = {"direct": "the direct answer", "traces": "the mean over its traces", "linear": "the linear head"}[source]
    shown = (
        "" if scale == UNSCALED else f"; wizloop shows probabilities Platt-scaled, this one as {scaled(raw, scale):.3f}"
    )
    return f"- {task}: positive from a raw probability of {raw:.3f} of {how}{shown}"


def _parity(parity: Mapping[str, Any], *, loads: bool) -> str:
    if not loads:
        return "Not run: wizloop cannot load this format. Compare its verdicts with the guard's before you rely on it."
    if "reason" in parity:
        return (
            f"Its weights are rounded, which makes it another guard: the scores and thresholds above are its own. "
            f"{parity['reason'][0].upper()}{parity['reason'][1:]}. It agrees on {parity['agree']} of {parity['n']} "
            f"verdicts on dev; probabilities differ by at most {parity['max_difference']:.4f}."
        )
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


def _named(base: str) -> str:
    """Return a hub name whole, and of a folder or file the name without its path, which is private."""
    return base if card_head.is_hub_name(base) else Path(base).name


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in sorted(counts.items())) or "none"


def _code(text: str) -> str:
    clean = "".join(c if c.isprintable() and c not in "`|" else " " for c in text)
    return f"`{clean}`"
