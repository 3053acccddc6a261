"""The batches of training_rows as torch tensors, for one process or for its part where several train together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wizloop.backends import training_rows
from wizloop.backends.guard_types import TrainSettings
from wizloop.backends.training_rows import PairRow, Row

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Which rows of a step are a process's own, of several that train together."""

    rank: int
    processes: int

    def of(self, count: int) -> tuple[list[int], float]:
        """(rows, what their weights are multiplied by): a process without a row takes one that counts nothing."""
        mine = list(range(self.rank, count, self.processes))
        return (mine, 1.0) if mine else ([0], 0.0)


ALONE = Part(0, 1)


def sft_batch(rows: Sequence[Row], settings: TrainSettings, step: int, *, blank: int, part: Part = ALONE) -> Batch:
    """A part of a step's tensors for RSft; positions of the prompt are behind those of the completion."""
    inputs, positions, targets, weights, asked, wanted, counted = training_rows.sft_batch(
        rows, settings, step, blank=blank
    )
    mine, there = part.of(len(rows))
    batch: Batch = {"weights": weights[mine] * there, "whole": weights.sum()}
    if settings.prompt_weight:
        positions, targets = np.concatenate([positions, asked], 1), np.concatenate([targets, wanted], 1)
        batch |= {"counted": counted[mine] * there, "whole_counted": max(counted.sum(), 1.0)}
    return _tensors(batch | _behind(rows[0].shared, inputs[mine], positions[mine]) | {"targets": targets[mine]})


def dpo_batch(rows: Sequence[PairRow], reference: NDArray[np.float32], part: Part = ALONE) -> Batch:
    """A part of a step's tensors for HsDpo; `reference` is [pairs, 2]."""
    inputs, positions, targets, mask, reference, weights = training_rows.dpo_batch(rows, reference)
    mine, there = part.of(len(rows))
    both = [*mine, *(i + len(rows) for i in mine)]
    batch: Batch = {
        "targets": targets[both],
        "mask": mask[both],
        "reference": reference[mine],
        "weights": weights[mine],
    }
    batch |= {"counted": np.full(len(mine), there, np.float32), "whole": float(len(rows))}
    return _tensors(batch | _behind(rows[0].chosen.shared, inputs[both], positions[both]))


def _behind(shared: tuple[int, ...], inputs: NDArray[np.int32], positions: NDArray[np.int32]) -> dict[str, Any]:
    """The rows with their shared instruction in front."""
    prefix = np.tile(np.array(shared, np.int32), (len(inputs), 1))
    return {"input_ids": np.concatenate([prefix, inputs], axis=1), "positions": positions + len(shared)}


def _tensors(batch: dict[str, Any]) -> Batch:
    made = {name: torch.as_tensor(each) for name, each in batch.items()}
    # Indices are 64 bits wide in torch.
    return {name: each if each.is_floating_point() else each.long() for name, each in made.items()}
