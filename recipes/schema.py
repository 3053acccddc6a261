"""A recipe: everything that defines a run, without secrets. Loads TOML into a frozen, checked object.

Paths in a recipe are relative to the folder in which wizloop is started, not to the recipe's file: a shipped recipe is
inside the installed package, where there is no data.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from wizloop import plugins, regular_file
from wizloop.recipes import sections
from wizloop.recipes.ensemble import Members
from wizloop.recipes.policies import PolicyText
from wizloop.recipes.reference import every_key
from wizloop.recipes.shipped import shipped
from wizloop.recipes.tasks import Tasks, refuse_labels
from wizloop.recipes.teaching import Name, Teachers
from wizloop.recipes.training import Dpo, Train

BUILT_IN: dict[plugins.Kind, tuple[str, ...]] = {
    "teacher": get_args(Name),
    "strategy": tuple(sections.Shares.model_fields),
    "exporter": get_args(sections.Format),
}
"""The names that need no plugin. Those of import formats are in loop/data."""
_TOO_DEEP = "not a recipe: its lists or tables are nested too deeply"


class RecipeError(ValueError):
    """A recipe cannot be used; the message names the file and the key, and says what to do."""


class Recipe(sections.Section):
    """One run. Every section is optional."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Name of the run: lower-case letters, digits, dots, - and _."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    """Seed of all randomness."""
    rounds: Annotated[int, Field(ge=0, le=1000)] = 4
    """Rounds of selection and teaching after round 0, which trains on the seed split; 0 needs no pool."""
    until: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = None
    """Local time, "07:00", after which no phase starts; None sets no end."""
    budget_usd: Annotated[float, Field(ge=0, le=10**9)] | None = None
    """Cap on the teachers' cost, in US dollars; None sets none."""
    source: Literal["files", "imported", "demo"] = "files"
    """Source of the samples: files adds those of [[data]] to the workspace's own, imported uses only what `wizloop
    import` brought in, and demo generates a pool from the seed."""
    data: tuple[sections.Data, ...] = ()
    data_demo: sections.DataDemo = sections.DataDemo()
    tasks: Tasks = sections.added(Tasks())
    guard: sections.Guard = sections.Guard()
    classify: sections.Classify = sections.Classify()
    members: Members = Members()
    select: sections.Select = sections.Select()
    teacher: Teachers = Teachers()
    review: sections.Review = sections.Review()
    train: Train = Train()
    dpo: Dpo = Dpo()
    gate: sections.Gate = sections.Gate()
    stop: sections.Stop = sections.Stop()
    export: sections.Export = sections.Export()
    notify: sections.Notify = sections.Notify()
    worker: sections.Worker = sections.Worker()
    _kept_policies: tuple[PolicyText, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _has_what_a_run_needs(self) -> "Recipe":
        given = {each.split for each in self.data}
        missing = [split for split in self.needed() if split not in given and not self.may_be_traces(split)]
        if self.source != "files" and self.data:
            raise ValueError(f'source is "{self.source}": leave out [[data]], or set source = "files"')
        if self.source == "files" and missing:
            raise ValueError(f"no [[data]] has the split {missing[0]!r}: a run needs pool, seed and dev")
        return self

    def keeping(self, policies: tuple[PolicyText, ...]) -> "Recipe":
        """Return the recipe with the policies that a run keeps in place of those that the file of [guard] has now."""
        kept = self.model_copy()
        kept._kept_policies = policies
        return kept

    @property
    def own_policies(self) -> tuple[PolicyText, ...] | Path | None:
        """The user's policies for the teachers: those kept, or their file; None for the shipped ones."""
        if self.teacher.policies is not None:
            return Path(self.teacher.policies)
        if self.guard.own_policies is None:
            return None
        return self._kept_policies or Path(self.guard.own_policies)

    @property
    def written(self) -> Literal["auto", "direct", "traces"]:
        """Which of the guard's written answers counts: the direct one, the traces' vote, or what dev says."""
        answer = self.guard.answer
        return answer if answer in ("direct", "traces") else self.classify.verdict

    def needed(self) -> tuple[sections.Split, ...]:
        """Return the splits that a run cannot do without."""
        return ("pool", "seed", "dev") if self.rounds else ("seed", "dev")

    def may_be_traces(self, split: sections.Split) -> bool:
        """Return whether all samples of a split may come from `wizloop import --traces`."""
        return split == "seed" and "traces" in self.teacher.names

    @model_validator(mode="after")
    def _answers_agree(self) -> "Recipe":
        answer, verdict = self.guard.answer, self.classify.verdict
        if answer in ("direct", "traces") and verdict not in ("auto", answer):
            raise ValueError(
                f'guard.answer is "{answer}" and classify.verdict is "{verdict}": leave classify.verdict out'
            )
        return self

    @model_validator(mode="after")
    def _files_have_these_labels(self) -> "Recipe":
        known, traces = self.tasks.words(), self.teacher.traces
        files = [(f"data[{n}]", each.label) for n, each in enumerate(self.data, start=1)]
        files += [(f"teacher.traces[{n}]", each.label) for n, each in enumerate(traces, start=1)]
        for section, meant in files:
            refuse_labels(f"{section}.label", meant, known)
        if self.teacher.recorded is not None:
            refuse_labels("teacher.recorded.label", self.teacher.recorded.label, known)
        return self

    @model_validator(mode="after")
    def _policies_have_these_labels(self) -> "Recipe":
        if self.guard.policies is not None and not self.tasks.is_about_harm():
            raise ValueError(
                "guard.policies says what is harmful, and [tasks] has other labels: leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _demo_has_these_labels(self) -> "Recipe":
        for task, words in Tasks().model_dump(exclude={"blocks"}).items():
            if self.source == "demo" and getattr(self.tasks, task) not in ((), words):
                raise ValueError(
                    f"tasks.{task}: the demo's samples have the labels {' and '.join(words)}: leave it out, or give "
                    'samples of your own with source = "files"'
                )
        return self

    @model_validator(mode="after")
    def _server_reads_the_adapters(self) -> "Recipe":
        if self.guard.engine == "vllm" and self.train.method == "dora":
            raise ValueError('the engine "vllm" reads no DoRA adapters: set train.method to "lora"')
        if self.guard.base == "tiny" and self.train.method == "dora":
            raise ValueError('DoRA needs a pretrained base, and guard.base is "tiny": set train.method to "lora"')
        return self

    @model_validator(mode="after")
    def _whole_weights_can_be_trained_and_read(self) -> "Recipe":
        if self.train.method != "full":
            return self
        if self.guard.quantise != "none":
            raise ValueError(
                'train.method "full" cannot train weights that guard.quantise rounds: set guard.quantise to "none"'
            )
        if self.guard.engine != "here":
            raise ValueError(f'the engine "{self.guard.engine}" reads adapters only: set train.method to "lora"')
        if adapters := [each for each in self.export.formats if not _is_whole(each)]:
            raise ValueError(
                f'train.method "full" makes no adapter, and export.formats has {", ".join(adapters)}, '
                "which needs one: export safetensors, or another built-in format of a whole model"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_whole_numbers(self) -> "Recipe":
        if self.train.sharding != "none" and self.guard.quantise != "none":
            raise ValueError(
                f'train.sharding "{self.train.sharding}" cannot divide weights that guard.quantise packs: set '
                'guard.quantise to "none", or train.sharding to "none"'
            )
        return self


def _is_whole(format: str) -> bool:
    """Return whether an export's format holds a whole model; a plugin's takes an adapter."""
    return format in BUILT_IN["exporter"] and not format.startswith("adapter")


def load(path_or_name: str | Path) -> Recipe:
    """Load a shipped recipe by name, or your own by path. Raises RecipeError."""
    path = find(path_or_name)
    try:
        table = tomllib.loads(regular_file.read_text(path))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error
    except RecursionError:
        raise RecipeError(f"{path}: {_TOO_DEEP}") from None
    if isinstance(table.get("teacher"), list):
        table["teacher"] = {"names": table["teacher"]}
    try:
        # Through JSON, in which strict types accept a list as a tuple and nothing else as another type.
        recipe = Recipe.model_validate_json(json.dumps(table, default=str))
    except RecursionError:
        raise RecipeError(f"{path}: {_TOO_DEEP}") from None
    except ValidationError as error:
        # pydantic accepts fewer levels than TOML.
        too_deep = error.errors()[0]["type"] == "json_invalid"
        raise RecipeError(f"{path}: {_TOO_DEEP if too_deep else _explained(error)}") from error
    if (unknown := unknown_name(recipe)) is not None:
        raise RecipeError(f"{path}: {unknown}")
    return recipe


def unknown_name(recipe: Recipe) -> str | None:
    """Return what is wrong with the first name that is neither built in nor installed, or None. Nothing is imported.

    No part of the schema: the recipe of an old run stays readable when a package is uninstalled.
    """
    named: list[tuple[plugins.Kind, str, Iterable[str]]] = [
        ("teacher", "teacher.names", recipe.teacher.names),
        ("strategy", "select.shares", recipe.select.shares.model_dump()),
        ("exporter", "export.formats", recipe.export.formats),
    ]
    for kind, key, names in named:
        for name in names:
            try:
                if name not in BUILT_IN[kind]:
                    plugins.refuse_name(kind, name, BUILT_IN[kind])
            except plugins.PluginError as error:
                return f"{key}: {error}"
    return None


def stored(text: str) -> Recipe:
    """Load a recipe that `canonical_json` wrote, perhaps in another version of wizloop. Raises RecipeError."""
    try:
        return Recipe.model_validate_json(json.dumps(_as_it_was(json.loads(text))))
    except ValidationError as error:
        reason = f"the run's recipe was written by another version of wizloop: {_explained(error)}"
        raise RecipeError(f"{reason}; install that version to resume the run") from None


def _as_it_was(table: dict[str, Any]) -> dict[str, Any]:
    """Give a stored recipe the defaults of its time, where a later version has others."""
    table.setdefault("train", {}).setdefault("least_steps", 150)
    return table


def canonical_json(recipe: Recipe) -> str:
    """Return the recipe with all defaults, sorted keys and no white space: equal recipes give equal text."""
    return json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def recipe_hash(recipe: Recipe) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(recipe).encode("utf-8")).hexdigest()


def find(path_or_name: str | Path) -> Path:
    """Return the file of a recipe: the path itself, or a shipped recipe's by name. Raises RecipeError."""
    path, names = Path(path_or_name), shipped()
    if path.is_file():
        return path
    if str(path_or_name) in names:
        return names[str(path_or_name)]
    if path.exists():
        raise RecipeError(f"{path_or_name}: it is not a regular file; write the recipe into one first")
    near = difflib.get_close_matches(str(path_or_name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError(f"{path_or_name}: no such file, and no shipped recipe ({', '.join(names)}) has this name{hint}")


def _explained(error: ValidationError) -> str:
    """Return the first fault in one sentence: unknown keys first, since they often cause the others."""
    faults = error.errors(include_url=False)
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    key, message = _dotted(fault["loc"]), fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return _unknown_key(key, fault["loc"])
    if fault["type"] == "missing":
        return f"the key {key} is missing; it has no default"
    if not key or isinstance(fault["input"], dict | Recipe):
        return f"{key}: {message}" if key else message
    return f"{key} = {json.dumps(fault['input'], default=str)}: {message}"


def _dotted(place: tuple[int | str, ...]) -> str:
    """Return the key with its dots; tables of a list are counted from [1]."""
    return ".".join(f"[{part + 1}]" if isinstance(part, int) else part for part in place).replace(".[", "[")


def _unknown_key(key: str, place: tuple[int | str, ...]) -> str:
    known = [each.name.rpartition(".") for each in every_key(Recipe)]
    section, name = ".".join(part for part in place[:-1] if isinstance(part, str)), str(place[-1])
    here = [last for parent, _, last in known if parent == section]
    if near := difflib.get_close_matches(name, here, n=1):
        return f"unknown key {key}; did you mean {'.'.join(filter(None, [section, near[0]]))}?"
    if elsewhere := next(("".join(each) for each in known if each[2] == name), None):
        return f"unknown key {key}; did you mean {elsewhere}?"
    return f"unknown key {key}; known here: {', '.join(here)}"
