"""What a recipe's training takes in memory and on the disk, estimated before the base is loaded."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wizloop.backends import devices, model_folder
from wizloop.backends.guard_types import BackendError, LoraShape
from wizloop.backends.training_memory import Library, needed, shape_of, whole_fault
from wizloop.recipes.schema import Recipe

_FLOAT = 4
# What is trained and AdamW's two moments.
_CHECKPOINT = 3


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """An estimate, in bytes; `bytes` is None where the base's config.json is not here or not understood."""

    method: str
    bytes: float | None
    model_bytes: float | None
    """On the disk, of each trained model."""
    checkpoint_bytes: float | None
    """On the disk, while a model is trained."""
    rests_on: str
    models_a_round: int
    """Trained models of one round: R-SFT's, HS-DPO's, and the members'."""


def training_memory(recipe: Recipe) -> TrainingMemory:
    """Estimate the training of a recipe on this machine. Fetches nothing."""
    train, guard, config = recipe.train, recipe.guard, base_config(recipe)
    count = 1 + recipe.dpo.enabled + recipe.members.count
    try:
        picked = devices.pick(guard.backend, guard.device)
    except BackendError:
        return TrainingMemory(train.method, None, None, None, "unknown: the backend is not available", count)
    if config is None or (shape := shape_of(config)) is None:
        why = "the base is not on this disk yet" if config is None else "the base's layers are of another kind"
        return TrainingMemory(train.method, None, None, None, f"unknown: {why}", count)
    library: Library = "mlx" if picked.backend == "mlx" else "torch"
    gpu = picked.device == "cuda" or (library == "mlx" and picked.device != "cpu" and devices.metal())
    lora = LoraShape(train.rank, train.scale, train.dropout, train.layers, train.method)
    row = guard.max_prompt_tokens + guard.max_trace_tokens
    how: dict[str, Any] = {"gpu": gpu, "four_bits": guard.quantise == "4bit", "row": row}
    most = max(
        needed(config, lora, library, **how, batch=batch) or 0.0 for batch in (train.batch, 2 * recipe.dpo.batch)
    )
    model = float(_FLOAT * shape.trained(lora))
    where = "CUDA" if picked.device == "cuda" else "Metal" if gpu else "torch" if library == "torch" else ""
    basis = f"estimated, not measured on {where}" if where else "estimated, within 30 % of what was measured here"
    return TrainingMemory(train.method, most, model, _CHECKPOINT * model, basis, count)


def whole_weights(recipe: Recipe, free: float) -> tuple[bool, str]:
    """Return whether all weights of a recipe's base can be trained (method full), and why or what it takes.

    `free` are the bytes free where the models are written.
    """
    config, told = base_config(recipe) or {}, training_memory(recipe)
    if (why := whole_fault(config)) is not None:
        return False, why
    if told.model_bytes is None or told.checkpoint_bytes is None:
        return True, f"all weights of the blocks; disk {told.rests_on}"
    models = told.models_a_round * told.model_bytes
    sizes = f"{models / 1e6:,.1f} MB of models a round, and {told.checkpoint_bytes / 1e6:,.1f} MB for a checkpoint"
    if models + told.checkpoint_bytes > free:
        return False, f'{sizes}, and {free / 1e6:,.1f} MB are free: free some space, or set train.method to "lora"'
    return True, f"all weights of the blocks: {sizes}"


def base_config(recipe: Recipe) -> dict[str, Any] | None:
    """Return the base's config.json: of a folder, of a hub name in the local cache, or of the guard that is built."""
    guard = recipe.guard
    if guard.base == "tiny":
        tiny = guard.tiny
        sizes = {"num_hidden_layers": tiny.layers, "hidden_size": tiny.width, "intermediate_size": tiny.mlp}
        return sizes | {"num_attention_heads": 4, "vocab_size": tiny.vocab, "tie_word_embeddings": True}
    from huggingface_hub import try_to_load_from_cache

    path: Any = Path(guard.base).expanduser() / "config.json"
    with suppress(OSError, ValueError, BackendError):
        if not path.is_file():
            path = try_to_load_from_cache(guard.base, "config.json")
        return model_folder.config_of(Path(path).parent) if isinstance(path, str | Path) else None
    return None
