"""guard.json of an exported folder: the settings to run the guard without its workspace.

The folder is untrusted: the file is validated like a recipe and cannot name a server, a path or code to run.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wizloop.loop.guard import instructions
from wizloop.loop.guard.backend import choose_backend
from wizloop.loop.guard.judge import Judge, Limits, load_guard, local, renderer_of, uncalibrated
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe

NAME = "guard.json"
VERSION = 1


def write(folder: Path, recipe: Recipe, instruction: str, window: int, base: dict[str, str]) -> None:
    """Write the settings of a recipe's guard; `window` is DeepConf's, in tokens.

    `base` says which model it was trained from: name, and revision or sha256. It is for readers and loads nothing.
    """
    guard = recipe.guard.model_dump(mode="json", exclude={"base", "backend", "device", "engine", "server", "quantise"})
    content = {
        "version": VERSION,
        "base": base,
        "guard": guard | {"instruction": "none"},
        "classify": recipe.classify.model_dump(mode="json"),
        "seed": recipe.seed,
        "instruction": instruction,
        "window": window,
    }
    (folder / NAME).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path, named: Recipe | str | Path | None) -> tuple[Judge, Recipe]:
    """Load the model in a folder as an uncalibrated judge, with the settings of its guard.json or of a recipe.

    Raises BackendError, RecipeError, ImportRefused for an instruction that cannot be read, ValueError for a folder
    without a model or usable settings.
    """
    window = None
    if named is None:
        recipe, instruction, window = read(folder)
    else:
        recipe = named if isinstance(named, Recipe) else schema.load(named)
        instruction = instructions.read(recipe) or ""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: not a complete model (no config.json): export safetensors, or open the workspace")
    settings = local(recipe.guard, folder)
    guard = load_guard(settings, lambda: choose_backend(settings.backend, settings.device), str(folder), None)
    renderer = renderer_of(settings, str(folder), instruction)
    return Judge(guard, renderer, uncalibrated(recipe), Limits.of(recipe, window)), recipe


def read(folder: Path) -> tuple[Recipe, str, int]:
    """Return recipe, instruction and window from a folder's guard.json. Raises ValueError."""
    path = folder / NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise ValueError("written by another version of wizloop")
        instruction, window = str(content.pop("instruction")), int(content.pop("window"))
        content.pop("base", None)
        sections = {key: content.pop(key) for key in ("guard", "classify", "seed")}
        if content:
            raise ValueError(f"unknown key {min(content)}")
        recipe = Recipe.model_validate_json(json.dumps({"name": "export", "source": "demo", **sections}))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a recipe with the settings for this model") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise ValueError(f"{path}: invalid ({error.__class__.__name__}: {error}); give a recipe") from None
    return recipe, instruction, window
