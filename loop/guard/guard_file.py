"""guard.json in an exported folder: how the guard was asked, so that it can be asked the same without its workspace.

The folder is hostile: what it says is checked like a recipe, and names no server, path or code to run.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wizloop.loop.guard import instructing
from wizloop.loop.guard.backend import chosen
from wizloop.loop.guard.judge import Judge, Limits, load_guard, local, renderer_of, uncalibrated
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe

NAME = "guard.json"
VERSION = 1


def write(folder: Path, recipe: Recipe, instruction: str, window: int) -> None:
    """Write how a recipe's guard is asked; `window` is DeepConf's, in tokens."""
    guard = recipe.guard.model_dump(mode="json", exclude={"base", "backend", "device", "engine", "server", "quantise"})
    said = {
        "version": VERSION,
        "guard": guard | {"instruction": "none"},
        "classify": recipe.classify.model_dump(mode="json"),
        "seed": recipe.seed,
        "instruction": instruction,
        "window": window,
    }
    (folder / NAME).write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path, named: Recipe | str | Path | None) -> tuple[Judge, Recipe]:
    """Load the model in a folder as a judge without a calibration, asked as its guard.json or a recipe says.

    Raises BackendError, RecipeError, ImportRefused for an instruction that cannot be read, ValueError for a folder
    that does not say how to ask it.
    """
    window = None
    if named is None:
        recipe, instruction, window = read(folder)
    else:
        recipe = named if isinstance(named, Recipe) else schema.load(named)
        instruction = instructing.read(recipe) or ""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: holds no whole model (no config.json): export safetensors, or open the workspace")
    settings = local(recipe.guard, folder)
    guard = load_guard(settings, lambda: chosen(settings.backend, settings.device), str(folder), None)
    renderer = renderer_of(settings, str(folder), instruction)
    return Judge(guard, renderer, uncalibrated(recipe), Limits.of(recipe, window)), recipe


def read(folder: Path) -> tuple[Recipe, str, int]:
    """Return the recipe, instruction and window that a folder's guard.json holds. Raises ValueError."""
    path = folder / NAME
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if said.pop("version") != VERSION:
            raise ValueError("another version of wizloop wrote it")
        instruction, window = str(said.pop("instruction")), int(said.pop("window"))
        sections = {"guard": said.pop("guard"), "classify": said.pop("classify"), "seed": said.pop("seed")}
        if said:
            raise ValueError(f"unknown key {min(said)}")
        recipe = Recipe.model_validate_json(json.dumps({"name": "export", "source": "demo", **sections}))
    except FileNotFoundError:
        raise ValueError(f"{path}: not there; name a recipe that says how to ask this model") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise ValueError(f"{path}: cannot be used ({error.__class__.__name__}: {error}); name a recipe") from None
    return recipe, instruction, window
