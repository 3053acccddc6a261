"""What goes into a guard and what comes out, whatever runs it: prompts, scores, sampled traces, examples, pairs,
errors.

Plain data. A backend (mlx here; cuda beside it) takes and returns these, and knows nothing of safety.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class BackendError(RuntimeError):
    """A model could not be loaded, run or written; the message says which and what to do."""


class ModelMissing(BackendError):
    """No model at that path or hub name."""


class BadArtifact(BackendError):
    """A model folder's files do not match its manifest, or are not what a guard may load."""


class NotFinite(BackendError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt. `data` marks text from a pool: it is encoded with no special token in it, and only it is
    ever cut.
    """

    text: str
    data: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered sample. `shared` and `instruction` stand before every sample and are run once; `opening`
    starts an answer.
    """

    shared: str
    parts: tuple[Part, ...]
    opening: str
    instruction: str = ""
    """Behind `shared`: encoded with no special token in it, since it may come from a file, and never cut."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a prompt: shared prefix, the rest, and how many tokens of the sample's middle were left out."""

    shared: tuple[int, ...]
    body: tuple[int, ...]
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Words of which exactly one comes next, e.g. (" harmful", " unharmful"); probabilities are over these alone."""

    words: tuple[str, ...]


@dataclass(slots=True)
class Sampled:
    """One sampled trace.

    `starts[i]` is the offset in `text` of token i; `confidences[i]` is minus the mean log-probability of the k most
    likely tokens at i, before temperature; `watched[name][i]` are the normalised probabilities of that choice's words
    at i. The end token is not in `text`, but its confidence is not dropped: all lists have one entry per generated
    token that is in
    `text`.
    """

    text: str
    stop: str
    """"stop" (the end token), "length" or "cut" (by the monitor)."""
    starts: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    watched: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return len(self.starts)


class Monitor(Protocol):
    """Decides while a trace is written whether to cut it (DeepConf online)."""

    def push(self, confidence: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How traces are drawn. `least` per prompt at once; then one more while `more(index, traces so far)` says so, up to
    `most`.
    """

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
    """Traces decoded side by side."""
    topk: int = 20


@dataclass(frozen=True, slots=True)
class SftExample:
    """A prompt and the completion to learn. `strong` are offsets in `completion` of what weighs `verdict_weight` in the
    loss.
    """

    id: int
    prompt: Encoded
    completion: str
    strong: tuple[tuple[int, int], ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class DpoPair:
    """A prompt with a right and a wrong completion. `weight` scales the preference term alone."""

    id: int
    prompt: Encoded
    chosen: str
    rejected: str
    weight: float


@dataclass(frozen=True, slots=True)
class LoraShape:
    rank: int
    scale: float
    dropout: float
    layers: int
    """Blocks with adapters, from the last; -1 means all."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """R-SFT and HS-DPO share these; what one does not use it ignores."""

    epochs: int
    batch: int
    lr: float
    seed: int
    checkpoint_every: int
    max_tokens: int
    """Longest prompt and completion together; a longer example is dropped and reported, never truncated."""
    verdict_weight: float = 1.0
    prompt_weight: float = 0.0
    word_dropout: float = 0.0
    """Share of the sample's tokens blanked out at random in R-SFT."""
    beta: float = 0.01
    sft_weight: float = 2.0
    scale: float = field(default=1.0, repr=False)
    """What the size of one pass is multiplied by, after memory ran out. Of what is learned it changes dropout's draws
    alone, and a training goes on from a checkpoint of another scale: it is no part of the text that names a training.
    """


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One training: of which base (folder or hub name), from which adapter, how, and where to."""

    base: str
    start: Path | None
    """The adapter to go on from, which is also HS-DPO's reference; None is a fresh one."""
    settings: TrainSettings
    lora: LoraShape
    to: Path
    """An empty folder for the adapter."""
    checkpoint: Path
    """Where an unfinished try at the same is kept, and gone on from."""
    quantise: bool = False


@dataclass(frozen=True, slots=True)
class TrainResult:
    """`losses` are (step, mean loss); `dropped` are the ids of examples that were too long; `halvings` of the rate
    after NaN.
    """

    steps: int
    losses: list[tuple[int, float]]
    dropped: list[int]
    halvings: int = 0


OnStep = Callable[[int, int, float], None]
"""Called after every step with (step, steps in all, loss). What it raises ends training after a checkpoint was written.
"""
