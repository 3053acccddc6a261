"""The section [teacher] of a recipe: which teachers write the traces, their settings, and when to stop asking one.

Holds no key and no address that a key is sent to: both come from the environment or the keyring.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from wizloop.recipes.patterns import check_pattern
from wizloop.recipes.sections import LabelWords, Positive, Section, Task, Turns, added

Name = Literal["policy", "recorded", "traces", "claude", "gemini", "openai"]
BUILT_IN: tuple[str, ...] = get_args(Name)
Seconds = Annotated[float, Field(gt=0)]
FLEX_S = 900.0
"""The provider's target, at most, for an answer in its flex tier."""


class Recorded(Section):
    """The labels of the teacher "recorded"; the keys mean the same as in [[data]]."""

    path: Annotated[str, Field(min_length=1)]
    """The file, relative to the folder that wizloop is started in."""
    format: str | None = None
    """The file's format by name; None detects it."""
    map: dict[str, str] = Field(default_factory=dict)
    """Maps our keys to the file's columns."""
    label: LabelWords = Field(default_factory=dict)
    """Maps the file's label words to labels, as in [[data]]."""
    category: dict[str, str] = added({})
    """Maps the file's words for categories to names, as in [[data]]."""
    task: Task = "request"
    """The task of a plain `label` column."""
    turns: Turns = "first"
    """The turns of a conversation, as in [[data]]."""


class Traces(Section):
    """A file of reasoning that exists already, for the teacher "traces"."""

    path: Annotated[str, Field(min_length=1)]
    """The file, relative to the folder that wizloop is started in; with hub_split, a dataset's NAME[:config]."""
    hub_split: str | None = None
    """As in [[data]]; None reads a file."""
    map: dict[str, str] = Field(default_factory=dict)
    """For an unknown form: prompt, response, reasoning and verdict, each with the file's column."""
    label: LabelWords = Field(default_factory=dict)
    """What the file's own words for labels and verdicts mean, as in [[data]]."""


class Remote(Section):
    """The settings that remote teachers share."""

    model: Annotated[str, Field(min_length=1)]
    """The model that answers, by the provider's name."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Concurrent live calls; the provider's limits, from its response headers, are respected as well."""
    max_tokens: Annotated[int, Field(ge=256)] = 3000
    """Limit of an answer's tokens, thinking included; money for as many is reserved before a call is sent."""
    deadline_s: Seconds = 120.0
    """Wall-clock seconds after which a live call is abandoned, even if its reply is still arriving."""


class Batching(Remote):
    """The settings of a provider that also takes batches: half the price, an answer within a day."""

    effort: Literal["minimal", "low", "medium", "high"] | None = None
    """How much the model thinks before it answers, billed as output; None leaves it to the provider."""
    mode: Literal["live", "batch", "flex"] = "live"
    """live asks concurrently and takes minutes; batch submits all questions of a round together."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Most questions in one batch."""
    poll_s: Seconds = 30.0
    """Seconds between two polls of a batch."""
    settle_s: Annotated[float, Field(ge=0)] = 600.0
    """Seconds before an unconfirmed submission that the provider does not list is sent again."""


class Claude(Batching):
    """Anthropic's models."""

    mode: Literal["live", "batch"] = "live"
    """live asks concurrently and takes minutes; batch submits all questions of a round together."""
    model: Annotated[str, Field(pattern=r"^claude-")] = "claude-sonnet-5-5"
    """The model; `wizloop doctor` checks that the provider still has it."""


class Gemini(Batching):
    """Google's models."""

    model: Annotated[str, Field(pattern=r"^gemini-")] = "gemini-3.8-flash"
    """The model, without an alias such as -latest: the model must not change during a run."""
    mode: Literal["live", "batch", "flex"] = "live"
    """As for claude; flex asks like live, at half the price, and may wait for minutes or be rejected."""
    effort: Literal["minimal", "low", "medium", "high"] | None = "low"
    """As for claude; these models think at length by default."""

    @model_validator(mode="after")
    def _waits_long_enough(self) -> "Gemini":
        if self.mode == "flex" and self.deadline_s < FLEX_S:
            raise ValueError(
                f"in flex an answer may take {FLEX_S / 60:.0f} minutes, and one abandoned earlier may be billed: "
                f"set deadline_s = {FLEX_S:.0f} or more"
            )
        return self

    @model_validator(mode="after")
    def _is_no_alias(self) -> "Gemini":
        if self.model.endswith("-latest"):
            raise ValueError(f"{self.model} is an alias whose model changes: give the model itself")
        return self


class OpenAI(Remote):
    """A server that speaks OpenAI's chat completions: Ollama, vLLM, mlx_lm.server, or a paid one."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    """The server's address, for example http://127.0.0.1:11434/v1."""
    deadline_s: Seconds = 120.0
    """Seconds after which a call is abandoned; a free server streams, and each token of any of its answers begins them
    again, up to thirty times as many: it may be slow, and work on other questions first."""
    paid: bool = False
    """Whether its answers cost money: teacher.prices must then hold its price, under the provider "openai"."""


class Teachers(Section):
    """The teachers that write the traces. A recipe holds no key. `teacher = ["claude"]` sets only the names."""

    # The Literal is only for the list of keys: another package may add a name.
    names: Annotated[tuple[Annotated[str, Name], ...], Field(min_length=1)] = ("policy",)
    """Asked in this order: what one refuses or blocks goes to the next, and after the last to the user. Installed
    plugins add names; `wizloop doctor` lists them."""
    depth: Literal["low", "medium", "high"] = "medium"
    """What the policy reasoner uses: wording, then context too, then examples too."""
    policies: str | None = None
    """Your own policy file, relative to the folder that wizloop is started in; None uses that of guard.policies, or the
    six shipped policies."""
    instruction: Annotated[str, Field(pattern=r".+\.(md|txt)$")] | None = added(None)
    """Your own instruction for the remote teachers, a .md or .txt file relative to the folder that wizloop is started
    in; {policies} in it becomes the policies. None uses the shipped one."""
    reasoning: Literal["short", "medium", "long"] = added("medium")
    """How much a remote teacher writes: short asks for one or two steps on each task, long for five or more."""
    answer: Literal["full", "small"] = Field(default="full", alias="schema", exclude_if=lambda given: given == "full")
    """Fields that a remote teacher's answer must have: "full", or "small" for a small model: the verdicts and one short
    rationale."""
    sees_label: bool | Literal["all"] = True
    """Whether known labels are shown, so that the trace supports them: the seed's (true), every known one ("all", in
    `wizloop teach FILE` too), or none (false)."""
    send: Annotated[str, Field(pattern=r"^(all|column:[^=]*[^=\s][^=]*(=.*)?)$")] = added("all")
    """Rows of pool and seed that may be sent to a teacher outside of this process: all, or those that say so in a
    column of the data: "column:NAME" (yes, true or 1), or "column:NAME=VALUE". Rows that are kept back are judged by
    the guard, and wait for a person with a verdict of the policy reasoner."""
    mask: tuple[Literal["email", "phone", "card"], ...] = added(())
    """What is masked in a text before it is sent: e-mail addresses, phone numbers, payment cards with a valid check
    digit. Here the text stays as it is."""
    mask_patterns: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = added(())
    """Your own regular expressions, masked in the same way."""
    second_ask: bool = True
    """Whether to ask again once, with the fault shown, after an answer that was cut off or does not fit the schema."""
    tries: Positive = 6
    """How often one question is sent while the provider is overloaded or limits the rate, and bills nothing."""
    backoff_s: Seconds = 2.0
    """Seconds before the second try; doubled for each further one, up to a minute, with random jitter."""
    patience_s: Annotated[float, Field(ge=0)] = 900.0
    """If a provider asks to wait longer, it is not asked for the rest of the round; the next teacher is."""
    # Left out of a recipe's hash where it has its default: runs from before it stay the same runs.
    least_answers: Annotated[int, Field(ge=0, exclude_if=lambda given: given == 1)] = 1
    """Samples that a round must have answers for to go on where a teacher's account or settings failed; with fewer the
    run pauses and says why. 0 never pauses."""
    least_right: Annotated[float, Field(ge=0, le=1)] = added(0.75)
    """Share of seed rows on which a teacher must not surely be right less often, or it is left out for the run: 60
    rows, labels hidden, every label counted alike. The default is halfway between guessing and always right; one that
    is right that often is left out in 1 of 40 runs. 0 checks nothing."""
    prices: str | None = None
    """Your own price file, in the format of the shipped one; its models replace those of the same name."""
    replay: str | None = None
    """A file by `wizloop teach --keep`: its answers, by key, replace those of the remote teachers."""
    recorded: Recorded | None = None
    """Required for, and only for, the teacher "recorded"."""
    traces: Annotated[tuple[Traces, ...], Field(exclude_if=lambda given: not given)] = ()
    """Files of the teacher "traces", which gives their reasoning back as it stands and asks nobody. Without any it
    answers only what `wizloop import --traces` brought in."""
    claude: Claude = Claude()
    gemini: Gemini = Gemini()
    openai: OpenAI | None = None
    """Required for, and only for, the teacher "openai"."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict, exclude_if=lambda given: not given)
    """Settings of an installed teacher, in the table [teacher.options.NAME]. No key belongs here."""

    @model_validator(mode="after")
    def _named_and_given_go_together(self) -> "Teachers":
        for name in ("recorded", "openai"):
            if (name in self.names) != (getattr(self, name) is not None):
                raise ValueError(
                    f'the teacher "{name}" and the section teacher.{name} go together: give both or neither'
                )
        if self.traces and "traces" not in self.names:
            raise ValueError('[[teacher.traces]] is for the teacher "traces": add it to teacher.names')
        if len(set(self.names)) < len(self.names):
            raise ValueError("a teacher is named twice")
        for pattern in self.mask_patterns:
            check_pattern(pattern)
        if wrong := [name for name in self.options if name not in self.names or name in BUILT_IN]:
            raise ValueError(f"teacher.options.{wrong[0]} is for an installed teacher that teacher.names has")
        return self
