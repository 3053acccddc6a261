"""The published guards by name: those built in, and those that other packages add."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from wizloop import plugins
from wizloop.backends.guard_types import Prompt
from wizloop.loop.guard.backend import choose_backend
from wizloop.loop.guard.judge import load_guard, local
from wizloop.loop.guard.published.guardreasoner import GuardReasoner
from wizloop.loop.guard.published.judge import PublishedJudge
from wizloop.loop.guard.published.llama_guard import LlamaGuard3, LlamaGuard3Small
from wizloop.loop.guard.published.qwen3guard import LooseQwen3Guard, Qwen3Guard
from wizloop.loop.guard.published.safeguard import Safeguard
from wizloop.loop.guard.published.wildguard import WildGuard
from wizloop.loop.words import LABELS
from wizloop.plugins import GuardQuestion, PublishedGuard, Said
from wizloop.recipes.sections import Guard as Settings

BUILT_IN: Final[Mapping[str, Callable[[], PublishedGuard]]] = MappingProxyType(
    {
        "guardreasoner": GuardReasoner,
        "qwen3guard": Qwen3Guard,
        "qwen3guard-loose": LooseQwen3Guard,
        "wildguard": WildGuard,
        "llama-guard-3-8b": LlamaGuard3,
        "llama-guard-3-1b": LlamaGuard3Small,
        "gpt-oss-safeguard": Safeguard,
    }
)


def named(name: str) -> PublishedGuard:
    """Return the published guard of a name. Raises PluginError, which lists those that there are."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    plugins.refuse_name("guard", name, tuple(BUILT_IN))
    return _Plugged(name)


def names() -> list[str]:
    """Return the names of all published guards, the built-in ones first."""
    return [*BUILT_IN, *plugins.installed("guard")]


def load(name: str, settings: Settings, folder: Path | None) -> PublishedJudge:
    """Load the model in a folder, or else the base of [guard], as the published guard of a name.

    Of [guard] only base, backend, device, quantise and server are used. Raises PluginError, BackendError.
    """
    form = named(name)
    settings = settings if folder is None else local(settings, folder)
    guard = load_guard(settings, lambda: choose_backend(settings.backend, settings.device), settings.base, None)
    return PublishedJudge(guard, form, name)


class _Plugged(PublishedGuard):
    """The form of another package, whose faults name it. Its labels are ours, and its prompts are prompts."""

    def __init__(self, name: str) -> None:
        self._name, self._form = name, plugins.guard(name)
        self.source, self.max_tokens = str(self._form.source), int(self._form.max_tokens)

    def questions(self, prompt: str, response: str | None, /) -> Sequence[GuardQuestion]:
        with plugins.blamed("guard", self._name):
            found = self._form.questions(prompt, response)
            for one in found:
                _check(one)
            return found

    def read(self, answer: str, question: GuardQuestion, /) -> Mapping[str, Said] | None:
        with plugins.blamed("guard", self._name):
            found = self._form.read(answer, question)
            for task, said in (found or {}).items():
                if said.label is not None and said.label not in question.words[task].values():
                    raise ValueError(f"it reads {said.label!r} about the {task}, which none of its words stands for")
            return found


def _check(question: GuardQuestion) -> None:
    """Raise ValueError for a question that cannot be asked."""
    if not isinstance(question.prompt, Prompt):
        raise ValueError("a question's prompt is no Prompt of wizloop.backends.guard_types")
    known = {str(task): labels for task, labels in LABELS.items()}
    for task, words in question.words.items():
        if not words or not set(words.values()) <= set(known.get(task, ())):
            raise ValueError(f"its words for {task!r} do not stand for labels: use those of {', '.join(LABELS)}")
