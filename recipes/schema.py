"""A recipe: everything that a run is, with no secret in it. TOML in; a frozen, checked object out.

Paths in a recipe are relative to the folder in which wizloop is started, not to the recipe's file: a shipped recipe
lives inside the installed package, where no data is.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from wizloop import plugins
from wizloop.recipes.sections import (
    Classify,
    Data,
    DataDemo,
    Dpo,
    Export,
    Format,
    Gate,
    Guard,
    Members,
    Notify,
    Review,
    Section,
    Select,
    Shares,
    Stop,
    Train,
    Worker,
)
from wizloop.recipes.shipped import shipped
from wizloop.recipes.teaching import Name, Teachers

BUILT_IN: dict[plugins.Kind, tuple[str, ...]] = {
    "teacher": get_args(Name),
    "strategy": tuple(Shares.model_fields),
    "exporter": get_args(Format),
}
"""The names that need no plugin. Those of import formats are in loop/data."""
_TOO_DEEP = "is no recipe: lists or tables are nested too deeply in it"


class RecipeError(ValueError):
    """The recipe cannot be used; the message names the file and the key, and says what to do."""


class Recipe(Section):
    """One run. Every section may be left out: its defaults then hold."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """What the run is called; lower-case letters, digits, dots, - and _."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    """All randomness follows from it."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 4
    """Rounds of choosing and teaching after round 0, which teaches the seed."""
    until: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = None
    """Local wall clock, "07:00": no new phase starts after it; None sets no end."""
    budget_usd: Annotated[float, Field(ge=0, le=10**9)] | None = None
    """Dollars that teachers may cost; None sets no cap."""
    source: Literal["files", "imported", "demo"] = "files"
    """Where samples come from: [[data]] beside what the workspace holds already, only what `wizloop import` brought
    into the workspace, or the demo pool, which is made from the seed."""
    data: tuple[Data, ...] = ()
    data_demo: DataDemo = DataDemo()
    guard: Guard = Guard()
    classify: Classify = Classify()
    members: Members = Members()
    select: Select = Select()
    teacher: Teachers = Teachers()
    review: Review = Review()
    train: Train = Train()
    dpo: Dpo = Dpo()
    gate: Gate = Gate()
    stop: Stop = Stop()
    export: Export = Export()
    notify: Notify = Notify()
    worker: Worker = Worker()

    @model_validator(mode="after")
    def _has_what_a_run_needs(self) -> "Recipe":
        given = {each.split for each in self.data}
        missing = [split for split in ("pool", "seed", "dev") if split not in given]
        if self.source != "files" and self.data:
            raise ValueError(f'source is "{self.source}": leave out [[data]], or set source = "files"')
        if self.source == "files" and missing:
            raise ValueError(f"no [[data]] has the split {missing[0]!r}: a run needs pool, seed and dev")
        return self

    @model_validator(mode="after")
    def _shares_are_of_whole_numbers(self) -> "Recipe":
        if self.train.sharding != "none" and self.guard.quantise != "none":
            raise ValueError(
                f'train.sharding "{self.train.sharding}" cannot divide weights that guard.quantise packs: set '
                'guard.quantise to "none", or train.sharding to "none"'
            )
        return self


def load(path_or_name: str | Path) -> Recipe:
    """A shipped recipe by its name, or one of your own by its path. Raises RecipeError."""
    path = find(path_or_name)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: is not TOML: {error}") from error
    except RecursionError:
        raise RecipeError(f"{path}: {_TOO_DEEP}") from None
    if isinstance(table.get("teacher"), list):
        table["teacher"] = {"names": table["teacher"]}
    try:
        # Through JSON, where strict types let a list be a tuple and nothing else pass for something else.
        recipe = Recipe.model_validate_json(json.dumps(table, default=str))
    except RecursionError:
        raise RecipeError(f"{path}: {_TOO_DEEP}") from None
    except ValidationError as error:
        # pydantic follows fewer levels than TOML may have.
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
    """A recipe that `canonical_json` wrote, perhaps in another version of wizloop. Raises RecipeError."""
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        said = f"the run's recipe was written by another version of wizloop: {_explained(error)}"
        raise RecipeError(f"{said}; install that version to go on with the run") from None


def canonical_json(recipe: Recipe) -> str:
    """The recipe with every default written out, keys sorted, no white space: equal recipes give equal text."""
    return json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def recipe_hash(recipe: Recipe) -> str:
    """sha256, in hex, of the canonical JSON."""
    return hashlib.sha256(canonical_json(recipe).encode("utf-8")).hexdigest()


def find(path_or_name: str | Path) -> Path:
    """The file of a recipe: its own path, or a shipped one's by name. Raises RecipeError."""
    path, names = Path(path_or_name), shipped()
    if path.is_file():
        return path
    if str(path_or_name) in names:
        return names[str(path_or_name)]
    near = difflib.get_close_matches(str(path_or_name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError(f"{path_or_name}: no such file, and no shipped recipe ({', '.join(names)}) has this name{hint}")


def _explained(error: ValidationError) -> str:
    """The first fault in one sentence: unknown keys first, since they often cause the others."""
    faults = error.errors(include_url=False)
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    key = _dotted(fault["loc"])
    if fault["type"] == "extra_forbidden":
        return _unknown_key(key, fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"the key {key} is missing; it has no default"
    if not key or isinstance(fault["input"], dict | Recipe):
        return f"{key}: {message}" if key else message
    return f"{key} = {json.dumps(fault['input'], default=str)}: {message}"


def _dotted(place: tuple[int | str, ...]) -> str:
    """The key as a person counts: the first of several is [1]."""
    return ".".join(f"[{part + 1}]" if isinstance(part, int) else part for part in place).replace(".[", "[")


def _unknown_key(key: str, place: tuple[int | str, ...]) -> str:
    known = dict(_keys(Recipe, ""))
    here = ".".join(str(part) for part in place[:-1] if isinstance(part, str))
    siblings = [each for each in known if each.rpartition(".")[0] == here]
    last = str(place[-1])
    near = difflib.get_close_matches(last, [each.rpartition(".")[2] for each in siblings], n=1)
    if near:
        return f"unknown key {key}; did you mean {'.'.join(filter(None, [here, near[0]]))}?"
    elsewhere = next((each for each in known if each.rpartition(".")[2] == last), None)
    if elsewhere:
        return f"unknown key {key}; did you mean {elsewhere}?"
    return f"unknown key {key}; known here: {', '.join(each.rpartition('.')[2] for each in siblings)}"


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every key of the schema with its dots, and its field."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _keys(inner, f"{prefix}{name}.")
