"""Judge: a guard with its renderer, calibration and limits, which judges any samples.

It stores nothing: phases write its answers as rows, commands print them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from wizloop.loop.guard import gauntlet, shown_policies
from wizloop.loop.guard.backend import Backend, Guard
from wizloop.loop.guard.categories import BeforeLine, Probabilities, ask_categories, chosen
from wizloop.loop.guard.inference import Direct, Signals, Trace, TraceSampling, ask_direct, ask_traces, signals
from wizloop.loop.guard.linear_way import Linear
from wizloop.loop.guard.readers import STRICT, Reader
from wizloop.loop.guard.rendering import TRACE_OPENING, Renderer, Text
from wizloop.loop.measures.calibration import Calibration, Judgement
from wizloop.loop.measures.deepconf import window_for
from wizloop.loop.words import DEFAULT, Declaration, Task
from wizloop.recipes.policies import PolicySet
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Guard as Settings

BATCH = 128
"""Samples per batch outside a night."""


class Answer(NamedTuple):
    """A guard's answer on one sample: direct answer, traces, signals and calibrated judgement."""

    direct: Direct
    traces: Sequence[Trace]
    signals: Signals
    judgement: Judgement
    categories: tuple[str, ...] | None = None
    """Those that the text is in; None for a guard without categories, and where they cannot be read."""
    category_p: Probabilities = MappingProxyType({})
    """P(category) by name; empty where `categories` is None."""

    @property
    def rationale(self) -> str | None:
        """The most confident trace that ends in the final verdict, or None."""
        agreeing = [trace for trace in self.traces if trace.verdict == self.judgement.verdict]
        return max(agreeing, key=lambda trace: trace.measures.bottom).text if agreeing else None


@dataclass(frozen=True, slots=True)
class Limits:
    """Token limits and trace sampling from a recipe's [guard] and [classify], for one DeepConf window."""

    prompt_tokens: int
    sampling: TraceSampling
    """Adaptive: stops at consensus, cuts nothing."""

    @classmethod
    def of(cls, recipe: Recipe, window: int | None = None) -> "Limits":
        """Return the limits of a recipe; the default `window` (tokens) fits traces of half the maximum length."""
        how, longest = recipe.classify, recipe.guard.max_trace_tokens
        window = window_for(longest / 2) if window is None else window
        sampling = TraceSampling(
            how.least, how.most, how.temperature, how.top_p, longest, window, consensus=how.consensus
        )
        return cls(recipe.guard.max_prompt_tokens, sampling)

    def exactly(self, n: int | None = None) -> TraceSampling:
        """Return the sampling that draws `n` traces of every sample (default: the most) and cuts none.

        Measurements must not depend on early stopping.
        """
        n = self.sampling.most if n is None else n
        return self.sampling._replace(least=n, most=n, consensus=None)


@dataclass(frozen=True, slots=True)
class Judge:
    """A guard with all that determines its answers."""

    guard: Guard
    renderer: Renderer
    calibration: Calibration
    limits: Limits
    reader: Reader = STRICT
    """How its traces are read: tolerantly if it was never trained here."""
    linear: Linear | None = None
    """The linear head, where some verdict is read from it."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it answers."""
        return self.declared.tasks

    @property
    def declared(self) -> Declaration:
        """The tasks and label words of its answers."""
        return self.renderer.declared

    @property
    def reads(self) -> str:
        """The name of its reader, for the record."""
        return self.reader.name

    def direct(self, samples: Sequence[Text]) -> list[Direct]:
        """Return P(positive) of each task of each sample, from one forward pass per task and question."""
        asked = gauntlet.renderers(self.renderer)
        tokens = self.limits.prompt_tokens
        found = [ask_direct(self.guard, one, samples, max_tokens=tokens) for _, one in asked]
        return gauntlet.directly([id for id, _ in asked], found)

    def traces(self, samples: Sequence[Text], sampling: TraceSampling, *, seed: int) -> list[list[Trace]]:
        """Return the traces of each sample, in the order drawn."""
        tokens = self.limits.prompt_tokens
        reader = BeforeLine(self.reader) if self.renderer.categories else self.reader
        asked = [
            ask_traces(self.guard, one, samples, sampling, max_tokens=tokens, seed=seed, reader=reader)
            for _, one in gauntlet.renderers(self.renderer)
        ]
        return gauntlet.traced(asked)

    def categories_of(
        self, samples: Sequence[Text], verdicts: Sequence[Mapping[Any, str | None]], traces: Sequence[Sequence[str]]
    ) -> list[Probabilities]:
        """Return P(category) by name of each sample, given its final verdicts; they are read where verdicts are read.

        `traces` are the texts of the traces of each sample, if any. Of several questions the highest counts.
        """
        by_trace = [self.calibration.source_of(self.declared.main_task(one)) == "traces" for one in samples]
        read = [texts if by else None for by, texts in zip(by_trace, traces, strict=True)]
        tokens = self.limits.prompt_tokens
        asked = [
            ask_categories(self.guard, one, samples, verdicts, read, max_tokens=tokens)
            for _, one in gauntlet.renderers(self.renderer)
        ]
        return [{name: max(p[name] for p in ps) for name in ps[0]} for ps in zip(*asked, strict=True)]

    def online(self) -> TraceSampling:
        """Return DeepConf's online sampling: stop at consensus, cut a trace below the calibrated group confidence."""
        return self.limits.sampling._replace(cut_below=self.calibration.cut_below)

    def answer(
        self,
        sample: Text,
        direct: Direct,
        traces: Sequence[Trace] = (),
        members: Sequence[Mapping[str, float]] = (),
        *,
        beside: Mapping[str, float | None] = MappingProxyType({}),
        alone: bool = False,
    ) -> Answer:
        """Judge one sample from its direct answer and traces.

        `members` are the members' P(positive) by task, `beside` the signals of a committee and of the linear head;
        `alone` uses the confidence measure without members and committee.
        """
        declared = self.declared
        found = {**signals(sample, direct, traces, members, declared), **beside}
        judgement = self.calibration.apply(found, declared.tasks_of(sample), declared.main_task(sample), alone=alone)
        return Answer(direct, traces, found, judgement)

    def answers(
        self, samples: Sequence[Text], *, seed: int, sampling: TraceSampling | None = None, named: bool = True
    ) -> Iterator[Answer]:
        """Judge samples without members, in order.

        Traces are drawn by `sampling`; without it only where they are the source of a verdict. `named` asks for
        categories, if the guard has any.
        """
        if sampling is None and self.calibration.votes:
            sampling = self.limits.exactly()
        said = None if self.linear is None else self.linear.says(samples)
        tasks = {task for sample in samples for task in self.declared.tasks_of(sample)}
        if said is not None and not self.renderer.categories and self.calibration.is_only_linear(tasks):
            # Its verdicts and its confidence need nothing else.
            direct = [Direct({}, one.cut) for one in said]
        else:
            direct = self.direct(samples)
        beside: Sequence[Mapping[str, float]] = [{}] * len(samples) if said is None else [one.signals for one in said]
        drawn: Sequence[Sequence[Trace]] = [()] * len(samples)
        if sampling is not None:
            drawn = self.traces(samples, sampling, seed=seed)
        answers = (
            self.answer(sample, answer, traces, beside=linear, alone=True)
            for sample, answer, traces, linear in zip(samples, direct, drawn, beside, strict=True)
        )
        yield from self._with_categories(samples, list(answers)) if self.renderer.categories and named else answers

    def _with_categories(self, samples: Sequence[Text], answers: Sequence[Answer]) -> Iterator[Answer]:
        traces = [[trace.text for trace in answer.traces] for answer in answers]
        found = self.categories_of(samples, [answer.judgement.verdict for answer in answers], traces)
        for answer, p in zip(answers, found, strict=True):
            named = chosen(p, self.calibration.categories, self.renderer.categories)
            yield answer._replace(categories=named, category_p=p)


def uncalibrated(recipe: Recipe) -> Calibration:
    """Return the calibration of a guard never measured on dev: raw probabilities, thresholds of 0.5.

    A guard without a trace opening is a published one, which never learned direct answers: its source is traces.
    """
    declared = Declaration.of(recipe.tasks)
    if recipe.written == "traces" or recipe.guard.opening == "none":
        return Calibration(source=dict.fromkeys(declared.tasks, "traces"), declared=declared)
    return Calibration(declared=declared)


def local(settings: Settings, folder: Path) -> Settings:
    """Return [guard] for the model in a folder, run here and not by a server."""
    return settings.model_copy(update={"base": str(folder), "engine": "here", "server": None})


def renderer_of(
    settings: Settings,
    base: str,
    instruction: str,
    frame: tuple[str, str] | None = None,
    *,
    in_turn: bool | None = None,
    policies: PolicySet | None = None,
    declared: Declaration = DEFAULT,
) -> Renderer:
    """Build the renderer for a recipe's [guard], with a kept `frame` or the base's chat template as it renders now.

    `in_turn` is whether an opening ends the user's turn (default: for a chat endpoint).

    Categories are asked for if [guard] lists them; a file of names must have been read (`categories.settled`). Raises
    BackendError for a base without a required chat template.
    """
    if settings.template == "raw":
        frame = ("", "")
    elif frame is None:
        # Late import: a tokenizer is loaded only for a chat template that was not kept.
        from wizloop.backends import bounded_chat

        frame = bounded_chat.render(base)[:2]
    opening = TRACE_OPENING if settings.opening == "reasoning" else ""
    in_turn = settings.engine == "chat" if in_turn is None else in_turn
    shown = "" if policies is None else shown_policies.questions(policies)[0]
    names = () if isinstance(settings.categories, str) else settings.categories
    return Renderer(instruction, settings.reasoning, frame, opening, in_turn, policies, shown, declared, names)


def load_guard(settings: Settings, backend: Callable[[], Backend], base: str, adapter: Path | None) -> Guard:
    """Load a guard with `backend`, or connect to the server that [guard] names.

    Raises ModelMissing, BadArtifact, BackendError.
    """
    if settings.server is not None:
        # Late import: HTTP is loaded only for a server.
        from wizloop.loop.guard import server

        return server.load(settings, base, adapter)
    return backend().load(base, adapter, quantise=settings.quantise == "4bit")
