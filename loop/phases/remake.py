"""Make the run's damaged models again from what is recorded of them: examples, traces, pairs, seeds, and parents.

A model is damaged if its folder is missing or is not the one whose hash its row holds. What is made again on the same
library and device is mostly the same to the byte; where it is not, its stored figures were measured on the lost one.
"""

from collections.abc import Callable

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact
from wizloop.loop.context import Context
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import linear_fit, model_roles, prepare, train
from wizloop.store import exports, models, steps

ContextOf = Callable[[int, str], Context]
"""Builds the context of a phase of a round."""


def run(context_of: ContextOf) -> list[str]:
    """Make every damaged model again, oldest first, and return a sentence on each. Raises NotFinite, BackendError."""
    ctx = context_of(0, "prepare")
    said = _base(ctx)
    with ctx.store.read() as db:
        rounds = [each.number for each in steps.rounds(db)]
    for number in rounds:
        said += _round(context_of(number, "train"))
    return said + _lost_exports(ctx, rounds)


def _base(ctx: Context) -> list[str]:
    """Build the tiny guard again if it is damaged; another base is not the run's to make."""
    with ctx.store.read() as db:
        base = models.by_name(db, model_roles.BASE)
    if base is None or ctx.recipe.guard.base != "tiny" or not _is_damaged(ctx, base):
        return []
    artifacts.remove(ctx.folder(base))
    prepare.build(ctx)
    return [_told(ctx, base)]


def _round(ctx: Context) -> list[str]:
    with ctx.store.read() as db:
        ours = [each for each in models.in_round(db, ctx.round) if each.path.startswith("models/")]
    # Several rows share a folder where a round has no HS-DPO, and for members that only ask otherwise.
    lost: dict[str, models.Model] = {}
    for each in ours:
        if each.role != "base" and each.path not in lost and _is_damaged(ctx, each):
            lost[each.path] = each
    if not lost:
        return _linear_head(ctx)
    for each in lost.values():
        artifacts.remove(ctx.folder(each))
    train.again(ctx)
    return [_told(ctx, each) for each in lost.values()] + _linear_head(ctx)


def _linear_head(ctx: Context) -> list[str]:
    """Fit the round's linear head again if it is damaged, or missing where verdicts are read from it."""
    with ctx.store.read() as db:
        made = model_roles.challenger(db, ctx.round)
    needed = made is not None and Calibration.from_json(made.calibration_json, ctx.declared).reads_linear
    if made is None or not (needed or ctx.linear_folder(made).exists()):
        return []
    if artifacts.is_whole(ctx.linear_folder(made)) or linear_fit.fitted(ctx, made) is None:
        return []
    return [f"the linear head of {made.name} was damaged and is fitted again, on what is approved of its lessons"]


def _told(ctx: Context, lost: models.Model) -> str:
    """Keep the new folder's hash, and say whether it is the old one; that the model is lost if there is no folder."""
    if not ctx.folder(lost).is_dir():
        said = f"{lost.name} is lost: nothing is recorded that it could be made of"
    else:
        sha256 = artifacts.verify(ctx.folder(lost))
        with ctx.store.write() as db:
            models.set_sha256(db, lost.path, sha256)
        same = "the same to the byte"
        other = "with other weights than the lost ones, on which its figures were measured: `wizloop evaluate` tells"
        said = f"{lost.name} was damaged and is made again, {same if sha256 == lost.sha256 else other}"
    ctx.say(said, "warn")
    return said


def _lost_exports(ctx: Context, rounds: list[int]) -> list[str]:
    """Name each damaged export: another one is written by its own command. A folder that was moved away is none."""
    with ctx.store.read() as db:
        made = [each for number in rounds for each in exports.of_round(db, number) if each.sha256]
    return [
        f"{each.path} is damaged: `wizloop export {each.round} --format {each.format} --to DIR` writes another one"
        for each in made
        if (folder := ctx.workspace / each.path).is_dir() and not artifacts.is_whole(folder)
    ]


def _is_damaged(ctx: Context, model: models.Model) -> bool:
    try:
        return artifacts.verify(ctx.folder(model)) != model.sha256
    except BadArtifact:
        return True
