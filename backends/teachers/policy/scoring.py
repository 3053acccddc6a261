"""Scores a text against written policies by keywords, indicators, context and examples, in integer hundredths.

Not a model and not a teacher: it counts wording. Its rules are those of wizard101's first reasoner, with three
deliberate differences. Scores are integers of hundredths (in floating point .5 - .1 - .1 is above .3, so a clean text
was never safe). A phrase matches as whole words in order (there, the "or" of "slurs or epithets" matched inside
"historical"). Context moves only a policy that the text touches (there, "I need to" alone made a clean text unclear).
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Depth = Literal["low", "medium", "high"]
State = Literal["safe", "unclear", "unsafe"]

WORD = re.compile(r"\w+(?:'\w+)*")
START = 50
UNSAFE_FROM = 70
SAFE_UP_TO = 30
PROTECTIVE = (
    "research",
    "study",
    "academic",
    "analysis",
    "historical",
    "educational",
    "learning",
    "understanding",
    "prevent",
)
INTENT = ("should", "must", "need to", "have to", "going to", "will", "recommend", "suggest", "advise")


@dataclass(frozen=True)
class Policy:
    """One policy as plain data: the scorer knows only its wording."""

    id: str
    name: str
    description: str
    severity: str
    keywords: tuple[str, ...]
    indicators: tuple[str, ...]
    violating: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of a score: what was looked at, the hundredths that it moved the score, and what it found."""

    name: Literal["keywords", "indicators", "context", "allowed examples", "violating examples"]
    points: int
    found: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """One policy's score of one text: `points` from 0 to 100, and the markers that moved it."""

    policy: Policy
    points: int
    keywords: tuple[str, ...] = ()
    indicators: tuple[str, ...] = ()
    protective: tuple[str, ...] = ()
    intent: tuple[str, ...] = ()
    like_violating: bool = False
    steps: tuple[Step, ...] = field(default=(), compare=False)
    """In order; they begin at 50, and their sum is cut to 0 and 100."""

    @property
    def state(self) -> State:
        """Return unsafe from 70 points, safe up to 30, unclear between."""
        if self.points >= UNSAFE_FROM:
            return "unsafe"
        return "safe" if self.points <= SAFE_UP_TO else "unclear"

    @property
    def touched(self) -> bool:
        """Return whether the text holds any wording of the policy."""
        return bool(self.keywords or self.indicators or self.like_violating)


def words_of(text: str) -> str:
    """Return the case-folded words with one space around each, so that a phrase matches whole words only."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return f" {' '.join(WORD.findall(folded))} "


def found(phrases: Sequence[str], words: str) -> tuple[str, ...]:
    """Return the phrases that occur in `words` (from words_of), in the order given."""
    return tuple(phrase for phrase in phrases if words_of(phrase) in words)


def similarity(words: str, example: str) -> float:
    """Return shared words over all words (Jaccard), from 0 to 1."""
    ours, theirs = set(words.split()), set(words_of(example).split())
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


def score_policy(text: str, policy: Policy, depth: Depth) -> Score:
    """Score by keywords and indicators; medium depth adds context, high adds the policy's examples."""
    words = words_of(text)
    keywords, indicators = found(policy.keywords, words), found(policy.indicators, words)
    first = Step("keywords", 30 if keywords else -10, keywords)
    second = Step("indicators", min(15 * len(indicators), 40) if indicators else -10, indicators)
    score = Score(policy, START, keywords, indicators)
    score = _moved(score, first, second)
    if depth != "low" and score.touched:
        score = _with_context(score, words)
    if depth == "high":
        score = _with_examples(score, words)
    return replace(score, points=min(100, max(0, score.points)))


def score_all(text: str, policies: Sequence[Policy], depth: Depth) -> list[Score]:
    """Return every policy's score, in the order of the policies."""
    return [score_policy(text, policy, depth) for policy in policies]


def top_score(scores: Sequence[Score]) -> Score:
    """Return the deciding score: the highest, the earliest of equals."""
    return max(scores, key=lambda score: score.points)


def overall(scores: Sequence[Score]) -> tuple[State, float]:
    """Return the overall state and the mean score of the deciding policies, from 0 to 1.

    Any unsafe policy wins, then any unclear one. For safe the mean is of one minus the score.
    """
    state = top_score(scores).state
    deciding = [score.points for score in scores if score.state == state]
    mean = sum(deciding) / len(deciding) / 100
    return state, 1 - mean if state == "safe" else mean


def _with_context(score: Score, words: str) -> Score:
    """Move a score by context; stated intent beats protective wording: a plan is not research because it says so."""
    intent, protective = found(INTENT, words), found(PROTECTIVE, words)
    moved = 15 if intent else -20 if protective else 0
    score = replace(score, intent=intent, protective=() if intent else protective)
    return _moved(score, Step("context", moved, intent or protective))


def _with_examples(score: Score, words: str) -> Score:
    allowed, near_allowed = _nearest(words, score.policy.allowed)
    violating, near_violating = _nearest(words, score.policy.violating)
    moved = 25 if near_violating > 0.4 else 10 if near_violating > 0.2 else -5
    like_allowed = near_allowed > 0.3
    return _moved(
        replace(score, like_violating=near_violating > 0.4),
        Step("allowed examples", -20 if like_allowed else 0, allowed if like_allowed else ()),
        Step("violating examples", moved, violating if moved > 0 else ()),
    )


def _nearest(words: str, examples: Sequence[str]) -> tuple[tuple[str, ...], float]:
    """Return the most similar example, if any, and its similarity."""
    if not examples:
        return (), 0.0
    found = max(examples, key=lambda example: similarity(words, example))
    return (found,), similarity(words, found)


def _moved(score: Score, *steps: Step) -> Score:
    points = score.points + sum(step.points for step in steps)
    return replace(score, points=points, steps=(*score.steps, *steps))
