"""The checks of what stands around every sample: instruction, policies, the base's chat template, an end token."""

from pathlib import Path

from wizloop.backends import model_folder
from wizloop.backends.guard_types import BackendError
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard import categories, instructions, shown_policies
from wizloop.loop.preflight import Check
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe


def checks(recipe: Recipe) -> list[Check]:
    """Check what is before every sample, instruction and policies, and the template of a base that is on this disk."""
    return [_instruction(recipe), *_policies(recipe), *_categories(recipe), *_template(recipe)]


def _categories(recipe: Recipe) -> list[Check]:
    """Check the names of categories; nothing for a guard without."""
    if not recipe.guard.categories:
        return []
    try:
        names = categories.settled(recipe).categories
    except PolicyError as error:
        return [Check("categories", False, str(error))]
    return [Check("categories", True, f"{len(names)}: {', '.join(names)}")]


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


def _policies(recipe: Recipe) -> list[Check]:
    """Check the policies of [guard]; nothing without any."""
    try:
        policies = shown_policies.read(recipe.guard)
    except PolicyError as error:
        return [Check("policies", False, str(error))]
    if policies is None:
        return []
    longest = len(shown_policies.longest(policies))
    asked = "one a question" if policies.ask == "each" else "in every question"
    found = f"{recipe.guard.policies}: {len(policies.policies)} policies, {asked}, {longest:,} characters at most"
    left_out = f"; never trained on: {', '.join(policies.left_out)}" if policies.left_out else ""
    return [Check("policies", True, found + left_out)]


def _template(recipe: Recipe) -> list[Check]:
    base, setting = recipe.guard.base, recipe.guard.template
    if base == "tiny":
        fault = 'the tiny guard has no chat template: set guard.template to "raw"'
        return [Check("template", False, fault)] if setting == "chat" else []
    found = _on_disk(base)
    if found is None:
        return [Check("template", True, f"{setting}: the base is not on this disk, its tokenizer is read at the start")]
    # Late import of transformers: only a real base needs it.
    from wizloop.backends import bounded_chat, chat
    from wizloop.backends.tokens import Tokens

    try:
        Tokens(chat.tokenizer_of(str(found)), _ends(found))
        notes = bounded_chat.render(str(found)).notes if setting == "chat" else ("a sample stands in no turn",)
    except BackendError as error:
        return [Check("template", False, str(error))]
    return [Check("template", True, f"{setting}: {'; '.join(notes) or 'the turn as it is'}")]


def _ends(base: Path) -> list[int]:
    """Return the end tokens that a folder's configuration names."""
    named = model_folder.config_of(base).get("eos_token_id") if base.is_dir() else None
    return named if isinstance(named, list) else [] if named is None else [named]


def _on_disk(base: str) -> Path | None:
    """Return the base's folder or file on this disk, in the hub's cache too; None if there is none yet."""
    path = Path(base).expanduser()
    if path.is_file() or (path / "config.json").is_file():
        return path
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "tokenizer_config.json")
    return Path(found).parent if isinstance(found, str) else None
