"""A few examples and pairs over the tiny guard, for tests of training on any backend."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from wizloop.backends.guard_types import DpoPair, Encoded, LoraShape, Part, Prompt, SftExample, TrainSettings
from wizloop.backends.tokens import Tokens

LORA = LoraShape(rank=8, scale=2.0, dropout=0.1, layers=-1)
SETTINGS = TrainSettings(
    epochs=2,
    batch=8,
    lr=2e-3,
    seed=4,
    checkpoint_every=3,
    max_tokens=120,
    verdict_weight=8.0,
    prompt_weight=0.1,
    word_dropout=0.1,
)
WORDS = (" unharmful", " harmful")


def prompts(tokens: Tokens) -> list[Encoded]:
    texts = [
        f"the baker asks about {'harmful' if i % 2 else 'unharmful'} bread {'in winter ' * (i % 5)}" for i in range(24)
    ]
    rendered = [
        Prompt("Judge.\n\n", (Part("Human user:\n"), Part(text, data=True), Part("\n\n")), "Answers:\nRequest:")
        for text in texts
    ]
    return [tokens.prompt(each, max_tokens=90) for each in rendered]


def examples(tokens: Tokens) -> list[SftExample]:
    return [
        SftExample(i, each, WORDS[i % 2] + "\nCompletion: None", ((1, len(WORDS[i % 2])),))
        for i, each in enumerate(prompts(tokens))
    ]


def pairs(tokens: Tokens) -> list[DpoPair]:
    return [
        DpoPair(i, each, WORDS[i % 2], WORDS[1 - i % 2] + "\n", 0.8 + 0.1 * (i % 5))
        for i, each in enumerate(prompts(tokens))
    ]


def digest(folder: Path) -> str:
    """Of the adapter's weights, in whichever layout."""
    (file,) = folder.glob("adapter*.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def nothing(step: int, steps: int, loss: float) -> None:
    """Training goes on."""


class Killed(BaseException):
    """Stands for a signal in the middle of a step's report."""


def kill_at(step: int) -> Callable[[int, int, float], None]:
    def on_step(now: int, steps: int, loss: float) -> None:
        if now == step:
            raise Killed

    return on_step
