"""Words the policy reasoner's assessment as a trace, in a small closed vocabulary. Decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wizloop.backends.teachers.base import Harm, Question, Refusal, TeacherTrace
from wizloop.backends.teachers.policy.scoring import Depth, Score
from wizloop.backends.teachers.reading import LONGEST_LINE, shortened

Confidence = Literal["low", "medium", "high"]
_ACTS: Mapping[Refusal, str] = {"refusal": "refuses", "compliance": "complies"}


@dataclass(frozen=True)
class Assessment:
    """The decisions on one question, and their grounds.

    `against_wording`: a shown label outranks what the wording alone would have decided.
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
    overruled: tuple[str, ...] = ()
    """The tasks of the answer on which a shown label outranks the wording too."""


def explain(assessment: Assessment) -> str:
    """Return at most 12 words of a small closed vocabulary, the deciding ones first: a tiny guard learns them."""
    ending = "" if assessment.completion is None else f"; the assistant {_ACTS[assessment.completion]}"
    return f"{_reason(assessment)}{ending}."


def _reason(assessment: Assessment) -> str:
    top = assessment.top
    if assessment.response == "harmful" and assessment.request == "unharmful":
        return "The answer harms by meaning"
    if assessment.against_wording:
        if assessment.request == "harmful":
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


def _request_steps(assessment: Assessment, depth: Depth) -> list[str]:
    top = assessment.top
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
    if assessment.against_wording:
        steps.append("The given label outranks the wording.")
    steps.append(f"The wording scores {top.points} of 100, so the request is {assessment.request}.")
    return steps


def _completion_steps(assessment: Assessment) -> list[str]:
    if assessment.completion is None:
        return []
    quoted = _quoted(assessment.refusals)
    phrases = f"Refusal wording: {quoted}." if quoted else "No refusal wording is present."
    outranks = ["The given label outranks the wording."] if "completion" in assessment.overruled else []
    return [phrases, *outranks, f"So the assistant {_ACTS[assessment.completion]}."]


def _response_steps(assessment: Assessment) -> list[str]:
    if assessment.response is None:
        return []
    quoted = _quoted(assessment.instructions)
    phrases = f"Instruction wording: {quoted}." if quoted else "No instructions."
    if "response" in assessment.overruled:
        return [phrases, f"The given label outranks the wording, so the response is {assessment.response}."]
    return [phrases, f"The request is {assessment.request}, so the response is {assessment.response}."]


def write_trace(question: Question, assessment: Assessment, depth: Depth) -> TeacherTrace:
    """Write the trace of an assessment."""
    top = assessment.top
    touched = [score for score in assessment.scores if score.touched]
    kind = "A prompt alone" if question.response is None else "A prompt with a response"
    return TeacherTrace(
        surface_analysis=f"{kind}; {len(touched)} of {len(assessment.scores)} policies have wording in the prompt.",
        legitimate_uses=tuple(
            f"Wording of {_quoted(top.protective)} names a protective purpose." for _ in top.protective[:1]
        ),
        harmful_uses=tuple(_line(f"{score.policy.name}: {score.policy.description}") for score in touched),
        context_clues=_context_clues(top),
        risk_factors=(*top.keywords, *top.indicators, *top.intent),
        mitigating_factors=top.protective,
        request_steps=tuple(map(_line, _request_steps(assessment, depth))),
        completion_steps=tuple(_completion_steps(assessment)),
        response_steps=tuple(_response_steps(assessment)),
        explanation=explain(assessment),
        confidence=assessment.confidence,
        request=assessment.request,
        completion=assessment.completion,
        response=assessment.response,
    )


def _line(text: str) -> str:
    """Return a text as a line of a trace; one's own policies may be longer than it may be."""
    return text if len(text) <= LONGEST_LINE else shortened(text, LONGEST_LINE)


def _context_clues(top: Score) -> str:
    if top.intent:
        return "The wording states an intent to act."
    return "The wording states a protective purpose." if top.protective else "The wording states no purpose."
