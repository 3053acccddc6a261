"""What a model was taught: samples with the labels of their approved traces."""

from collections.abc import Mapping
from dataclasses import dataclass

from wizloop.loop.context import Context
from wizloop.loop.words import Task
from wizloop.store import models, reviews, samples, training
from wizloop.store.samples import Sample


@dataclass(frozen=True)
class Labeled:
    """A sample that a model was taught, and the taught labels."""

    sample: Sample
    labels: Mapping[Task, str]


def lessons_of(ctx: Context, name: str) -> list[Labeled]:
    """Return what the model of this name was taught, by its approved traces, in sample order."""
    with ctx.store.read() as db:
        taught = models.by_name(db, name)
        used = [] if taught is None else training.used(db, taught.id)
        verdicts = {trace.sample_id: trace.verdict for trace in reviews.approved(db, ctx.round)}
        known = samples.get(db, [one for one in used if one in verdicts])
    labeled = ((one, {task: verdicts[one.id].get(task) for task in ctx.declared.tasks}) for one in known)
    return [Labeled(one, {task: label for task, label in by.items() if label is not None}) for one, by in labeled]
