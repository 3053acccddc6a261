"""A published guard as a judge: one greedy answer to each question, as its authors ask it."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from wizloop.backends.guard_types import Choice, Encoded, Sampled, Sampling
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.inference import Direct, Trace, TraceSampling
from wizloop.loop.guard.judge import Answer, Limits
from wizloop.loop.guard.rendering import Text
from wizloop.loop.measures import deepconf
from wizloop.loop.measures.calibration import Judgement
from wizloop.loop.measures.uncertainty import cell, margin
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task
from wizloop.plugins import GuardQuestion, PublishedGuard, Said

PROMPT_TOKENS = 4096
"""Most tokens of a prompt; a longer sample is cut in its middle."""
CONFIDENT = 0.5
"""The margin from which a verdict is confident."""
_WINDOW = 16


class _Asked(NamedTuple):
    """A question about the sample at an index."""

    at: int
    question: GuardQuestion


@dataclass(frozen=True, slots=True)
class PublishedJudge:
    """A guard of another team, asked and read in its own form. Its verdict is the word that it writes.

    It has no calibration: its probabilities are those of its words, and no threshold is used.
    """

    guard: Guard
    form: PublishedGuard
    name: str

    @property
    def limits(self) -> Limits:
        """Its token limits, and the one greedy answer that it gives."""
        return Limits(PROMPT_TOKENS, TraceSampling(1, 1, 0.0, 1.0, self.form.max_tokens, _WINDOW))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it answers."""
        asked = self.form.questions("A question.", "An answer.")
        return tuple(task for task in TASKS if any(task in question.words for question in asked))

    @property
    def declared(self) -> Declaration:
        """The label words of its answers: a form of another team gives its words these names."""
        return DEFAULT

    @property
    def reads(self) -> str:
        """The name of its reader, for the record."""
        return self.name

    def answers(self, samples: Sequence[Text], *, seed: int, sampling: TraceSampling | None = None) -> Iterator[Answer]:
        """Judge samples, in order, by default greedily. Raises PluginError if the form of another package fails."""
        how = sampling or self.limits.sampling
        asked = [
            _Asked(at, question)
            for at, sample in enumerate(samples)
            for question in self.form.questions(sample.prompt, sample.response)
        ]
        answered: list[list[tuple[GuardQuestion, Encoded, Sampled]]] = [[] for _ in samples]
        for _, group in groupby(sorted(asked, key=_watched), key=_watched):
            alike = list(group)
            for one, prompt, answer in zip(alike, *self._ask(alike, how, seed), strict=True):
                answered[one.at].append((one.question, prompt, answer))
        for sample, found in zip(samples, answered, strict=True):
            yield self._judged(sample, found)

    def _ask(self, asked: Sequence[_Asked], how: TraceSampling, seed: int) -> tuple[list[Encoded], list[Sampled]]:
        """Ask questions that watch the same words, once each."""
        encoded = [self.guard.encode(one.question.prompt, max_tokens=PROMPT_TOKENS) for one in asked]
        watch = {task: Choice(tuple(words)) for task, words in asked[0].question.words.items()}
        sampling = Sampling(1, 1, how.temperature, how.top_p, how.max_tokens, seed, watch)
        return encoded, [answer for (answer,) in self.guard.sample(encoded, sampling)]

    def _judged(self, sample: Text, answered: Sequence[tuple[GuardQuestion, Encoded, Sampled]]) -> Answer:
        verdict: dict[Task, str | None] = {}
        p: dict[str, float] = {}
        for question, _, answer in answered:
            said = self.form.read(answer.text, question) or {}
            for task in (task for task in TASKS if task in question.words):
                one = said.get(task)
                verdict[task] = None if one is None else one.label
                if one is not None and one.label is not None:
                    p[task] = probability(answer, task, question.words[task], one)
        trace = _trace([answer for *_, answer in answered], verdict, p)
        direct = Direct({}, sum(prompt.cut for _, prompt, _ in answered))
        return Answer(direct, [trace], {}, _judgement(DEFAULT.main_task(sample), verdict, p))


def probability(answer: Sampled, task: Task, words: Mapping[str, str], said: Said) -> float:
    """Return P(positive) at the token that decides, among the words that can be there.

    1 or 0 for a word that is spelled otherwise, as nothing is known of its token.
    """
    if not any(answer.text.startswith(word, said.start - (len(word) - len(word.lstrip()))) for word in words):
        return float(said.label == DEFAULT.positive(task))
    at = answer.watched[task][bisect_right(answer.starts, said.start) - 1]
    return sum(p for p, label in zip(at, words.values(), strict=True) if label == DEFAULT.positive(task))


def _judgement(main: Task, verdict: Mapping[Task, str | None], p: Mapping[str, float]) -> Judgement:
    confidence = margin(p[main]) if main in p else 0.0
    where = cell(confidence, DEFAULT.passes(main, verdict[main]), CONFIDENT) if main in p else None
    labels = {str(task): label for task, label in verdict.items()}
    return Judgement(labels, dict(p), confidence, where)


def _watched(asked: _Asked) -> str:
    return repr([(task, list(words.items())) for task, words in asked.question.words.items()])


def _trace(answers: Sequence[Sampled], verdict: dict[Task, str | None], p: dict[str, float]) -> Trace:
    """Return a sample's answers as one trace."""
    measures = deepconf.measures([each for one in answers for each in one.confidences], window=_WINDOW, tail=_WINDOW)
    text, tokens = "\n\n".join(one.text for one in answers), sum(one.tokens for one in answers)
    return Trace(text, verdict if any(verdict.values()) else None, p, answers[-1].stop, measures, tokens)
