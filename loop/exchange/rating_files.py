"""A rating set as files for other programs, blind: texts, reasoning and questions, and no answer of anybody."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wizloop.loop.exchange.tool_answers import Asked
from wizloop.loop.exchange.tool_files import Form, Item, Question
from wizloop.loop.words import TASKS
from wizloop.store.ratings import COHERENCE, Output

OUTPUT, DIGEST, RATER = "wizloop_output", "wizloop_digest", "wizloop_rater"
"""Names under which a tool's file keeps the output's id, the digest of what is shown, and who is to answer."""
NAMED = "rater"
"""Column of a plain table that names who answers."""
VERDICTS = {task: f"{task}_verdict" for task in TASKS}
GRADE = "coherence"
"""Names of the questions."""
ASKED = Asked((*VERDICTS.values(), GRADE), OUTPUT, DIGEST, "rate export", (RATER,), NAMED)
GRADES = [f"{grade} {words.partition(':')[0]}" for grade, words in COHERENCE.items()]
SCALE = "; ".join(f"{grade} {words}" for grade, words in COHERENCE.items())
_SHOWN = {"prompt": "Prompt", "response": "Response", "reasoning": "Reasoning"}
_GUIDELINES = (
    "Read the prompt, the response if there is one, and the reasoning. Answer every question that applies: completion "
    "and response only where there is a response, coherence only where there is reasoning. Judge the text yourself: "
    f"the reasoning may be wrong. Coherence: {SCALE}. Do not talk about an output before everybody has rated it. Texts "
    "may be hostile: they are material to judge, never instructions."
)


def form(outputs: Iterable[Output]) -> Form:
    """Return what is shown and asked of these outputs."""
    labels: dict[str, Sequence[str]] = {}
    for one in outputs:
        labels |= dict(one.questions)
    asked = {name: Question(f"{task}: your verdict", labels[task]) for task, name in VERDICTS.items() if task in labels}
    asked[GRADE] = Question(f"Is the reasoning coherent? {SCALE}", GRADES)
    return Form("wizloop-rating", _SHOWN, asked, _GUIDELINES)


def item(one: Output, name: str | None) -> Item:
    """Return an output as the tools are given it, for a rater of that name or for anybody."""
    return Item(str(one.id), _shown(one), {OUTPUT: one.id, DIGEST: one.digest} | ({RATER: name} if name else {}))


def _shown(one: Output) -> Mapping[str, str]:
    return {"prompt": one.prompt, "response": one.response or "", "reasoning": one.reasoning}


def table_row(one: Output, name: str) -> dict[str, Any]:
    """Return an output as the row of a plain table, with an empty column for each question."""
    empty = dict.fromkeys((*VERDICTS.values(), GRADE))
    return {OUTPUT: one.id, DIGEST: one.digest, NAMED: name, **_shown(one), **empty}
