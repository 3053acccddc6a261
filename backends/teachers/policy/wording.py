"""Puts the policy reasoner's reading into words: a trace, made of a small closed vocabulary.

Not where anything is decided: every sentence here follows from a Reading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wizloop.backends.teachers.base import Harm, Question, Refusal, TeacherTrace
from wizloop.backends.teachers.policy.scoring import Depth, Score

Confidence = Literal["low", "medium", "high"]
_ACTS: Mapping[Refusal, str] = {"refusal": "refuses", "compliance": "complies"}


@dataclass(frozen=True)
class Reading:
    """What was decided on one question, and what it rests on.

    `against_wording` says that a shown label outranks what the wording alone would have decided.
    """

    top: Score
    scores: list[Score]
    request: Harm
    completion: Refusal | None
    response: Harm | None
    confidence: Confidence
    against_wording: bool
    refusals: tuple[str, ...]
    instructions: tuple[str, ...]


def explain(reading: Reading) -> str:
    """At most 12 words from a small closed vocabulary, the deciding ones first: a tiny guard learns this sentence."""
    ending = "" if reading.completion is None else f"; the assistant {_ACTS[reading.completion]}"
    return f"{_reason(reading)}{ending}."


def _reason(reading: Reading) -> str:
    top = reading.top
    if reading.against_wording:
        if reading.request == "harmful":
            return "Harm by meaning, not by listed wording"
        return f"{top.policy.name}: listed wording, no harmful purpose"
    if not top.touched:
        return "No policy is touched"
    context = "stated intent" if top.intent else "protective context" if top.protective else "no protective context"
    return f"{top.policy.name}: {_wording(top)}, {context}"


def _wording(score: Score) -> str:
    if score.keywords:
        return "explicit request" if score.indicators else "explicit wording"
    return "warning signs" if score.indicators else "known pattern"


def _quoted(markers: Sequence[str]) -> str:
    return ", ".join(f'"{marker}"' for marker in markers)


def _request_steps(reading: Reading, depth: Depth) -> list[str]:
    top = reading.top
    steps = [
        f"{top.policy.name} wording: {_quoted(top.keywords)}."
        if top.keywords
        else "No keyword of a policy is present.",
        f"Warning signs: {_quoted(top.indicators)}." if top.indicators else "No warning sign is present.",
    ]
    if depth != "low" and top.intent:
        steps.append(f"The wording states intent: {_quoted(top.intent)}.")
    elif depth != "low" and top.protective:
        steps.append(f"The wording is protective: {_quoted(top.protective)}.")
    if top.like_violating:
        steps.append(f"The text is close to an example that violates {top.policy.name}.")
    if reading.against_wording:
        steps.append("The given label outranks the wording.")
    steps.append(f"The wording scores {top.points} of 100, so the request is {reading.request}.")
    return steps


def _completion_steps(reading: Reading) -> list[str]:
    if reading.completion is None:
        return []
    phrases = f"Refusal wording: {_quoted(reading.refusals)}." if reading.refusals else "No refusal wording is present."
    return [phrases, f"So the assistant {_ACTS[reading.completion]}."]


def _response_steps(reading: Reading) -> list[str]:
    if reading.response is None:
        return []
    phrases = f"Instruction wording: {_quoted(reading.instructions)}." if reading.instructions else "No instructions."
    return [phrases, f"The request is {reading.request}, so the response is {reading.response}."]


def write_trace(question: Question, reading: Reading, depth: Depth) -> TeacherTrace:
    top = reading.top
    touched = [score for score in reading.scores if score.touched]
    kind = "A prompt alone" if question.response is None else "A prompt with a response"
    return TeacherTrace(
        surface_analysis=f"{kind}; {len(touched)} of {len(reading.scores)} policies have wording in the prompt.",
        legitimate_uses=tuple(
            f"Wording of {_quoted(top.protective)} names a protective purpose." for _ in top.protective[:1]
        ),
        harmful_uses=tuple(f"{score.policy.name}: {score.policy.description}" for score in touched),
        context_clues=_context_clues(top),
        risk_factors=(*top.keywords, *top.indicators, *top.intent),
        mitigating_factors=top.protective,
        request_steps=tuple(_request_steps(reading, depth)),
        completion_steps=tuple(_completion_steps(reading)),
        response_steps=tuple(_response_steps(reading)),
        explanation=explain(reading),
        confidence=reading.confidence,
        request=reading.request,
        completion=reading.completion,
        response=reading.response,
    )


def _context_clues(top: Score) -> str:
    if top.intent:
        return "The wording states an intent to act."
    return "The wording states a protective purpose." if top.protective else "The wording states no purpose."
