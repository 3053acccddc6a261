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
# Tokens of one forward pass: a step of more is done in several, whose gradients add up.
MOST_TOKENS, MOST_ON_A_CARD = 2048, 16384


def most_tokens(device: str, scale: float = 1.0) -> int:
    """Tokens of one forward pass on a device, where memory allows for `scale` of what it should."""
    return max(1, int((MOST_TOKENS if device == "cpu" else MOST_ON_A_CARD) * scale))


def sft_batches(
    rows: Sequence[Row], settings: TrainSettings, step: int, *, blank: int, part: Part = ALONE, most: int = MOST_TOKENS
) -> list[Batch]:
    """A part of a step for RSft, in passes of `most` tokens; positions of the prompt are behind the completion's."""
    inputs, positions, targets, weights, asked, wanted, counted = training_rows.sft_batch(
        rows, settings, step, blank=blank
    )
    lengths = [len(row.shared) + len(row.ids) for row in rows]
    batches = []
    for group, there in _passes(part, lengths, most):
        learned = max(len(rows[i].weights) for i in group)
        cut = [each[group, :learned] for each in (positions, targets, weights)]
        batch: Batch = {"weights": cut[2] * there, "whole": weights.sum()}
        if settings.prompt_weight:
            cut = [np.concatenate([cut[0], asked[group]], 1), np.concatenate([cut[1], wanted[group]], 1)]
            batch |= {"counted": counted[group] * there, "whole_counted": max(counted.sum(), 1.0)}
        length = max(len(rows[i].ids) for i in group)
        batch |= _behind(rows[0].shared, inputs[group, :length], cut[0])
        batches.append(_tensors(batch | {"targets": cut[1]}))
    return batches


def dpo_batches(
    rows: Sequence[PairRow], reference: NDArray[np.float32], *, part: Part = ALONE, most: int = MOST_TOKENS
) -> list[Batch]:
    """A part of a step for HsDpo, in passes of `most` tokens; `reference` is [pairs, 2]."""
    inputs, positions, targets, mask, reference, weights = training_rows.dpo_batch(rows, reference)
    sides = [(row.chosen, row.rejected) for row in rows]
    lengths = [2 * max(len(side.shared) + len(side.ids) for side in both) for both in sides]
    batches = []
    for group, there in _passes(part, lengths, most):
        both = [*group, *(i + len(rows) for i in group)]
        learned = max(len(side.weights) for i in group for side in sides[i])
        batch: Batch = {"targets": targets[both, :learned], "mask": mask[both, :learned]}
        batch |= {"reference": reference[group], "weights": weights[group]}
        batch |= {"counted": np.full(len(group), there, np.float32), "whole": float(len(rows))}
        length = max(len(side.ids) for i in group for side in sides[i])
        shared = rows[0].chosen.shared
        batches.append(_tensors(batch | _behind(shared, inputs[both, :length], positions[both, :learned])))
    return batches


def _passes(part: Part, lengths: Sequence[int], most: int) -> list[tuple[list[int], float]]:
    """A part's rows by passes, each with what its weights are multiplied by.

    Every part has as many passes, the last ones counting nothing where it needs fewer: processes that hold a model in
    shares put it together in each pass, and would wait for one that is done for ever.
    """
    mine, there = part.of(len(lengths))
    passes = [(group, there) for group in _groups(mine, lengths, most)]
    others = [Part(rank, part.processes).of(len(lengths))[0] for rank in range(part.processes)]
    wanted = max(len(_groups(rows, lengths, most)) for rows in others)
    return passes + [(mine[:1], 0.0)] * (wanted - len(passes))


def _groups(rows: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """The rows in groups that, padded to the longest of each, have at most `most` tokens, or in groups of one."""
    groups: list[list[int]] = []
    for row in rows:
        last = groups[-1] if groups else []
        if last and max(lengths[i] for i in (*last, row)) * (len(last) + 1) <= most:
            last.append(row)
        else:
            groups.append([row])
    return groups


def _behind(shared: tuple[int, ...], inputs: NDArray[np.int32], positions: NDArray[np.int32]) -> dict[str, Any]:
    """The rows with their shared instruction in front."""
    prefix = np.tile(np.array(shared, np.int32), (len(inputs), 1))
    return {"input_ids": np.concatenate([prefix, inputs], axis=1), "positions": positions + len(shared)}


def _tensors(batch: dict[str, Any]) -> Batch:
    made = {name: torch.as_tensor(each) for name, each in batch.items()}
    # Indices are 64 bits wide in torch.
    return {name: each if each.is_floating_point() else each.long() for name, each in made.items()}
