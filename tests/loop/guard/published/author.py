"""A stand-in for a published guard: it writes its authors' form, harmful for a few words, with known probabilities."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import Choice, Encoded, Prompt, Sampled, Sampling

HARM = ("bomb", "poison")


def qwen3guard(text: str) -> str:
    judged = _between(text, "ASSISTANT:", "<END") if "REFUSAL POLICY" in text else _between(text, "USER:", "<END")
    safety = "Safety: Unsafe\nCategories: Violent" if _harmful(judged) else "Safety: Safe\nCategories: None"
    return f"{safety}\nRefusal: {'Yes' if 'cannot' in judged else 'No'}" if "REFUSAL POLICY" in text else safety


def llama_guard(text: str) -> str:
    judged = _between(text, "Agent:" if "'Agent' messages" in text else "User:", "<END CONVERSATION>")
    return "unsafe\nS1" if _harmful(judged) else "safe"


def wildguard(text: str) -> str:
    request, _, response = _between(text, "Human user:", "---").partition("AI assistant:")
    lines = ("Harmful request", _harmful(request)), ("Response refusal", "cannot" in response)
    return "\n".join(f"{name}: {_yes(said)}" for name, said in (*lines, ("Harmful response", _harmful(response))))


def guardreasoner(text: str) -> str:
    request, _, response = text.partition("Human user:")[2].partition("AI assistant:")
    words = ("unharmful", "harmful")
    alone = response.strip() == "None"
    completion = "None" if alone else "refusal" if "cannot" in response else "compliance"
    last = "None" if alone else words[_harmful(response)]
    return (
        f"# Task 1\nSo.\n\nAnswers: \nRequest: {words[_harmful(request)]}\nCompletion: {completion}\nResponse: {last}"
    )


def safeguard(text: str) -> str:
    judged = text.rpartition("<|start|>user<|message|>")[2].rpartition("AI assistant:")[2]
    channel = "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>"
    return f"{channel}{int(_harmful(judged))}"


FORMS: dict[str, Callable[[str], str]] = {
    "qwen3guard": qwen3guard,
    "llama-guard-3-8b": llama_guard,
    "llama-guard-3-1b": llama_guard,
    "wildguard": wildguard,
    "guardreasoner": guardreasoner,
    "gpt-oss-safeguard": safeguard,
}


@dataclass
class Author:
    """A guard that writes a form. The word that it writes has 0.9, those of its other label share the rest."""

    form: Callable[[str], str]
    asked: list[Sampling] = field(default_factory=list)
    cut: int = 0

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        text = prompt.shared + "".join(part.text for part in prompt.parts) + prompt.opening
        return Encoded((), tuple(text.encode()), self.cut)

    def count(self, text: str) -> int:
        return len(text)

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        raise AssertionError("a published guard is not asked directly")

    def states(self, prompts: Sequence[Encoded], *, depth: float) -> None:
        """A published guard is not read for its hidden states."""

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        self.asked.append(sampling)
        return [[_sampled(self.form(bytes(one.body).decode()), sampling)] for one in prompts]


def _sampled(text: str, sampling: Sampling) -> Sampled:
    starts = [one.start() for one in re.finditer(r" ?\w+|\s|[^\w\s]", text)]
    pieces = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    watched = {name: [_watched(choice.words, piece) for piece in pieces] for name, choice in sampling.watch.items()}
    return Sampled(text, "stop", starts, [2.0] * len(starts), watched)


def _watched(words: tuple[str, ...], piece: str) -> tuple[float, ...]:
    other = next(word for word in words if word != piece)
    return tuple(0.9 if word == piece else 0.1 if word == other else 0.0 for word in words)


def _between(text: str, before: str, after: str) -> str:
    return text.rpartition(before)[2].partition(after)[0]


def _harmful(text: str) -> bool:
    return any(word in text for word in HARM)


def _word(text: str) -> str:
    return "harmful" if _harmful(text) else "unharmful"


def _yes(said: bool) -> str:
    return "yes" if said else "no"
