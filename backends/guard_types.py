"""The inputs, outputs, and errors of a guard on any backend: prompts, traces, examples, pairs.

Plain data. A backend takes and returns these, and knows nothing about safety.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


class BackendError(RuntimeError):
    """A model could not be loaded, run, or written. The message names it and says what to do."""


class ModelMissing(BackendError):
    """No model at that path or hub name."""


class BadArtifact(BackendError):
    """A model folder's files do not match its manifest, or a guard may not load them."""


NOT_FINITE = (
    "its logits are not finite numbers: a weight is damaged, or too large for the number format; take its files again "
    "from where the model is published, or use another model"
)
"""What a BadArtifact says of a base that cannot be asked."""


class NotFinite(BackendError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt. Text from a pool is `data`: encoded without special tokens, and the only part ever cut."""

    text: str
    data: bool = False
    kept: bool = False
    """Whether it is text of a file that is part of every prompt: encoded as data is, and never cut."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered sample. `shared` and `instruction` precede every sample and run once; `opening` starts an answer."""

    shared: str
    parts: tuple[Part, ...]
    opening: str
    instruction: str = ""
    """Follows `shared`. Encoded without special tokens, since it may come from a file, and never cut."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a prompt: shared prefix, the rest, and the number of tokens cut from the sample's middle."""

    shared: tuple[int, ...]
    body: tuple[int, ...]
    cut: int = 0
    own: tuple[tuple[int, int], ...] = ()
    """Where the sample's own tokens are in `body`: from and to, of its prompt and of its response."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Words, exactly one of which comes next, e.g. (" harmful", " unharmful"). Probabilities are among these words."""

    words: tuple[str, ...]


@dataclass(slots=True)
class Sampled:
    """One sampled trace.

    `starts[i]` is the offset in `text` of token i; `confidences[i]` is minus the mean log-probability of the k most
    likely tokens at i, before temperature; `watched[name][i]` are the normalized probabilities of that choice's words
    at i. All lists have one entry per token in `text`; the end token is in none of them.
    """

    text: str
    stop: str
    """"stop" (the end token), "length" or "cut" (by the monitor)."""
    starts: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    watched: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return len(self.starts)


class Monitor(Protocol):
    """Decides during sampling whether to cut a trace (DeepConf online)."""

    def push(self, confidence: float) -> bool:
        """Take a token's confidence; return whether to cut the trace."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How traces are drawn: `least` per prompt, then more while `more(index, traces so far)` is true, up to `most`."""

    least: int
    most: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    watch: Mapping[str, Choice] = field(default_factory=dict)
    more: Callable[[int, Sequence[Sampled]], bool] | None = None
    monitor: Callable[[], Monitor] | None = None
    rows: int = 128
    """Traces decoded in parallel."""
    topk: int = 20


@dataclass(frozen=True, slots=True)
class SftExample:
    """A prompt and the completion to learn. `strong` are spans of `completion` with `verdict_weight` in the loss."""

    id: int
    prompt: Encoded
    completion: str
    strong: tuple[tuple[int, int], ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class DpoPair:
    """A prompt with a right and a wrong completion. `weight` scales the preference term only."""

    id: int
    prompt: Encoded
    chosen: str
    rejected: str
    weight: float


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What is trained: the size and place of LoRA adapters, or blocks as a whole."""

    rank: int
    scale: float
    dropout: float
    layers: int
    """Blocks that are trained, counted from the last; -1 means all."""
    method: Literal["lora", "dora", "full"] = "lora"
    """dora trains each output's magnitude apart (arXiv:2402.09353); full trains every weight of the blocks, in float32,
    and ignores rank, scale and dropout."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of R-SFT and HS-DPO; each ignores those of the other."""

    epochs: int
    batch: int
    lr: float
    seed: int
    checkpoint_every: int
    """Steps between checkpoints; one is also written once five minutes have passed since the last."""
    max_tokens: int
    """The most tokens of prompt and completion. A longer example is dropped and reported, never truncated."""
    verdict_weight: float = 1.0
    prompt_weight: float = 0.0
    word_dropout: float = 0.0
    """Share of the sample's tokens replaced by a blank at random in R-SFT."""
    beta: float = 0.01
    sft_weight: float = 2.0
    warmup: float = 0.0
    """Share of the steps in which the rate rises to its peak."""
    scale: float = field(default=1.0, repr=False)
    """Factor of a pass's size after memory ran out. It changes only dropout's draws, and a training resumes from a
    checkpoint of another scale, so it is no part of the repr that identifies a training.
    """


@dataclass(frozen=True, slots=True)
class TrainJob:
    """A training: its base (folder or hub name), start, settings, and output."""

    base: str
    start: Path | None
    """The adapter to start from, which is also HS-DPO's reference; None is a fresh one."""
    settings: TrainSettings
    lora: LoraShape
    to: Path
    """An empty folder for the adapter, or for the changed weights of method full."""
    checkpoint: Path
    """The folder of checkpoints from which an unfinished training resumes."""
    quantise: bool = False
    held_out: tuple[SftExample, ...] = ()
    """Examples that R-SFT never learns, whose loss is measured after each epoch."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Results of a training.

    `losses` are (step, mean loss), `dropped` the ids of examples that were too long, `halvings` the times that the rate
    was halved after NaN.
    """

    steps: int
    losses: list[tuple[int, float]]
    dropped: list[int]
    halvings: int = 0
    held_out: list[tuple[int, float]] = field(default_factory=list)
    """(step, mean token loss of the job's `held_out`), after each epoch."""


OnStep = Callable[[int, int, float], None]
"""Called after every step with (step, steps in all, loss). An exception ends the training after a checkpoint."""

OnWait = Callable[[str], None]
"""Called before the first step with what is being done. An exception ends the training."""


def no_wait(doing: str) -> None:
    """Tell nobody."""
