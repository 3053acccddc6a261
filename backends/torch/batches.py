"""The batches of training_rows as torch tensors, for one process or for its part if several train together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wizloop.backends import training_rows
from wizloop.backends.guard_types import TrainSettings
from wizloop.backends.training_memory import MOST_TOKENS
from wizloop.backends.training_rows import PairRow, Row

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a step that belong to one of several training processes."""

    rank: int
    processes: int

    def of(self, count: int) -> tuple[list[int], float]:
        """Return (rows, factor of their weights). A process without a row takes one with factor 0."""
        mine = list(range(self.rank, count, self.processes))
        return (mine, 1.0) if mine else ([0], 0.0)


ALONE = Part(0, 1)


def sft_batches(
    rows: Sequence[Row],
    settings: TrainSettings,
    step: int,
    *,
    blank: int,
    part: Part = ALONE,
    most: int = MOST_TOKENS["torch", False],
) -> list[Batch]:
    """Return a part of a step for RSft, in passes of `most` tokens; prompt positions follow the completion's."""
    inputs, positions, targets, weights, *prompt = training_rows.sft_batch(rows, settings, step, blank=blank)
    prompt_positions, prompt_targets, counted = prompt
    batches = []
    for group, factor in _passes(part, [row.length for row in rows], most):
        learned = max(len(rows[i].weights) for i in group)
        at, wanted = positions[group, :learned], targets[group, :learned]
        batch: Batch = {"weights": weights[group, :learned] * np.float32(factor)}
        if settings.prompt_weight:
            at = np.concatenate([at, prompt_positions[group]], 1)
            wanted = np.concatenate([wanted, prompt_targets[group]], 1)
            batch |= {"counted": counted[group] * np.float32(factor)}
        length = max(len(rows[i].ids) for i in group)
        batch |= _behind(rows[0].shared, inputs[group, :length], at)
        batches.append(_tensors(batch | {"targets": wanted}))
    return batches


def dpo_batches(
    rows: Sequence[PairRow],
    reference: NDArray[np.float32],
    *,
    part: Part = ALONE,
    most: int = MOST_TOKENS["torch", False],
) -> list[Batch]:
    """Return a part of a step for HsDpo, in passes of `most` tokens; `reference` is [pairs, 2]."""
    inputs, positions, targets, mask, reference, weights, shares = training_rows.dpo_batch(rows, reference)
    sides = [(row.chosen, row.rejected) for row in rows]
    batches = []
    for group, factor in _passes(part, [2 * row.length for row in rows], most):
        both = [*group, *(i + len(rows) for i in group)]
        learned = max(len(side.weights) for i in group for side in sides[i])
        batch: Batch = {"targets": targets[both, :learned], "mask": mask[both, :learned]}
        batch |= {"reference": reference[group], "weights": weights[group]}
        batch |= {"shares": shares[group] * np.float32(factor)}
        length = max(len(side.ids) for i in group for side in sides[i])
        shared = rows[0].chosen.shared
        batches.append(_tensors(batch | _behind(shared, inputs[both, :length], positions[both, :learned])))
    return batches


def _passes(part: Part, lengths: Sequence[int], most: int) -> list[tuple[list[int], float]]:
    """Return a part's rows by passes, each with the factor of its weights.

    Every part has the same number of passes, the last ones with factor 0 if it needs fewer: processes with a sharded
    model gather it in each pass, and would wait forever for one that is done.
    """
    mine, factor = part.of(len(lengths))
    passes = [(group, factor) for group in training_rows.groups(mine, lengths, most)]
    others = [Part(rank, part.processes).of(len(lengths))[0] for rank in range(part.processes)]
    wanted = max(len(training_rows.groups(rows, lengths, most)) for rows in others)
    return passes + [(mine[:1], 0.0)] * (wanted - len(passes))


def _behind(shared: tuple[int, ...], inputs: NDArray[np.int32], positions: NDArray[np.int32]) -> dict[str, Any]:
    """Return the rows with their shared instruction in front."""
    prefix = np.tile(np.array(shared, np.int32), (len(inputs), 1))
    return {"input_ids": np.concatenate([prefix, inputs], axis=1), "positions": positions + len(shared)}


def _tensors(batch: dict[str, Any]) -> Batch:
    tensors = {name: torch.as_tensor(array) for name, array in batch.items()}
    # Indices are 64 bits wide in torch.
    return {name: tensor if tensor.is_floating_point() else tensor.long() for name, tensor in tensors.items()}
