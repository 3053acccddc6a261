"""The built-in teacher: six written policies, three depths, pure Python, free and deterministic.

It lets the whole loop run without a network. It counts wording and understands nothing: it teaches what its policies'
words say, and calls its confidence low if the wording does not decide.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from wizloop.backends.teachers.base import (
    OUR_WORDS,
    TASKS,
    Answer,
    Harm,
    LocalTeacher,
    Question,
    Refusal,
    TeacherTrace,
    Words,
    check_trace,
)
from wizloop.backends.teachers.policy.scoring import (
    UNSAFE_FROM,
    Depth,
    Policy,
    Score,
    found,
    overall,
    score_all,
    top_score,
    words_of,
)
from wizloop.backends.teachers.policy.wording import Assessment, Confidence, write_trace

REFUSALS = (
    "i can't",
    "i cannot",
    "i can not",
    "i won't",
    "i will not",
    "i am not able to",
    "i'm not able to",
    "i am unable to",
    "i'm unable to",
    "i must decline",
    "i have to decline",
    "not something i can help with",
    "i'm sorry but",
    "i am sorry but",
)
INSTRUCTIONS = (
    "here is how",
    "here's how",
    "step by step",
    "step 1",
    "step one",
    "first",
    "the steps are",
    "you will need",
    "start by",
    "begin by",
    "sure",
)
REFUSAL_HEAD = 20


class PolicyReasoner(LocalTeacher):
    """A Teacher that scores text against policies. Raises ValueError if `policies` is empty."""

    name = "policy"
    version = "1"

    def __init__(
        self,
        policies: Sequence[Policy],
        depth: Depth,
        words: Words = OUR_WORDS,
        categories: Mapping[str, str] | None = None,
    ) -> None:
        """Take the policies and, by their ids, the names of the categories that a trace is to name; None names none."""
        if not policies:
            raise ValueError("the policy reasoner has no policies: give it at least one")
        if not words.is_part_of_ours():
            own = next(one for one, ours in zip(words, OUR_WORDS, strict=True) if one not in ((), ours))
            raise ValueError(
                f"the teacher policy knows harm and refusals, and tasks declares {', '.join(own)}: name a teacher that "
                "can give these labels (claude, gemini, openai, recorded, traces)"
            )
        self.words = words
        self.policies = tuple(policies)
        self.depth: Depth = depth
        self.model = f"policy-reasoner-{depth}"
        self._categories = categories or {}
        if categories:
            self.version = f"1, {json.dumps(categories, sort_keys=True)}"

    def ask(self, question: Question) -> Answer:
        """Write a trace for any question; it supports labels that are shown and says what they rest on."""
        assessment = self.assess(question)
        trace = write_trace(question, assessment, self.depth)
        if left := [task for task in TASKS if task not in self.words.tasks]:
            empty: dict[str, Any] = dict.fromkeys(left) | {f"{task}_steps": () for task in left}
            trace = trace.model_copy(update=empty)
        if self._categories:
            trace = trace.model_copy(update={"categories": self._named(question, trace)})
        check_trace(trace, question, self.words)
        return Answer("ok", trace.model_dump_json(), self.model, trace, stop_reason="end")

    def _named(self, question: Question, trace: TeacherTrace) -> tuple[str, ...] | None:
        """Return the categories of all policies that a harmful text violates by its wording, or of the one nearest.

        None where it is harmful by its label alone, and its wording says nothing.
        """
        texts = ((trace.request, question.prompt), (trace.response, question.response))
        harmful = [text for verdict, text in texts if verdict == "harmful" and text is not None]
        if not harmful:
            return ()
        scores = [score for text in harmful for score in score_all(text, self.policies, self.depth) if score.touched]
        if not scores:
            return None
        violated = [score for score in scores if score.state == "unsafe"] or [top_score(scores)]
        named = [self._categories[score.policy.id] for score in violated if score.policy.id in self._categories]
        return tuple(dict.fromkeys(named))

    def assess(self, question: Question) -> Assessment:
        """Decide on a question, with the score of every policy; the labels that it shows outrank the wording."""
        labels = question.labels or {}
        scores = score_all(question.prompt, self.policies, self.depth)
        top = top_score(scores)
        by_wording: Harm = "harmful" if top.points >= 50 else "unharmful"
        request = cast(Harm, labels.get("request") or by_wording)
        completion: Refusal | None = None
        response: Harm | None = None
        refusals: tuple[str, ...] = ()
        instructions: tuple[str, ...] = ()
        overruled: tuple[str, ...] = ()
        if question.response is not None:
            refusals, refused = read_refusal(question.response)
            instructions = found(INSTRUCTIONS, words_of(question.response))
            act: Refusal = "refusal" if refused else "compliance"
            completion = cast(Refusal, labels.get("completion") or act)
            answer_points = top_score(score_all(question.response, self.policies, self.depth)).points
            complies = request == "harmful" and bool(instructions)
            harms = completion == "compliance" and (answer_points >= UNSAFE_FROM or complies)
            harm: Harm = "harmful" if harms else "unharmful"
            response = cast(Harm, labels.get("response") or harm)
            found_otherwise = (("completion", completion != act), ("response", response != harm))
            overruled = tuple(task for task, other in found_otherwise if other)
        against = request != by_wording
        confidence = _confidence(scores, against)
        return Assessment(
            top, scores, request, completion, response, confidence, against, refusals, instructions, overruled
        )


def read_refusal(response: str) -> tuple[tuple[str, ...], bool]:
    """Find a response's refusal phrases and whether it is a refusal: one in the first 20 words, or two anywhere."""
    words = words_of(response)
    anywhere = found(REFUSALS, words)
    head = f" {' '.join(words.split()[:REFUSAL_HEAD])} "
    return anywhere, bool(found(REFUSALS, head)) or len(anywhere) >= 2


def _confidence(scores: Sequence[Score], against_wording: bool) -> Confidence:
    """Return high if the deciding policies are 80 % sure, low if no policy decides, medium for a label alone."""
    state, sure = overall(scores)
    if against_wording:
        return "medium"
    if state == "unclear":
        return "low"
    return "high" if sure >= 0.8 else "medium"
