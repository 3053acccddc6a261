"""The section [teacher] of a recipe: who writes the traces, how each is reached, and when to stop asking it.

Not a place for a key, or for an address that a key is sent to: both come from the environment or the keyring.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from wizloop.recipes.sections import Positive, Section, Task

Name = Literal["policy", "recorded", "claude", "gemini", "openai"]
BUILT_IN: tuple[str, ...] = get_args(Name)
Seconds = Annotated[float, Field(gt=0)]
FLEX_S = 900.0
"""What the provider aims at, at most, for an answer in its tier flex."""


class Recorded(Section):
    """Where the teacher "recorded" reads labels: the keys mean what they mean in [[data]]."""

    path: Annotated[str, Field(min_length=1)]
    """The file, relative to the folder in which wizloop is started."""
    format: str | None = None
    """The file's format by name; None recognises it."""
    map: dict[str, str] = Field(default_factory=dict)
    """Our key to the file's column."""
    task: Task = "request"
    """What a bare `label` column speaks about."""


class Remote(Section):
    """What is common to the teachers that are asked over a network."""

    model: Annotated[str, Field(min_length=1)]
    """Which model answers, as the provider names it."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Live calls at once; the provider's own limits are learned from its headers and kept besides."""
    max_tokens: Annotated[int, Field(ge=256)] = 3000
    """Tokens that an answer may have, thinking included; also what is reserved for it before it is sent."""
    deadline_s: Seconds = 120.0
    """Wall-clock seconds after which a live call is given up, however slowly something still arrives."""


class Batching(Remote):
    """A provider that also takes batches: half the price, an answer within a day."""

    effort: Literal["minimal", "low", "medium", "high"] | None = None
    """How much the model thinks before it answers, which is billed as output; None leaves it to the provider."""
    mode: Literal["live", "batch", "flex"] = "live"
    """live asks side by side and goes on within minutes; batch hands all questions of a round in at once."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Questions in one batch at most."""
    poll_s: Seconds = 30.0
    """Seconds between two looks at a batch."""
    settle_s: Annotated[float, Field(ge=0)] = 600.0
    """Seconds before a submission that nobody saw arrive, and that the provider does not list, is sent again."""


class Claude(Batching):
    """Anthropic's models."""

    mode: Literal["live", "batch"] = "live"
    """live asks side by side and goes on within minutes; batch hands all questions of a round in at once."""
    model: Annotated[str, Field(pattern=r"^claude-")] = "claude-sonnet-5-5"
    """Which one; `wizloop doctor` checks that the provider still has it."""


class Gemini(Batching):
    """Google's models."""

    model: Annotated[str, Field(pattern=r"^gemini-")] = "gemini-3.8-flash"
    """Which one, without an alias such as -latest: what answers must not change under a run."""
    mode: Literal["live", "batch", "flex"] = "live"
    """As for claude; flex asks as live does, at half the price, and may be kept waiting for minutes or turned away."""
    effort: Literal["minimal", "low", "medium", "high"] | None = "low"
    """As for claude; these models think at length unless they are told otherwise."""

    @model_validator(mode="after")
    def _waits_long_enough(self) -> "Gemini":
        if self.mode == "flex" and self.deadline_s < FLEX_S:
            raise ValueError(
                f"in flex an answer may take {FLEX_S / 60:.0f} minutes, and one that is given up before may be billed: "
                f"set deadline_s = {FLEX_S:.0f} or more"
            )
        return self

    @model_validator(mode="after")
    def _is_no_alias(self) -> "Gemini":
        if self.model.endswith("-latest"):
            raise ValueError(f"{self.model} is an alias whose model changes: name the model itself")
        return self


class OpenAI(Remote):
    """A server that speaks OpenAI's chat completions: Ollama, vLLM, mlx_lm.server, or a paid one."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    """Where it listens, for example http://127.0.0.1:11434/v1."""
    paid: bool = False
    """Whether its answers cost money: then teacher.prices must hold its price, under the provider "openai"."""


class Teachers(Section):
    """Who writes the traces. No key and no secret stands in a recipe. `teacher = ["claude"]` sets the names alone."""

    # The Literal is for the list of keys alone: another package may add a name.
    names: Annotated[tuple[Annotated[str, Name], ...], Field(min_length=1)] = ("policy",)
    """Asked in this order: what one refuses or blocks goes to the next, and after the last to a person. Installed
    plugins add names; `wizloop doctor` lists them."""
    depth: Literal["low", "medium", "high"] = "medium"
    """How far the policy reasoner reads: wording, then context, then examples."""
    policies: str | None = None
    """A policy file of your own, relative to the folder in which wizloop is started; None takes the shipped six."""
    sees_label: bool = True
    """Whether a known label (the seed's) is shown, so that the trace supports it."""
    second_ask: bool = True
    """Whether an answer that was cut off or does not fit the schema is asked for once more, with its fault shown."""
    tries: Positive = 6
    """How often one question is sent while the provider is overloaded or limits the rate and bills nothing."""
    backoff_s: Seconds = 2.0
    """Seconds before the second try; doubled for each further one, up to a minute, and spread by chance."""
    patience_s: Annotated[float, Field(ge=0)] = 900.0
    """A provider that asks for a longer wait is left alone for the rest of the round, and the next teacher is asked."""
    prices: str | None = None
    """A file of prices of your own, in the form of the shipped one; its models replace those of the same name."""
    replay: str | None = None
    """A file that `wizloop teach --keep` wrote: its answers stand in for the teachers behind a network, by key."""
    recorded: Recorded | None = None
    """Needed by, and only by, the teacher "recorded"."""
    claude: Claude = Claude()
    gemini: Gemini = Gemini()
    openai: OpenAI | None = None
    """Needed by, and only by, the teacher "openai"."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict, exclude_if=lambda given: not given)
    """Settings of an installed teacher, in a table of its name: [teacher.options.NAME]. No key belongs here."""

    @model_validator(mode="after")
    def _named_and_given_go_together(self) -> "Teachers":
        for name in ("recorded", "openai"):
            if (name in self.names) != (getattr(self, name) is not None):
                raise ValueError(
                    f'the teacher "{name}" and the section teacher.{name} go together: give both or neither'
                )
        if len(set(self.names)) < len(self.names):
            raise ValueError("a teacher is named twice")
        if wrong := [name for name in self.options if name not in self.names or name in BUILT_IN]:
            raise ValueError(f"teacher.options.{wrong[0]} is for an installed teacher that teacher.names has")
        return self
