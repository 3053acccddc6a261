"""The base's vectors of samples: its hidden states, which a committee, a linear head and diversity read.

They are the base's and not each round's, so a sample is read once in a run. They lie in WORKSPACE/vectors, and whatever
is missing or damaged there is read again.
"""

import errno
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.context import Context
from wizloop.loop.phases import model_roles
from wizloop.recipes.schema import Recipe
from wizloop.store.rows import pieces
from wizloop.store.samples import Sample
from wizloop.store.vector_file import SUFFIX, VectorFile

FOLDER = "vectors"
DEPTH = 2 / 3
"""Share of the base's blocks that are run."""
_LARGEST = float(np.finfo(np.float16).max)
_VERSION = 1


def wanted(recipe: Recipe) -> bool:
    """Return whether a run of this recipe reads all vectors: a committee stands in for members, or the head answers."""
    committee = not recipe.members.count and not recipe.members.others
    return recipe.guard.engine == "here" and (committee or recipe.guard.answer in ("linear", "auto"))


def of(ctx: Context, samples: Sequence[Sample]) -> NDArray[np.float16] | None:
    """Return the vectors of these samples, [samples, 2 * width] in order, after reading what is missing.

    Call `read` with all of a large pool, and this with a piece of it at a time. None for a guard without hidden states.
    Raises Interrupted between two batches.
    """
    for _ in range(2):
        file = VectorFile.find(_path(ctx)) if ctx.recipe.guard.engine == "here" else None
        if file is not None and file.width:
            vectors, there = file.read(*_keys(samples))
            if there.all():
                return vectors
        if not read(ctx, samples):
            return None
    raise OSError(errno.EIO, "what was just written to it reads otherwise", str(_path(ctx)))


def read(ctx: Context, samples: Sequence[Sample]) -> bool:
    """Read the vectors of the samples that have none yet, in batches; return whether the guard has hidden states.

    Raises Interrupted between two batches.
    """
    if ctx.recipe.guard.engine != "here":
        return False
    file = VectorFile.find(_path(ctx))
    missing = samples if file is None else _missing(file, samples)
    if missing:
        file = _read(ctx, file, missing)
    return file is None or file.width > 0


def _missing(file: VectorFile, samples: Sequence[Sample]) -> list[Sample]:
    found = []
    for piece in pieces(samples) if file.width else ():
        _, there = file.read(*_keys(piece))
        found += [sample for sample, known in zip(piece, there, strict=True) if not known]
    return found


def _read(ctx: Context, file: VectorFile | None, missing: Sequence[Sample]) -> VectorFile:
    """Read the samples with the base, a batch a write, and return the file; its width is 0 if there are no states."""
    total, done, doing = len(missing), 0, f"reading the hidden states of {len(missing):,} texts"
    ctx.progress(0, total, doing)
    with ctx.store.read() as db:
        base = model_roles.base(db)
    guard, limit = ctx.guard(base), ctx.recipe.guard.max_prompt_tokens
    for batch in ctx.batches(missing, ctx.recipe.classify.batch):
        ctx.progress(done, total, doing)
        began = ctx.now()
        asked = [guard.encode(ctx.renderer.direct_prompt(sample), max_tokens=limit) for sample in batch]
        states = guard.states(asked, depth=DEPTH)
        if states is None:
            ctx.say(f"{ctx.recipe.guard.base} has no hidden states of one kind: what would use them does without.")
            return VectorFile.create(_path(ctx), 0)
        file = file or VectorFile.create(_path(ctx), states.shape[1])
        file.write(*_keys(batch), _halved(states), (ctx.now() - began).total_seconds())
        done += len(batch)
    assert file is not None
    return file


def _halved(states: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return float16; some bases have states beyond its largest number."""
    return np.clip(np.nan_to_num(states, posinf=_LARGEST, neginf=-_LARGEST), -_LARGEST, _LARGEST).astype(np.float16)


def _keys(samples: Sequence[Sample]) -> tuple[list[int], list[str]]:
    return [sample.id for sample in samples], [sample.hash for sample in samples]


def _path(ctx: Context) -> Path:
    """Return the file, named by all that its vectors follow from."""
    with ctx.store.read() as db:
        base = model_roles.base(db)
    guard = ctx.recipe.guard
    names = [_VERSION, base.sha256 or ctx.base(), guard.quantise, ctx.renderer.hash, DEPTH, guard.max_prompt_tokens]
    return ctx.workspace / FOLDER / f"{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:32]}{SUFFIX}"
