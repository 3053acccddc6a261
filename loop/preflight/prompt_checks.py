"""The checks of what stands around every sample: the instruction, the base's chat template, and an end token."""

from pathlib import Path

from wizloop.backends.guard_types import BackendError
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard import instructions
from wizloop.loop.preflight import Check
from wizloop.recipes.schema import Recipe


def checks(recipe: Recipe) -> list[Check]:
    """Check the instruction before every sample, and the template of a base that is on this disk."""
    return [_instruction(recipe), *_template(recipe)]


def _instruction(recipe: Recipe) -> Check:
    """Check the instruction, unless it is a hub dataset's."""
    setting = recipe.guard.instruction
    try:
        text = instructions.read(recipe, far=False)
    except ImportRefused as error:
        return Check("prompt", False, str(error))
    if text is None:
        return Check("prompt", True, f"{setting}: from a hub dataset, read at the first start")
    if not text:
        return Check("prompt", True, f"{setting}: no instruction before the samples")
    return Check("prompt", True, f"{setting}: {len(text):,} characters before every sample")


def _template(recipe: Recipe) -> list[Check]:
    base, setting = recipe.guard.base, recipe.guard.template
    if base == "tiny":
        fault = 'the tiny guard has no chat template: set guard.template to "raw"'
        return [Check("template", False, fault)] if setting == "chat" else []
    folder = _on_disk(base)
    if folder is None:
        return [Check("template", True, f"{setting}: the base is not on this disk, its tokenizer is read at the start")]
    # Late import of transformers: only a real base needs it.
    from wizloop.backends import chat, model_folder
    from wizloop.backends.tokens import Tokens

    try:
        named = model_folder.config_of(folder).get("eos_token_id")
        Tokens(chat.tokenizer_of(str(folder)), named if isinstance(named, list) else [named])
        notes = chat.render(str(folder)).notes if setting == "chat" else ("a sample stands in no turn",)
    except BackendError as error:
        return [Check("template", False, str(error))]
    return [Check("template", True, f"{setting}: {'; '.join(notes) or 'the turn as it is'}")]


def _on_disk(base: str) -> Path | None:
    """Return the base's folder on this disk, in the hub's cache too; None if there is none yet."""
    folder = Path(base).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "tokenizer_config.json")
    return Path(found).parent if isinstance(found, str) else None
