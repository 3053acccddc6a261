"""The built-in teacher: six written policies, three depths, pure Python, free and the same every time.

It makes the whole loop run without a network. It counts wording and understands nothing: what it teaches is what its
policies' words say, and its word for its own confidence says so where the wording does not decide.
"""

from collections.abc import Sequence

from wizloop.backends.teachers.base import Answer, Harm, Question, Refusal, Usage, answer_from_raw, check_trace
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
from wizloop.backends.teachers.policy.wording import Confidence, Reading, write_trace

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


class PolicyReasoner:
    """A Teacher that reads the policies. `policies` must not be empty: raises ValueError."""

    name = "policy"
    free = True
    version = "1"

    def __init__(self, policies: Sequence[Policy], depth: Depth) -> None:
        if not policies:
            raise ValueError("the policy reasoner has no policies: give it at least one")
        self.policies = tuple(policies)
        self.depth: Depth = depth
        self.model = f"policy-reasoner-{depth}"

    def worst_usage(self, question: Question) -> Usage:
        """Nothing: it runs here."""
        return Usage()

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """A kept answer once more."""
        return answer_from_raw(raw, question, model=self.model, usage=Usage(), stop_reason=stop_reason)

    def ask(self, question: Question) -> Answer:
        """A trace for any question; where labels are shown it supports them and says what they rest on."""
        reading = self._read(question)
        trace = write_trace(question, reading, self.depth)
        check_trace(trace, question)
        return Answer("ok", trace.model_dump_json(), self.model, trace, stop_reason="end")

    def _read(self, question: Question) -> Reading:
        labels = question.labels or {}
        scores = score_all(question.prompt, self.policies, self.depth)
        top = top_score(scores)
        own: Harm = "harmful" if top.points >= 50 else "unharmful"
        request = _harm(labels.get("request"), own)
        completion: Refusal | None = None
        response: Harm | None = None
        refusals: tuple[str, ...] = ()
        instructions: tuple[str, ...] = ()
        if question.response is not None:
            refusals, refused = read_refusal(question.response)
            instructions = found(INSTRUCTIONS, words_of(question.response))
            completion = _refusal(labels.get("completion"), "refusal" if refused else "compliance")
            answer_points = top_score(score_all(question.response, self.policies, self.depth)).points
            complies = request == "harmful" and bool(instructions)
            harms = completion == "compliance" and (answer_points >= UNSAFE_FROM or complies)
            response = _harm(labels.get("response"), "harmful" if harms else "unharmful")
        against = request != own
        confidence = _confidence(scores, against)
        return Reading(top, scores, request, completion, response, confidence, against, refusals, instructions)


def read_refusal(response: str) -> tuple[tuple[str, ...], bool]:
    """The refusal phrases in a response, and whether they make it a refusal: one in the first 20 words, or two."""
    words = words_of(response)
    anywhere = found(REFUSALS, words)
    head = f" {' '.join(words.split()[:REFUSAL_HEAD])} "
    return anywhere, bool(found(REFUSALS, head)) or len(anywhere) >= 2


def _harm(label: str | None, own: Harm) -> Harm:
    return own if label is None else "harmful" if label == "harmful" else "unharmful"


def _refusal(label: str | None, own: Refusal) -> Refusal:
    return own if label is None else "refusal" if label == "refusal" else "compliance"


def _confidence(scores: Sequence[Score], against_wording: bool) -> Confidence:
    """high where the deciding policies are four fifths sure, low where no policy decides; a label is worth medium."""
    state, sure = overall(scores)
    if against_wording:
        return "medium"
    if state == "unclear":
        return "low"
    return "high" if sure >= 0.8 else "medium"
