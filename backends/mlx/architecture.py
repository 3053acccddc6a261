"""Whether this backend can run a model that mlx-lm reads, by its config: the model is built without its weights."""

from pathlib import Path
from typing import Any

from mlx_lm.utils import load_config

from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx import config as mlx_config
from wizloop.backends.mlx.kinds import kind_of
from wizloop.backends.mlx.layouts import classes


def fault(folder: Path, tokens: int) -> str | None:
    """Return why the model in `folder` cannot read texts of so many tokens here, or None."""
    if why := mlx_config.fault_of(folder, tokens):
        return why
    config = mlx_config.complete(load_config(folder))
    model: Any
    arguments: Any
    model, arguments = classes(config)
    try:
        # MLX computes no array before it is asked for: this takes no memory.
        kind_of(model(arguments.from_dict(config)), config)
    except BackendError as error:
        return str(error)
    except mlx_config.UNREADABLE as error:
        return f"mlx-lm cannot build a model of type {config.get('model_type')} ({type(error).__name__}: {error})"
    return None
