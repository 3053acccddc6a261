"""Examples and pairs as token rows, and the batches of each training step, as numpy arrays for any backend.

Which rows a step sees, and in what order, is a function of (seed, step). Rows of similar length share a batch; every
row is seen once an epoch, the last, smaller batch included.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import DpoPair, Encoded, SftExample, TrainJob, TrainSettings
from wizloop.backends.tokens import Tokens

Arrays = tuple[NDArray[Any], ...]

# Shapes are padded to a multiple of this, so that the compiled step is reused.
_PAD = 16
# Prompt positions of a row at which the language-modelling loss is taken.
_PROMPT_POSITIONS = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with one completion behind the shared prefix. `weights` are those of the completion's tokens, the end
    included.
    """

    id: int
    shared: tuple[int, ...]
    ids: list[int]
    prompt_length: int
    weights: list[float]


@dataclass(frozen=True, slots=True)
class PairRow:
    chosen: Row
    rejected: Row
    weight: float


@dataclass
class Plan:
    """Which rows each step takes."""

    lengths: Sequence[int]
    settings: TrainSettings
    content: str
    """What is trained on, and from what: it tells one training's checkpoints from another's."""
    steps: int = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        order = sorted(range(len(self.lengths)), key=lambda i: (self.lengths[i], i))
        size = self.settings.batch
        self._batches = [order[start : start + size] for start in range(0, len(self.lengths), size)]
        self.steps = len(self._batches) * self.settings.epochs
        text = repr((self.content, self.settings))
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def indices(self, step: int) -> list[int]:
        """Rows of step number `step`, from 0."""
        epoch, place = divmod(step, len(self._batches))
        shuffled = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self._batches))
        return self._batches[shuffled[place]]


def sft_rows(
    examples: Sequence[SftExample], tokens: Tokens, most: int, verdict_weight: float
) -> tuple[list[Row], list[int]]:
    """(rows that fit, ids of examples that do not)."""
    rows, dropped = [], []
    for example in examples:
        ids = tokens.encode_data(example.completion)
        weights = [example.weight] * (len(ids) + 1)
        for i, start in enumerate(tokens.starts(ids, example.completion)):
            end = start + len(tokens.decode([ids[i]]))
            if any(start < last and first < end for first, last in example.strong):
                weights[i] *= verdict_weight
        row = _row(example.id, example.prompt, ids, weights, tokens.end)
        if len(row.shared) + len(row.ids) > most:
            dropped.append(example.id)
        else:
            rows.append(row)
    return rows, dropped


def dpo_rows(pairs: Sequence[DpoPair], tokens: Tokens, most: int) -> tuple[list[PairRow], list[int]]:
    """(pairs of which both completions fit, ids of those of which one does not)."""
    rows, dropped = [], []
    for pair in pairs:
        sides = []
        for text in (pair.chosen, pair.rejected):
            ids = tokens.encode_data(text)
            sides.append(_row(pair.id, pair.prompt, ids, [1.0] * (len(ids) + 1), tokens.end))
        if any(len(side.shared) + len(side.ids) > most for side in sides):
            dropped.append(pair.id)
        else:
            rows.append(PairRow(sides[0], sides[1], pair.weight))
    return rows, dropped


def planned_sft(job: TrainJob, examples: Sequence[SftExample], tokens: Tokens) -> tuple[list[Row], list[int], Plan]:
    """R-SFT's rows that fit, the ids of examples that do not, and the plan of the steps. Raises ValueError
    when nothing fits.
    """
    settings = job.settings
    rows, dropped = sft_rows(examples, tokens, settings.max_tokens, settings.verdict_weight)
    if not rows:
        raise ValueError(_nothing_fits("examples", len(examples), settings))
    return rows, dropped, Plan([len(row.ids) for row in rows], settings, _fingerprint(job, rows))


def planned_dpo(job: TrainJob, pairs: Sequence[DpoPair], tokens: Tokens) -> tuple[list[PairRow], list[int], Plan]:
    """Like planned_sft, of HS-DPO's pairs."""
    settings = job.settings
    rows, dropped = dpo_rows(pairs, tokens, settings.max_tokens)
    if not rows:
        raise ValueError(_nothing_fits("pairs", len(pairs), settings))
    lengths = [max(len(row.chosen.ids), len(row.rejected.ids)) for row in rows]
    return rows, dropped, Plan(lengths, settings, _fingerprint(job, rows))


def _fingerprint(job: TrainJob, rows: Sequence[Row] | Sequence[PairRow]) -> str:
    """What a training stands on beside its settings, in words that a try at another one does not share."""
    return repr((job.base, job.start, job.lora, rows))


def _nothing_fits(what: str, count: int, settings: TrainSettings) -> str:
    limits = "guard.max_prompt_tokens or guard.max_trace_tokens"
    return f"none of {count} {what} fits in {settings.max_tokens} tokens: raise {limits}"


def sft_batch(rows: Sequence[Row], settings: TrainSettings, step: int, *, blank: int) -> Arrays:
    """(inputs, positions, targets, weights, and the last three for the prompt): what a backend's sft_loss takes."""
    rng = np.random.default_rng([settings.seed, step, 1])
    inputs, positions, targets, weights = completions(rows)
    asked = np.zeros((len(rows), _PROMPT_POSITIONS), np.int32)
    wanted, counted = np.zeros_like(asked), np.zeros(asked.shape, np.float32)
    for i, row in enumerate(rows):
        places = rng.integers(0, max(1, row.prompt_length - 1), _PROMPT_POSITIONS)
        asked[i], wanted[i], counted[i] = places, [row.ids[p + 1] for p in places], float(row.prompt_length > 1)
        if settings.word_dropout:
            inputs[i, : row.prompt_length - 1][rng.random(row.prompt_length - 1) < settings.word_dropout] = blank
    return inputs, positions, targets, weights, asked, wanted, counted


def dpo_batch(rows: Sequence[PairRow], reference: NDArray[np.float32]) -> Arrays:
    """(inputs, positions, targets, mask, reference, weights): chosen rows first, then rejected ones; reference is
    [pairs, 2].
    """
    inputs, positions, targets, mask = completions([row.chosen for row in rows] + [row.rejected for row in rows])
    weights = np.array([row.weight for row in rows], np.float32)
    return inputs, positions, targets, mask, reference, weights


def completions(
    rows: Sequence[Row],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """inputs [rows, length], and for each learned token its position, target and weight, [rows, most learned]; padding
    weighs 0.
    """
    length = _padded(max(len(row.ids) for row in rows))
    learned = _padded(max(len(row.weights) for row in rows), 4)
    inputs = np.zeros((len(rows), length), np.int32)
    positions, targets = np.zeros((len(rows), learned), np.int32), np.zeros((len(rows), learned), np.int32)
    weights = np.zeros((len(rows), learned), np.float32)
    for i, row in enumerate(rows):
        inputs[i, : len(row.ids)] = row.ids
        count = len(row.weights)
        positions[i, :count] = np.arange(row.prompt_length - 1, row.prompt_length - 1 + count)
        targets[i, :count] = row.ids[row.prompt_length :]
        weights[i, :count] = row.weights
    return inputs, positions, targets, weights


def _row(identity: int, prompt: Encoded, ids: list[int], weights: list[float], end: int) -> Row:
    return Row(identity, prompt.shared, [*prompt.body, *ids, end], len(prompt.body), weights)


def _padded(length: int, to: int = _PAD) -> int:
    return -(-length // to) * to
