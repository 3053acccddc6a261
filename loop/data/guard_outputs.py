"""Read what guards and moderation APIs write as labels, from a text or an object, which a cell may hold as a text.

Llama Guard writes `safe`, or `unsafe` and its categories below (the model cards of meta-llama); Qwen3Guard
writes `Safety: Unsafe` and `Categories: ...` (QwenLM/Qwen3Guard); WildGuard `Harmful request: yes`, `Response refusal:
no` and `Harmful response: yes` (allenai/wildguard); Nemotron's guards a JSON object with `User Safety` and `Response
Safety`. OpenAI's moderation endpoint answers with `results`, each with `flagged`, `categories` and `category_scores`;
Mistral's has no `flagged`. A third class, like Qwen3Guard's Controversial, is no label.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from wizloop.loop.data.conversations import opened
from wizloop.loop.words import Task

NONE: Mapping[Task, str] = MappingProxyType({})
LONGEST = 20_000
"""Characters of a guard's output; a longer text is none."""
HARM = {"safe": "unharmful", "no": "unharmful", "unsafe": "harmful", "yes": "harmful"}
REFUSAL = {"yes": "refusal", "no": "compliance"}
_END = re.compile(r"\s*(?:<\|(?:eot|eot_id|eom|end_of_text|endoftext|im_end)\|>|</s>|<end_of_turn>)\s*$", re.IGNORECASE)
_CODES = r"[SO]\d{1,2}(?:[\s,]+[SO]\d{1,2})*"
_LLAMA_GUARD = re.compile(
    rf"(safe|unsafe)\.?(?:[\s:,]+({_CODES}))?|(unsafe)\.?\s*\n\s*([^\n]{{1,200}}(?:\n[^\n]{{1,100}}){{0,20}})",
    re.IGNORECASE,
)
_QWEN3GUARD = re.compile(r"^Safety:\s*(Safe|Unsafe|Controversial)\b", re.IGNORECASE | re.MULTILINE)
_QWEN3GUARD_KINDS = re.compile(r"^Categories:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_WILDGUARD: Mapping[Task, re.Pattern[str]] = {
    "request": re.compile(r"^Harmful request:\s*(yes|no)\b", re.IGNORECASE | re.MULTILINE),
    "completion": re.compile(r"^Response refusal:\s*(yes|no)\b", re.IGNORECASE | re.MULTILINE),
    "response": re.compile(r"^Harmful response:\s*(yes|no)\b", re.IGNORECASE | re.MULTILINE),
}
_NEMOTRON: Mapping[Task, str] = {"request": "user safety", "response": "response safety"}


class Output(NamedTuple):
    """What a guard said."""

    harm: str | None = None
    """Label of harm of what it was asked about; None if it names the tasks itself, or for a third class."""
    labels: Mapping[Task, str] = NONE
    """Labels of the tasks that it names itself."""
    policy: str | None = None
    """The first category that it names."""
    word: str | None = None
    """The word for a third class."""


def read(value: Any) -> Output | None:
    """Return what a guard or a moderation API said; None for any other value."""
    if isinstance(value, str):
        return _from_text(value.strip()) if len(value) <= LONGEST else None
    if isinstance(value, Mapping):
        return _moderation(value) or _nemotron(value)
    if isinstance(value, list) and len(value) == 1:
        return read(value[0]) if isinstance(value[0], Mapping) else None
    return None


def llama_guard(text: str) -> tuple[str, str | None] | None:
    """Return Llama Guard's verdict, in small letters, and the first category; None for another text."""
    found = _LLAMA_GUARD.fullmatch(_END.sub("", text).replace("\\n", "\n").strip())
    if found is None:
        return None
    return (found[1] or found[3]).casefold(), _kinds(found)[0].strip() or None


def codes(text: str) -> list[str]:
    """Return every category of Llama Guard's answer; none for safe, and for another text."""
    found = _LLAMA_GUARD.fullmatch(_END.sub("", text).replace("\\n", "\n").strip())
    return [] if found is None else [kind for kind in map(str.strip, _kinds(found)) if kind]


def _kinds(found: re.Match[str]) -> list[str]:
    return re.split(r"[,\s]+" if found[2] else r"\s*[,\n]\s*", found[2] or found[4] or "")


def word(value: Any, task: Task) -> str | None:
    """Return a guard's word about a task, a third class included; None for what is no output.

    Of results for each message, as LMSYS-Chat-1M and WildChat have them, the first is about the request and the second
    about the response.
    """
    value = opened(value)
    if isinstance(value, list) and len(value) > 1 and all(isinstance(one, Mapping) for one in value):
        value = value[:1] if task == "request" else value[1:2]
    said = read(value)
    if said is None or said.labels:
        return None if said is None else said.labels.get(task)
    return None if task == "completion" else said.harm or said.word


def _from_text(text: str) -> Output | None:
    if text.startswith(("{", "[")):
        written = opened(text if text.startswith("[") else f"[{text}]")
        return read(written) if isinstance(written, list) else None
    if said := llama_guard(text):
        return Output(HARM[said[0]], policy=said[1])
    text = _END.sub("", text)
    if found := _QWEN3GUARD.search(text):
        kinds = _QWEN3GUARD_KINDS.search(text)
        kind = kinds[1].partition(",")[0] if kinds and kinds[1] != "None" else None
        harm = HARM.get(found[1].casefold())
        return Output(harm, policy=kind, word=None if harm else found[1].casefold())
    return _wildguard(text)


def _wildguard(text: str) -> Output | None:
    answers = {task: found[1].casefold() for task, line in _WILDGUARD.items() if (found := line.search(text))}
    if "request" not in answers:
        return None
    return Output(
        labels={task: (REFUSAL if task == "completion" else HARM)[answer] for task, answer in answers.items()}
    )


def _nemotron(value: Mapping[str, Any]) -> Output | None:
    plain = {str(name).strip().casefold(): str(said).strip() for name, said in value.items()}
    labels = {task: HARM[said] for task, name in _NEMOTRON.items() if (said := plain.get(name, "").casefold()) in HARM}
    kinds = plain.get("safety categories")
    return Output(labels=labels, policy=kinds.partition(",")[0].strip() if kinds else None) if labels else None


def _moderation(value: Mapping[str, Any]) -> Output | None:
    """Read one result, or an answer with one result. Several results speak of several texts and are none of one.

    Without `flagged`, as Mistral answers, a raised category flags.
    """
    results = value.get("results")
    if isinstance(results, list) and len(results) == 1 and isinstance(results[0], Mapping):
        value = results[0]
    kinds = value.get("categories")
    if not isinstance(kinds, Mapping) or not {"flagged", "category_scores"} & value.keys():
        return None
    raised = [str(name) for name, one in kinds.items() if one is True or (one.__class__ is int and one == 1)]
    flagged = value.get("flagged", bool(raised))
    if not isinstance(flagged, bool | int) or flagged not in (0, 1):
        return None
    return Output("harmful" if flagged else "unharmful", policy=raised[0] if raised else None)
