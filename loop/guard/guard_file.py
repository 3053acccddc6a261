"""guard.json of an exported folder: the settings to run the guard without its workspace.

The folder is untrusted: the file is validated like a recipe and cannot name a server, a path or code to run.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from wizloop.loop.guard import instructions
from wizloop.loop.guard.backend import choose_backend
from wizloop.loop.guard.judge import Judge, Limits, load_guard, local, renderer_of, uncalibrated
from wizloop.loop.guard.readers import READERS, STRICT, TOLERANT, Reader
from wizloop.loop.guard.rendering import Renderer
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Guard

NAME = "guard.json"
VERSION = 1


class Settings(NamedTuple):
    """What guard.json holds."""

    recipe: Recipe
    instruction: str
    window: int
    """DeepConf's, in tokens."""
    frame: tuple[str, str] | None
    """The chat frame that the guard was trained in; None in a file of a version that kept none."""
    reader: Reader
    """How its traces are read; strictly in a file of a version that exported trained guards only."""


def write(folder: Path, recipe: Recipe, renderer: Renderer, window: int, reader: Reader = STRICT) -> None:
    """Write the settings of a recipe's guard, its instruction and chat frame; `window` is DeepConf's, in tokens."""
    guard = recipe.guard.model_dump(mode="json", exclude={"base", "backend", "device", "engine", "server", "quantise"})
    content = {
        "version": VERSION,
        "guard": guard | {"instruction": "none"},
        "classify": recipe.classify.model_dump(mode="json"),
        "seed": recipe.seed,
        "instruction": renderer.instruction,
        "frame": renderer.frame,
        "window": window,
        "reader": reader.name,
    }
    (folder / NAME).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path, named: Recipe | str | Path | None) -> tuple[Judge, Recipe]:
    """Load the model in a folder as an uncalibrated judge, with the settings of its guard.json or of a recipe.

    Raises BackendError, RecipeError, ImportRefused for an instruction that cannot be read, ValueError for a folder
    without a model or usable settings.
    """
    window = None
    if named is None:
        recipe, instruction, window, *_ = read(folder)
    else:
        recipe = named if isinstance(named, Recipe) else schema.load(named)
        instruction = instructions.read(recipe) or ""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: not a complete model (no config.json): export safetensors, or open the workspace")
    settings = local(recipe.guard, folder)
    guard = load_guard(settings, lambda: choose_backend(settings.backend, settings.device), str(folder), None)
    renderer = renderer_of(settings, str(folder), instruction, frame_of(folder, settings))
    return Judge(guard, renderer, uncalibrated(recipe), Limits.of(recipe, window), reader_of(folder)), recipe


def reader_of(folder: Path) -> Reader:
    """Return how the traces of the model in a folder are read: tolerantly unless it is an export that was trained."""
    try:
        return read(folder).reader
    except ValueError:
        return TOLERANT


def frame_of(folder: Path, settings: Guard) -> tuple[str, str] | None:
    """Return the chat frame that an exported guard was trained in; None for a folder that is no export of ours.

    The template of the folder itself may print another date. Raises ValueError for an unusable guard.json, and
    BackendError.
    """
    if settings.template == "raw" or not (folder / NAME).is_file():
        return None
    frame = read(folder).frame
    if frame is not None:
        return frame
    # Late import: a tokenizer is loaded only for a template that was not kept.
    from wizloop.backends import chat

    return chat.render_plainly(str(folder))[:2]


def read(folder: Path) -> Settings:
    """Return what a folder's guard.json holds. Raises ValueError."""
    path = folder / NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise ValueError("written by another version of wizloop")
        instruction, window = str(content.pop("instruction")), int(content.pop("window"))
        frame = content.pop("frame", None)
        reader = READERS[content.pop("reader", STRICT.name)]
        sections = {key: content.pop(key) for key in ("guard", "classify", "seed")}
        if content:
            raise ValueError(f"unknown key {min(content)}")
        recipe = Recipe.model_validate_json(json.dumps({"name": "export", "source": "demo", **sections}))
        return Settings(recipe, instruction, window, None if frame is None else _frame(frame), reader)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a recipe with the settings for this model") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise ValueError(f"{path}: invalid ({error.__class__.__name__}: {error}); give a recipe") from None


def _frame(given: Any) -> tuple[str, str]:
    before, after = given
    if not isinstance(before, str) or not isinstance(after, str):
        raise TypeError("frame is not two texts")
    return before, after
