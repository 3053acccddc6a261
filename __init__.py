"""wizloop: teach a small local safety guard overnight.

The public API. Names load when they are first used, so that `import wizloop` loads no model library:

- `Workspace(folder)`: read a workspace: `status()`, `rounds()`, `recipe()`, `guard(round)`.
- `load_guard(folder)`: load an exported guard; `Guard.judge(texts)` yields a `Verdict` for each text.
- `load_published_guard(name, folder)`: load another team's guard, such as `"qwen3guard"`, asked in its own way.
- `guardbench_moderate(guard)`: any of these guards as the function that GuardBench's `benchmark` asks.
- `load_recipe(path_or_name)`: load and check a recipe. `RecipeError` says what is wrong with one.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wizloop.loop.api import (
        Guard,
        Verdict,
        Workspace,
        guardbench_moderate,
        load_guard,
        load_published_guard,
        load_recipe,
    )
    from wizloop.recipes.schema import RecipeError

__all__ = [
    "Guard",
    "RecipeError",
    "Verdict",
    "Workspace",
    "__version__",
    "guardbench_moderate",
    "load_guard",
    "load_published_guard",
    "load_recipe",
]

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("wizloop")
    if name == "RecipeError":
        from wizloop.recipes import schema

        return schema.RecipeError
    if name in __all__:
        from wizloop.loop import api

        return getattr(api, name)
    raise AttributeError(f"module 'wizloop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
