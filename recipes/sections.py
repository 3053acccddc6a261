"""Sections of a recipe: one field per setting, with its default, unit and reason.

schema.py loads and checks a recipe as a whole. There is no second list of these fields anywhere.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WrapValidator, model_validator

from wizloop.recipes.answering import AnswerKeys
from wizloop.recipes.categories import Bounds, Names
from wizloop.recipes.guard_policies import PolicyKeys

Task = Literal["request", "completion", "response"]
Split = Literal["pool", "seed", "dev", "test"]
# Left out of a stored recipe where they are the default, so that the hashes of older recipes stay.
LabelWords = Annotated[dict[str, str], Field(exclude_if=lambda words: not words)]
Turns = Annotated[Literal["first", "last", "all", "each"], Field(exclude_if=lambda turns: turns == "first")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
DemoSize = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, lt=1)]
OperatingPoint = Annotated[str, Field(pattern=r"^(f1|(fpr<|recall>)=0?\.\d*[1-9]\d*)$")]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, and a loaded recipe is immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
    )


def added(default: Any) -> Any:
    """Return the field of a key that older recipes lack: at its default it is not stored, so that their hashes stay."""
    return Field(default=default, exclude_if=lambda given: bool(given == default))


class TinyGuard(Section):
    """Shape of the guard that is built from scratch if guard.base is "tiny"."""

    vocab: Annotated[int, Field(ge=300, le=65_536)] = 4096
    """Vocabulary size. 4,096 was as good as 8,192 at half the parameters."""
    layers: Positive = 2
    """Transformer blocks. Four were no better."""
    width: Annotated[int, Field(ge=16, multiple_of=4)] = 128
    """Hidden size; a multiple of the four attention heads."""
    mlp: Positive = 256
    """Inner size of the feed-forward layers."""
    epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs of language modeling on the pool's prompts, after initialization from co-occurrence. One helped most."""


class Server(Section):
    """Server with log-probabilities that runs the guard: vLLM, mlx_lm.server, llama.cpp, Ollama.

    Its key, if any, comes from the environment (WIZLOOP_SERVER_KEY) or the keyring (`wizloop keys set server`).
    """

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    """Address, for example http://127.0.0.1:8000/v1."""
    model: str | None = None
    """Name of the base on the server; None takes the first listed, or guard.base if adapters are paths."""
    adapters: Literal["name", "path"] = "name"
    """How an adapter is sent: name loads it into vLLM as a model of its own at the first request, path is part of every
    request (mlx_lm.server)."""
    topk: Annotated[int, Field(ge=2, le=20)] = 20
    """Log-probabilities requested per token; the server may return fewer (mlx_lm.server 11, OpenAI's own 5)."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    """Concurrent requests."""
    deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """Timeout of one request, in wall-clock seconds."""

    @model_validator(mode="after")
    def _adapter_is_not_ignored(self) -> "Server":
        if self.adapters == "path" and self.model == "default_model":
            raise ValueError("mlx_lm.server ignores an adapter's path for default_model: leave model out")
        return self


class Guard(AnswerKeys, PolicyKeys, Section):
    """The local model that is trained, and how it is prompted."""

    base: Annotated[str, Field(min_length=1)] = "tiny"
    """A model's hub name, a local folder or GGUF file, or "tiny": built from scratch on the pool's text, without a
    download."""
    backend: Literal["auto", "mlx", "cuda"] = "auto"
    """Library that runs it: MLX, or torch for "cuda"; auto takes Metal, then a CUDA GPU, then MLX on the CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device; "cpu" with backend "cuda" is torch without a GPU, much slower."""
    engine: Literal["here", "vllm", "chat"] = "here"
    """Inference by the backend ("here") or by the server below: its completions ("vllm"), or its chat completions
    ("chat": Ollama and all others), which take only user turns, so that the opening ends the turn and template must be
    "chat". One engine answers everything: a calibration on one engine's probabilities does not hold for another's.
    Training always uses the backend."""
    server: Server | None = None
    """Required by, and only allowed with, the engines "vllm" and "chat"."""
    quantise: Literal["none", "4bit"] = "none"
    """Quantization of the base in memory; 4bit pays off on Metal, and on a CUDA GPU with bitsandbytes."""
    max_prompt_tokens: Annotated[int, Field(ge=32)] = 512
    """Token limit of a rendered prompt; the renderer truncates longer text, but never the instruction."""
    reasoning: Literal["sentence", "steps"] = "sentence"
    """Text before the answer block: one sentence (a tiny guard cannot do more) or steps for each task."""
    instruction: Annotated[str, Field(pattern=r"^(full|none|column:\S.*|.+\.(md|txt))$")] = "full"
    """Text before every sample: "full" (the shipped one), "none", the text of a .md or .txt file, or "column:NAME", the
    text of that column in the data. A guard built from scratch weights all words of a prompt alike: the instruction
    would drown the sample, so the shipped recipes for tiny guards leave it out."""
    opening: Literal["reasoning", "none"] = "reasoning"
    """Line before a trace: `Reasoning:`, or nothing, as published GuardReasoner models were trained."""
    template: Literal["raw", "chat"] = "raw"
    """chat uses the base's chat template, rendered once for the run with thinking off; the same in training, mining and
    evaluation."""
    max_trace_tokens: Annotated[int, Field(ge=8)] = 64
    """Token limit of a trace; 64 hold a sentence and the answer block, steps need about 400."""
    operating_point: OperatingPoint = added("f1")
    """How dev sets the thresholds of request and response: "f1" for the best expected macro-F1, "fpr<=0.01" for the
    best recall at a false-positive rate of at most 1 %, "recall>=0.95" for the fewest false positives."""
    let_through: Rate | None = added(None)
    """The share of harmful samples that may be let through at most, such as 0.05: a second cut that keeps it with 95 %
    confidence on dev, and what lies between it and the threshold is deferred. Needs 59 harmful dev rows for 0.05, 299
    for 0.01. None has no second cut."""
    categories: Names = added(())
    """Categories that a harmful text may be in, as a list of names, a .txt file with one a line, a .toml file of
    policies, or "policies", the names of the guard's policies (without any, of the teacher's). The guard learns to name
    those that apply in a last line of its answer, `Categories: a, b`. Empty asks for none."""
    tiny: TinyGuard = TinyGuard()

    @model_validator(mode="after")
    def _device_is_the_backends(self) -> "Guard":
        if self.backend == "mlx" and self.device == "cuda":
            raise ValueError('device "cuda" is torch\'s: set backend to "cuda" or "auto"')
        return self

    @model_validator(mode="after")
    def _engine_and_server_go_together(self) -> "Guard":
        if (self.engine != "here") != (self.server is not None):
            raise ValueError(
                'an engine "vllm" or "chat" and the section guard.server go together: give both or neither'
            )
        if self.engine == "chat" and self.template != "chat":
            raise ValueError('the engine "chat" asks in the chat template: set template to "chat"')
        return self


def _any_name(name: Any, check: Callable[[Any], str]) -> str:
    """Return a file's name as it is: pydantic refuses one that is not UTF-8, which Python writes with surrogates."""
    return name if isinstance(name, str) and name else check(name)


class Data(Section):
    """One file of samples."""

    path: Annotated[str, Field(min_length=1), WrapValidator(_any_name)]
    """The file, relative to the folder in which wizloop is started: JSON, JSON Lines, CSV or TSV, gzipped or
    not, or Parquet; with hub_split, a dataset's NAME[:config]."""
    hub_split: str | None = None
    """Split of a dataset on the Hugging Face hub, or in a local folder of one; None reads a file."""
    split: Split
    """Use of the rows: pool to select from, seed for round 0, dev for thresholds and gates, test for measuring only."""
    format: str | None = None
    """Format by name; None detects it from the columns."""
    map: dict[str, str] = {}
    """For any other schema: our key (prompt, response, label, request_label, ...) to the file's column. A key that it
    does not name keeps its plain column; "not is_safe" is the opposite of a column, "=harmful" a word for every row."""
    label: LabelWords = {}
    """What the file's own label words mean: {malicious = "harmful", controversial = "none"}; each is one of the labels
    of [tasks], or none for no label."""
    category: dict[str, str] = added({})
    """What the file's own words for categories mean: {S1 = "violence"}; "none" is no category. Words that are not here
    stay as they are."""
    task: Task = "request"
    """Task of a bare `label` column; files that name the task of each label do not need it."""
    turns: Turns = "first"
    """Turns of a conversation that become samples: the first request with its answer, the last one, all as one sample
    with the roles written out, or each request with its answer as a sample of its own."""
    prompts_only: bool = False
    """Drop responses and their labels, so that every row is only a prompt."""
    limit: Positive | None = None
    """First N rows after the filters below; None takes all."""
    max_chars: Positive | None = None
    """Drop rows with more characters in prompt and response together; None takes all."""
    half: Literal["dev", "test"] | None = None
    """dev keeps prompts whose normalized SHA-256 starts with 0 to 7, test the others; no prompt is in both."""
    part: tuple[Share, Share] | None = None
    """Half-open range in [0, 1) of the prompt's hash (first 8 hex digits of its SHA-256 over 16^8); disjoint ranges
    never share a prompt."""
    sample: Positive | None = None
    """N random rows after the filters, by the run's seed; None takes all."""
    benchmark: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name of a test set in reports, not that of another split; None measures all unnamed test rows together."""
    hide_labels: bool = False
    """Hide the labels from the loop; only the recorded teacher reads them from the file."""
    send: Annotated[str, Field(pattern=r"^[^=]*[^=\s][^=]*(=.*)?$")] | None = added(None)
    """Column that says which rows may be sent to a teacher, NAME (yes, true or 1) or NAME=VALUE; None uses
    teacher.send."""
    skip_bad: bool = False
    """Skip malformed rows (not UTF-8, not JSON, a column missing, ...), which otherwise refuse the whole file."""

    @model_validator(mode="after")
    def _filters_agree(self) -> "Data":
        if self.half and self.part:
            raise ValueError("half and part are two ways to divide a file: give one")
        if self.part and self.part[0] >= self.part[1]:
            raise ValueError("part must rise, for example [0.0, 0.8]")
        if self.limit and self.sample:
            raise ValueError("limit takes the first rows and sample takes any: give one")
        return self

    @model_validator(mode="after")
    def _benchmark_is_no_split(self) -> "Data":
        if self.benchmark is not None and self.benchmark.strip().casefold() in ("dev", "seed", "pool"):
            raise ValueError(
                f"benchmark = {self.benchmark!r} is the name of a split: its figures would pass for others"
            )
        return self


class DataDemo(Section):
    """Sizes of the demo pool's splits, in samples; used if source is "demo"."""

    pool: DemoSize = 1600
    """Enough for four rounds of a hundred, with most samples left over."""
    seed: Annotated[int, Field(ge=0, le=100_000)] = 80
    """Few enough that a night shows a gain; 0 leaves the seed to `wizloop import`."""
    dev: DemoSize = 300
    """A smaller one cannot resolve the gate's margin."""
    test: DemoSize = 400
    """An interval of about four points each way on F1."""


class Classify(Section):
    """How the guard classifies the pool."""

    least: Positive = 2
    """Minimum traces of a sample before sampling may stop."""
    most: Positive = 4
    """Maximum traces of a sample."""
    share: Share = 0.25
    """Share of the pool that gets traces, least certain by one forward pass first; the rest keeps direct verdicts."""
    consensus: Rate = 0.95
    """Share of the weighted vote at which sampling stops (DeepConf's tau)."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Sampling temperature, as in GuardReasoner's mining code."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus sampling, as in GuardReasoner."""
    batch: Positive = 64
    """Prompts per batch, which is what a crash can cost; halved after an out-of-memory death."""
    verdict: Literal["auto", "direct", "traces"] = "auto"
    """Verdict that counts: the direct one, the traces' vote, or auto, whichever is better on dev."""
    keep_top_percent: Annotated[float, Field(gt=0, le=100)] = 90
    """Percentage of warm-up traces kept to set the online stopping threshold (DeepConf-high)."""

    @model_validator(mode="after")
    def _least_is_least(self) -> "Classify":
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) must not be above most ({self.most})")
        return self


class Shares(Section):
    """Shares of the selection strategies in a round, which add up to 1. An installed strategy gets one by its name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Share] = Field(init=False)

    uncertain_compliance: Share = 0.35
    """Let through with low confidence: the riskiest cell first."""
    disagreement: Share = 0.25
    """Largest disagreement of the committee or the members; best if harm is as rare as in real traffic."""
    low_confidence: Share = 0.15
    """Least confident, whatever the verdict."""
    diversity: Share = 0.1
    """Farthest from the samples already selected."""
    random: Share = 0.15
    """Uniformly at random, so that the pool can be estimated without bias."""

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        total = sum(self.model_dump().values())
        if abs(total - 1) > 1e-6:
            further = f", with {' and '.join(self.model_extra)}" if self.model_extra else ""
            raise ValueError(f"the shares add up to {total:g}{further}, they must add up to 1")
        return self


class Select(Section):
    """Selection of samples for the teacher."""

    budget: Positive = 100
    """Samples per round."""
    shares: Shares = Shares()
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of word 3-shingles from which only one of two samples is selected in a round."""


Screen = Literal["steps", "length", "label", "contradiction", "risky"]


class Review(Section):
    """Traces that wait for a person before they are trained on."""

    rule: Literal["nothing", "everything", "doubtful"] = "doubtful"
    """Nothing or everything waits, or what is doubtful: contradicts a label, a confident guard, or itself. What fails a
    screen waits under every rule."""
    confident_at: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """Guard's probability from which a teacher's opposite verdict is doubtful."""
    screens: tuple[Screen, ...] = added(get_args(Screen))
    """Screens of what a model wrote: steps and length, copying the label, a verdict against the reasoning's conclusion,
    and six flags of risky reasoning. Templates of the teachers policy and recorded are not screened."""
    most_steps: Annotated[int, Field(ge=1, le=10)] = added(10)
    """Maximum steps on a task."""
    longest: Annotated[int, Field(ge=100)] = added(4000)
    """Maximum characters of a reasoning, all steps together; recorded traces of GuardReasoner have 1,400."""


class Gate(Bounds, Section):
    """Conditions on dev for a challenger to become champion."""

    margin: Share = 0.01
    """Macro-F1 that a challenger may be below the champion, or the base if there is none."""
    max_unparsable: Share = 0.05
    """Maximum share of unreadable answers, and of traces without a complete answer block, each."""
    max_over_refusal_rise: Share = 0.05
    """Maximum rise in the share of unharmful requests called harmful."""
    must_hold: Annotated[str, Field(min_length=1)] | None = added(None)
    """File of labeled rows, in any format of a test set: one on which the champion is right holds a challenger that is
    wrong. Measured each round as the test set must_hold; None names no rows."""


class Stop(Section):
    """Early stopping on a plateau, besides rounds, budget and until."""

    plateau_rounds: Positive | None = None
    """Consecutive rounds without a gain after which the run stops; None turns it off."""
    plateau_delta: Share = 0.005
    """Dev macro-F1 that counts as a gain."""
    least_gain: Share | None = added(None)
    """Average precision on dev that the next hundred labels must be expected to add (a cheap learner's curve on the
    labels so far); the run stops before a round that promises less. None turns it off."""


Format = Literal["adapter", "adapter-mlx", "safetensors", "mlx-4bit", "mlx-8bit", "nf4", "gguf", "gguf-q8"]


class Export(Section):
    """Export of the guard after a round."""

    # The Literal only documents the built-in words: another package may add a format.
    formats: tuple[Annotated[str, Format], ...] = ("safetensors",)
    """Formats to write, each into its folder: the adapter in PEFT's layout or in mlx-lm's, a whole model, MLX's 4 or 8
    bits, bitsandbytes' 4 bits (nf4, by torch), or a GGUF file for llama.cpp and Ollama, with 16 or 8 bits. A format
    that rounds weights to 4 or 8 bits is measured on dev and test, and fails if it loses more than gate.margin. Plugins
    add formats."""
    every_round: bool | tuple[Annotated[str, Format], ...] = True
    """Formats of every round: true for all, false for none, or some of `formats`; the last round writes all."""
    parity_n: Annotated[int, Field(ge=0)] = 16
    """Dev samples on which a lossless export must give the champion's verdicts; 0 skips the check."""

    @model_validator(mode="after")
    def _rounds_write_what_is_asked_for(self) -> "Export":
        some = self.every_round if isinstance(self.every_round, tuple) else ()
        if unasked := [each for each in some if each not in self.formats]:
            raise ValueError(f"every_round has {', '.join(unasked)}, which formats has not: name it in both")
        return self

    def after_round(self) -> tuple[str, ...]:
        """Return the formats that are written after a round that is not the last."""
        if isinstance(self.every_round, bool):
            return self.formats if self.every_round else ()
        return self.every_round


Occasion = Literal["finished", "stopped", "budget", "teacher", "waiting"]


class Notify(Section):
    """Notifications. Addresses contain secrets and are not part of a recipe."""

    on: tuple[Occasion, ...] = ()
    """Events: finished; stopped, with the reason; budget, at 80 % of it; teacher, that is out; waiting, for traces to
    review."""
    addresses: Annotated[str, Field(pattern=r"^WIZLOOP_NOTIFY[A-Z0-9_]*$")] = "WIZLOOP_NOTIFY"
    """Environment variable with the addresses, as apprise URLs separated by spaces."""
    waiting: Positive = 20
    """Waiting traces from which a message is sent."""


class Worker(Section):
    """The process that runs a phase."""

    max_deaths: Annotated[int, Field(ge=0)] = 3
    """Consecutive deaths in one phase after which the run fails."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between heartbeats; a worker that misses sixty and computes nothing meanwhile is considered dead."""
