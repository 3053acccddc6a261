"""The sections of a recipe: one field for each setting, its default, and under it its unit and the reason.

Not where a recipe is read or checked as a whole; see schema.py. There is no second list of these fields anywhere.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Task = Literal["request", "completion", "response"]
Split = Literal["pool", "seed", "dev", "test"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
DemoSize = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """Unknown keys are errors, and a recipe never changes once it is read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class TinyGuard(Section):
    """The shape of the guard that is made from nothing when guard.base is "tiny"."""

    vocab: Annotated[int, Field(ge=300, le=65_536)] = 4096
    """Tokens. 4,096 was as good as 8,192 at half the parameters."""
    layers: Positive = 2
    """Transformer blocks. Four were no better."""
    width: Annotated[int, Field(ge=16, multiple_of=4)] = 128
    """Hidden size; a multiple of the four attention heads."""
    mlp: Positive = 256
    """Inner size of the feed-forward part."""
    epochs: Annotated[int, Field(ge=0)] = 1
    """Passes of language modelling over the pool's prompts after the start from co-occurrence. One helped most."""


class Server(Section):
    """A server of completions with log-probabilities that answers for the guard: vLLM, mlx_lm.server, llama.cpp.

    A key that it wants comes from the environment (WIZLOOP_SERVER_KEY) or the keyring (`wizloop keys set server`).
    """

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    """Where it listens, for example http://127.0.0.1:8000/v1."""
    model: str | None = None
    """The base's name there; None takes the first that it lists, or guard.base where adapters are paths."""
    adapters: Literal["name", "path"] = "name"
    """How it has an adapter: as a model of its own name, loaded into vLLM when it is first asked for, or as a path in
    every request (mlx_lm.server)."""
    topk: Annotated[int, Field(ge=2, le=20)] = 20
    """Log-probabilities asked for at each token; it may give fewer (mlx_lm.server 11, OpenAI's own 5)."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    """Questions under way at once."""
    deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """Wall-clock seconds for one question."""

    @model_validator(mode="after")
    def _adapter_is_not_ignored(self) -> "Server":
        if self.adapters == "path" and self.model == "default_model":
            raise ValueError("mlx_lm.server ignores an adapter's path for default_model: leave model out")
        return self


class Guard(Section):
    """The local model that is taught, and how it is asked."""

    base: Annotated[str, Field(min_length=1)] = "tiny"
    """A model's hub name, a local folder, or "tiny": made from nothing on the pool's text, and nothing is fetched."""
    backend: Literal["auto", "mlx", "cuda"] = "auto"
    """What runs it: MLX, or torch for "cuda"; auto takes Metal, then a CUDA card, then MLX on the CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """On which device; "cpu" with backend "cuda" is torch without a card, much slower."""
    engine: Literal["here", "vllm"] = "here"
    """What answers when the guard is asked: the backend, or the server below. All questions go to one: what dev teaches
    of one engine's probabilities does not hold for another's. Training stays with the backend."""
    server: Server | None = None
    """Needed by, and only by, the engine "vllm"."""
    quantise: Literal["none", "4bit"] = "none"
    """How the base is held in memory; 4bit pays on Metal, and on a CUDA card with bitsandbytes."""
    max_prompt_tokens: Annotated[int, Field(ge=32)] = 512
    """Tokens of one rendered prompt; longer text is cut by the renderer, the instruction never."""
    reasoning: Literal["sentence", "steps"] = "sentence"
    """What stands before the answer block: one sentence (a tiny guard cannot do more) or the steps for each task."""
    instruction: Annotated[str, Field(pattern=r"^(full|none|column:\S.*|.+\.(md|txt))$")] = "full"
    """What stands in front of every sample: "full" (the shipped one), "none", the text of a .md or .txt file, or
    "column:NAME", what the data's own column of that name says. A guard made from nothing weighs all words of a prompt
    alike: the instruction would drown the sample, and the shipped recipes for tiny guards leave it out."""
    opening: Literal["reasoning", "none"] = "reasoning"
    """What a trace begins after: the line `Reasoning:`, or nothing, as published GuardReasoner models learned it."""
    template: Literal["raw", "chat"] = "raw"
    """Whether the prompt goes through the base's chat template; the same in training, mining and evaluation."""
    max_trace_tokens: Annotated[int, Field(ge=8)] = 64
    """Tokens that a trace may have; 64 hold a sentence and the answer block, steps need about 400."""
    tiny: TinyGuard = TinyGuard()

    @model_validator(mode="after")
    def _device_is_the_backends(self) -> "Guard":
        if self.backend == "mlx" and self.device == "cuda":
            raise ValueError('device "cuda" is torch\'s: set backend to "cuda" or "auto"')
        return self

    @model_validator(mode="after")
    def _engine_and_server_go_together(self) -> "Guard":
        if (self.engine == "vllm") != (self.server is not None):
            raise ValueError('the engine "vllm" and the section guard.server go together: give both or neither')
        return self


class Data(Section):
    """One file of samples. The path is relative to the folder in which wizloop is started."""

    path: Annotated[str, Field(min_length=1)]
    """The file: JSON, JSON Lines or CSV, gzipped or not, or Parquet; with hub_split, a dataset's NAME[:config]."""
    hub_split: str | None = None
    """The split to take of a dataset of the Hugging Face hub, or of a local folder of one; None reads a file."""
    split: Split
    """Where its rows go: to choose from, to start with, to choose thresholds and gates, or to measure only."""
    format: str | None = None
    """The file's format by name; None recognises it from its columns."""
    map: dict[str, str] = {}
    """For any other schema, our key (prompt, response, label, request_label, ...) to the file's column."""
    task: Task = "request"
    """What a bare `label` column speaks about; files that label each task by name do not need it."""
    prompts_only: bool = False
    """Leaves out the responses and their labels, so that every row is a prompt alone."""
    limit: Positive | None = None
    """The first so many rows after the filters below; None takes all."""
    max_chars: Positive | None = None
    """Leaves out rows with more characters, prompt and response together; None takes all."""
    half: Literal["dev", "test"] | None = None
    """dev takes prompts whose sha256 (normalised) starts with 0 to 7, test the others, so that no prompt is in both."""
    part: tuple[Share, Share] | None = None
    """From and up to, of 1: the place of the prompt's sha256, its first 8 hex digits over 16^8. Parts never overlap."""
    sample: Positive | None = None
    """So many rows at random, with the run's seed, after the filters; None takes all."""
    benchmark: str | None = None
    """The name under which a test set is reported; None measures all unnamed test rows together."""
    hide_labels: bool = False
    """Whether the loop must not see the labels: only the recorded teacher may read them from the file."""
    skip_bad: bool = False
    """Leaves out rows that are broken (not UTF-8, no JSON, a column missing, ...), which else refuse the whole file."""

    @model_validator(mode="after")
    def _filters_agree(self) -> "Data":
        if self.half and self.part:
            raise ValueError("half and part are two ways to divide the same file: give one")
        if self.part and self.part[0] >= self.part[1]:
            raise ValueError("part must rise, for example [0.0, 0.8]")
        if self.limit and self.sample:
            raise ValueError("limit takes the first rows and sample takes any: give one")
        return self


class DataDemo(Section):
    """Sizes of the demo pool's splits, in samples; used where source is "demo"."""

    pool: DemoSize = 1600
    """Enough for four rounds of a hundred, with most left unchosen."""
    seed: DemoSize = 80
    """Few enough that a night shows a gain."""
    dev: DemoSize = 300
    """Smaller ones cannot resolve the gate's margin."""
    test: DemoSize = 400
    """An interval of about four points each way on F1."""


class Classify(Section):
    """How the pool is read by the guard."""

    least: Positive = 2
    """Traces of a sample before sampling may stop."""
    most: Positive = 4
    """Traces of a sample at most."""
    share: Share = 0.25
    """Of the pool, the least certain by one forward pass first, that gets traces; the rest keeps its direct verdict."""
    consensus: Rate = 0.95
    """Share of the weighted vote at which sampling stops (DeepConf's tau)."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Sampling temperature, as in GuardReasoner's mining code."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus sampling, as in GuardReasoner."""
    batch: Positive = 64
    """Prompts at once, and the piece that a crash can cost; halved after an out-of-memory death."""
    verdict: Literal["auto", "direct", "traces"] = "auto"
    """Which verdict counts: the direct one, the traces' vote, or whichever is better on dev."""
    keep_top_percent: Annotated[float, Field(gt=0, le=100)] = 90
    """Warm-up traces kept when the online stopping threshold is set (DeepConf-high)."""

    @model_validator(mode="after")
    def _least_is_least(self) -> "Classify":
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) must not be above most ({self.most})")
        return self


class Members(Section):
    """The ensemble whose disagreement is measured."""

    count: Annotated[int, Field(ge=0, le=8)] = 2
    """Members beside the champion; three in all separate right from wrong about as well as any measure tried."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.67
    """Share of the training data that each member sees, as leaving one of three sets out does."""


class Shares(Section):
    """What the teacher's batch is mixed from; the shares add up to 1. An installed strategy gets one by its name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Share] = Field(init=False)

    uncertain_compliance: Share = 0.35
    """Let through with low confidence: the riskiest cell first."""
    disagreement: Share = 0.25
    """Members differ most; best on pools as rare as real traffic."""
    low_confidence: Share = 0.15
    """Least sure, whatever the verdict."""
    diversity: Share = 0.1
    """Farthest from what is already chosen."""
    random: Share = 0.15
    """Any sample, so that the pool can be estimated without bias."""

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        total = sum(self.model_dump().values())
        if abs(total - 1) > 1e-6:
            further = f", with {' and '.join(self.model_extra)}" if self.model_extra else ""
            raise ValueError(f"the shares add up to {total:g}{further}, they must add up to 1")
        return self


class Select(Section):
    """Which samples go to the teacher."""

    budget: Positive = 100
    """Samples in a round."""
    shares: Shares = Shares()
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of word 3-shingles from which two samples do not share a batch."""


class Review(Section):
    """What waits for a person before it is trained on."""

    rule: Literal["nothing", "everything", "doubtful"] = "doubtful"
    """nothing waits, everything waits, or what is doubtful: against a label, a confident guard, or its own word."""
    confident_at: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """The guard's probability from which a teacher that says the opposite is doubtful."""


class Train(Section):
    """R-SFT of LoRA adapters. Defaults are for the tiny guard; a large base wants lr 1e-4 and 3 epochs."""

    rank: Positive = 16
    """Of the adapters."""
    scale: Annotated[float, Field(gt=0)] = 2.0
    """What the adapters' output is multiplied by (alpha over rank)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the adapters' inputs."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of a sample's tokens that is blanked out at each step; both dropouts keep a tiny guard from learning its
    few labels by heart (AUC 0.73 without, 0.76 with, at 400 labels of the acceptance mix)."""
    layers: Annotated[int, Field(ge=-1)] = -1
    """Blocks with adapters, from the last; -1 means all."""
    epochs: Positive = 6
    """Passes over the approved traces; a model from nothing needs more than the 3 of GuardReasoner."""
    least_steps: Annotated[int, Field(ge=0)] = 150
    """Steps at least, by more passes; after 100 steps a tiny guard leaves nine of ten traces without an answer."""
    start: Literal["base", "champion"] = "base"
    """Whether a round's training begins on the base or goes on from the champion's adapter; it reads the lessons of all
    rounds either way. Over six seeds the demo's request F1 on test ended at 85.2 from the base and at 79.3 from the
    champion, its completion F1 at 52.7 and 74.2."""
    batch: Positive = 16
    """Traces in one step."""
    lr: Rate = 7e-4
    """Peak of AdamW's cosine schedule; GuardReasoner's 5e-5 is for full tuning of a large base."""
    direct_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the examples that answer at once against those with a trace (1.0)."""
    verdict_weight: Annotated[float, Field(gt=0)] = 8.0
    """Weight of a verdict's tokens in the loss; about 8 was needed for a tiny guard to learn the label."""
    prompt_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of some of the prompt's tokens in the loss: language modelling beside the task; 0 leaves it out."""
    checkpoint_every: Positive = 50
    """Steps that a crash can cost."""
    launch: Literal["one", "accelerate"] = "one"
    """Whether one process trains, or several that share every step's traces; accelerate is torch's alone."""
    processes: Annotated[int, Field(ge=0)] = 0
    """How many with launch = "accelerate"; 0 means one for each card."""
    sharding: Literal["none", "fsdp"] = "none"
    """With launch = "accelerate": whether each process holds the whole base, or a share of it that is put together
    layer by layer (torch's FSDP2), for a base that fills a card on which it must also be trained. Adapters are whole in
    each. A guard that is asked stands whole on one card either way."""

    @model_validator(mode="after")
    def _shares_have_holders(self) -> "Train":
        if self.sharding != "none" and (self.launch == "one" or self.processes == 1):
            raise ValueError(
                f'sharding "{self.sharding}" divides the base among processes: set launch to "accelerate" and '
                "processes to 0 or to 2 and more"
            )
        return self


class Dpo(Section):
    """HS-DPO on hard samples, after R-SFT (GuardReasoner, arXiv:2501.18492)."""

    enabled: bool = True
    """Off trains by R-SFT alone."""
    k: Annotated[int, Field(ge=2)] = 4
    """Traces sampled for each labelled sample; hard is where right and wrong both occur."""
    beta: Annotated[float, Field(gt=0)] = 0.01
    """Strength of the preference, on summed log-probabilities."""
    sft_weight: Annotated[float, Field(ge=0)] = 2.0
    """Weight of the mean token loss on the chosen trace."""
    lr: Rate = 1e-4
    """A tenth of R-SFT's, as in the paper (5e-6 after 5e-5)."""
    epochs: Positive = 2
    """Passes over the pairs."""
    batch: Positive = 16
    """Pairs in one step."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Sample weights lie between 1 - gamma and 1 + gamma."""


class Gate(Section):
    """When a challenger becomes champion; all bounds hold on dev."""

    margin: Share = 0.01
    """Macro-F1 that a challenger may be below the champion."""
    max_unparsable: Share = 0.05
    """Share of traces without a whole answer block."""
    max_over_refusal_rise: Share = 0.05
    """Rise of the share of unharmful requests called harmful."""


class Stop(Section):
    """A plateau ends a run early; rounds, budget and until end it anyway."""

    plateau_rounds: Positive | None = None
    """Rounds in a row without a gain after which the run stops; None never stops for it."""
    plateau_delta: Share = 0.005
    """Dev macro-F1 that counts as a gain."""


Format = Literal["adapter", "safetensors", "mlx-4bit", "nf4"]


class Export(Section):
    """What is written when a round is done."""

    # The Literal is for the list of keys alone: another package may add a format.
    formats: tuple[Annotated[str, Format], ...] = ("safetensors",)
    """Folders to write; nf4 is 4 bits for bitsandbytes, by torch. Installed plugins add formats."""
    every_round: bool = True
    """Or only after the last round."""
    parity_n: Annotated[int, Field(ge=0)] = 16
    """Dev samples on which the exported model must give the champion's verdicts; 0 skips the check."""


Occasion = Literal["finished", "stopped", "budget", "waiting"]


class Notify(Section):
    """Messages to a person who is elsewhere. The addresses hold secrets and are no part of a recipe."""

    on: tuple[Occasion, ...] = ()
    """finished; stopped, with the reason; budget, at 80 % of it; waiting, for traces to review. None by default."""
    addresses: Annotated[str, Field(pattern=r"^WIZLOOP_NOTIFY[A-Z0-9_]*$")] = "WIZLOOP_NOTIFY"
    """The environment's variable with the addresses, as apprise writes them, with spaces in between."""
    waiting: Positive = 20
    """Traces that must wait before a message is sent."""


class Worker(Section):
    """The process that does a phase."""

    max_deaths: Annotated[int, Field(ge=0)] = 3
    """Deaths in a row in one phase before the run fails."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between signs of life; a worker that misses sixty and computes nothing meanwhile counts as dead."""
