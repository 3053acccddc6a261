"""The rendering that phase prepare keeps in round 0's record: instruction, policies, chat frame, and their hash.

Everything that a run asks its guard, in training too, is rendered from this record, whatever day it is and whatever the
base's template says by then.
"""

from collections.abc import Mapping
from typing import Any, Final

from wizloop.backends.guard_types import BackendError
from wizloop.loop.guard import instructions, shown_policies
from wizloop.loop.guard.judge import renderer_of
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.policies import PolicyError, PolicySet, former_instruction
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Guard as Settings
from wizloop.store import errors

_NAMES: Final = "category_names"


class OtherRendering(BackendError):
    """A run's prompts are rendered otherwise here than when the run was prepared."""


def record_of(renderer: Renderer) -> dict[str, Any]:
    """Return what to keep in the record of round 0."""
    kept: dict[str, Any] = {"instruction": renderer.instruction, "frame": list(renderer.frame)}
    kept["rendering"] = renderer.hash
    kept |= {_NAMES: list(renderer.categories)} if renderer.categories else {}
    policies = renderer.policies
    return kept if policies is None else kept | {shown_policies.KEY: policies.model_dump(mode="json")}


def asking(recipe: Recipe, record: Mapping[str, Any]) -> Recipe:
    """Return a run's recipe with the categories that round 0's record keeps, where the recipe names their file."""
    if not isinstance(recipe.guard.categories, str) or _NAMES not in record:
        return recipe
    named = recipe.guard.model_copy(update={"categories": tuple(record[_NAMES])})
    return recipe.model_copy(update={"guard": named})


def edited(settings: Settings, record: Mapping[str, Any]) -> str | None:
    """Say whether the policy file holds other policies than those that a run keeps; None if not."""
    if shown_policies.KEY not in record or settings.own_policies is None:
        return None
    try:
        now = shown_policies.read(settings)
    except PolicyError as error:
        return f"{error}. The run keeps the policies that it was prepared with."
    if now == shown_policies.kept_in(record):
        return None
    return (
        f"{settings.own_policies} was edited since the run was prepared: guard and teachers keep the policies of that "
        "time. Start a new run in another --workspace to use the new ones."
    )


def is_former(record: Mapping[str, Any]) -> bool:
    """Return whether a version prepared the run that stored the hash of its rendering and no chat frame."""
    return "rendering" in record and "frame" not in record


def renderer_from(
    settings: Settings, base: str, record: Mapping[str, Any], declared: Declaration = DEFAULT
) -> Renderer:
    """Return the kept renderer, or before phase prepare has kept one the renderer as it would.

    Raises OtherRendering if the hash of what was kept is another now, and errors.NotFound for an instruction that is
    not read yet, or a policy file that is not read yet and cannot be.
    """
    former = is_former(record)
    # The shipped text was another one then, and only other instructions were stored.
    shipped = former_instruction() if former and settings.instruction == "full" else None
    instruction = record.get("instruction", shipped or instructions.shipped(settings.instruction))
    if instruction is None:
        raise errors.NotFound(f"{settings.instruction}: not read yet: phase prepare reads it")
    frame = _former_frame(settings, base) if former else record.get("frame")
    policies = _policies(settings, record)
    known_frame = None if frame is None else (frame[0], frame[1])
    # A file of names may be another one by now.
    names = {"categories": tuple(record.get(_NAMES, ()))} if "rendering" in record else {}
    settings = settings.model_copy(update=names)
    renderer = renderer_of(settings, base, str(instruction), known_frame, policies=policies, declared=declared)
    if not former and renderer.hash != record.get("rendering", renderer.hash):
        raise OtherRendering(
            "this version of wizloop renders the run's prompts otherwise than when it was prepared (sha256 "
            f"{record['rendering'][:12]} then, {renderer.hash[:12]} now): use the version that prepared it, or start "
            "again in another --workspace"
        )
    return renderer


def _policies(settings: Settings, record: Mapping[str, Any]) -> PolicySet | None:
    try:
        return shown_policies.kept_in(record) or shown_policies.read(settings)
    except PolicyError as error:
        raise errors.NotFound(str(error)) from None


def _former_frame(settings: Settings, base: str) -> tuple[str, str] | None:
    """Render the template as the versions did that kept no frame: a guard that they taught is asked as it was."""
    if settings.template == "raw":
        return None
    # Late import: a tokenizer is loaded only for a template that was not kept.
    from wizloop.backends import bounded_chat

    return bounded_chat.render_plainly(base)[:2]
