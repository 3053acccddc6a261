"""Examples and pairs as token rows, and the batches of each training step, as NumPy arrays for any backend.

The rows of a step and their order are a function of (seed, step). Rows of similar length share a batch; every row is
seen once per epoch, including the last, smaller batch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import DpoPair, Encoded, SftExample, TrainJob, TrainSettings
from wizloop.backends.tokens import Tokens

Arrays = tuple[NDArray[Any], ...]

# Shapes are padded to a multiple of this, so that the compiled step is reused.
_PAD = 16
# Prompt positions of a row at which the language-modeling loss is taken.
_PROMPT_POSITIONS = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with one completion, after the shared prefix.

    `weights` are those of the completion's tokens, including the end token.
    """

    id: int
    shared: tuple[int, ...]
    ids: list[int]
    prompt_length: int
    weights: list[float]

    @property
    def length(self) -> int:
        """Tokens in all, prefix included."""
        return len(self.shared) + len(self.ids)


@dataclass(frozen=True, slots=True)
class PairRow:
    """A prompt with the chosen and the rejected completion."""

    chosen: Row
    rejected: Row
    weight: float

    @property
    def id(self) -> int:
        """The pair's id."""
        return self.chosen.id

    @property
    def length(self) -> int:
        """Tokens of the longer side, prefix included."""
        return max(self.chosen.length, self.rejected.length)


_AnyRow = TypeVar("_AnyRow", Row, PairRow)


@dataclass
class Plan:
    """The rows of each step."""

    lengths: Sequence[int]
    settings: TrainSettings
    content: str
    """The training data and the start: it tells one training's checkpoints from another's."""
    steps: int = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        order = sorted(range(len(self.lengths)), key=lambda i: (self.lengths[i], i))
        size = self.settings.batch
        self._batches = [order[start : start + size] for start in range(0, len(self.lengths), size)]
        self.steps = len(self._batches) * self.settings.epochs
        text = repr((self.content, self.settings))
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    @property
    def epoch(self) -> int:
        """Return the number of steps in an epoch."""
        return len(self._batches)

    def indices(self, step: int) -> list[int]:
        """Return the rows of step number `step`, from 0."""
        epoch, place = divmod(step, len(self._batches))
        shuffled = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self._batches))
        return self._batches[shuffled[place]]


def sft_rows(
    examples: Sequence[SftExample], tokens: Tokens, most: int, verdict_weight: float
) -> tuple[list[Row], list[int]]:
    """Return the rows of at most `most` tokens, and the ids of longer examples."""
    rows = []
    for example in examples:
        ids = tokens.encode_data(example.completion)
        weights = [example.weight] * (len(ids) + 1)
        for i, start in enumerate(tokens.starts(ids, example.completion)):
            end = start + len(tokens.decode([ids[i]]))
            if any(start < last and first < end for first, last in example.strong):
                weights[i] *= verdict_weight
        rows.append(_row(example.id, example.prompt, ids, weights, tokens.end))
    return _fitting(rows, most)


def dpo_rows(pairs: Sequence[DpoPair], tokens: Tokens, most: int) -> tuple[list[PairRow], list[int]]:
    """Return the pairs with both completions in at most `most` tokens, and the ids of the others."""

    def side(pair: DpoPair, text: str) -> Row:
        ids = tokens.encode_data(text)
        return _row(pair.id, pair.prompt, ids, [1.0] * (len(ids) + 1), tokens.end)

    return _fitting([PairRow(side(each, each.chosen), side(each, each.rejected), each.weight) for each in pairs], most)


def planned_sft(job: TrainJob, examples: Sequence[SftExample], tokens: Tokens) -> tuple[list[Row], list[int], Plan]:
    """Return R-SFT's rows, the ids of examples that are too long, and the plan of the steps.

    Raises ValueError if nothing fits.
    """
    rows, dropped = sft_rows(examples, tokens, job.settings.max_tokens, job.settings.verdict_weight)
    return rows, dropped, _plan(job, rows, f"{len(examples)} examples")


def planned_dpo(job: TrainJob, pairs: Sequence[DpoPair], tokens: Tokens) -> tuple[list[PairRow], list[int], Plan]:
    """Return the same as planned_sft for HS-DPO's pairs."""
    rows, dropped = dpo_rows(pairs, tokens, job.settings.max_tokens)
    return rows, dropped, _plan(job, rows, f"{len(pairs)} pairs")


def held_out(job: TrainJob, tokens: Tokens) -> list[Row]:
    """Return the rows of the job's held-out examples that fit, the shortest first."""
    rows, _ = sft_rows(job.held_out, tokens, job.settings.max_tokens, 1.0)
    return sorted(rows, key=lambda row: row.length)


def as_they_are(settings: TrainSettings) -> TrainSettings:
    """Return the settings under which held-out rows are measured: no word is dropped, and no prompt counts."""
    return replace(settings, word_dropout=0.0, prompt_weight=0.0)


def _plan(job: TrainJob, rows: Sequence[_AnyRow], given: str) -> Plan:
    if not rows:
        limits = "guard.max_prompt_tokens or guard.max_trace_tokens"
        raise ValueError(f"none of {given} fits in {job.settings.max_tokens} tokens: raise {limits}")
    return Plan([row.length for row in rows], job.settings, repr((job.base, job.start, job.lora, rows)))


def _fitting(rows: Sequence[_AnyRow], most: int) -> tuple[list[_AnyRow], list[int]]:
    return [row for row in rows if row.length <= most], [row.id for row in rows if row.length > most]


def sft_batch(rows: Sequence[Row], settings: TrainSettings, step: int, *, blank: int) -> Arrays:
    """Return (inputs, positions, targets, weights, and the last three for the prompt) for a backend's sft_loss.

    The weights of a step add up to 1, and so do the prompt's.
    """
    rng = np.random.default_rng([settings.seed, step, 1])
    inputs, positions, targets, weights = completions(rows)
    prompt_positions = np.zeros((len(rows), _PROMPT_POSITIONS), np.int32)
    prompt_targets, counted = np.zeros_like(prompt_positions), np.zeros(prompt_positions.shape, np.float32)
    for i, row in enumerate(rows):
        places = rng.integers(0, max(1, row.prompt_length - 1), _PROMPT_POSITIONS)
        prompt_positions[i], prompt_targets[i] = places, [row.ids[place + 1] for place in places]
        counted[i] = float(row.prompt_length > 1)
        if settings.word_dropout:
            inputs[i, : row.prompt_length - 1][rng.random(row.prompt_length - 1) < settings.word_dropout] = blank
    counted /= max(counted.sum(), 1)
    return inputs, positions, targets, weights / weights.sum(), prompt_positions, prompt_targets, counted


def sft_passes(rows: Sequence[Row], settings: TrainSettings, step: int, *, blank: int, most: int) -> list[Arrays]:
    """Return sft_batch's arrays in passes of at most `most` tokens, the shared prefix included, or of one row."""
    arrays = sft_batch(rows, settings, step, blank=blank)
    lengths = [_padded(len(row.ids)) for row in rows]
    passes = []
    for group in groups(range(len(rows)), lengths, most - len(rows[0].shared)):
        length, learned = _extent([rows[i] for i in group])
        inputs, *completion = (each[group] for each in arrays[:4])
        prompt = (each[group] for each in arrays[4:])
        passes.append((inputs[:, :length], *(each[:, :learned] for each in completion), *prompt))
    return passes


def dpo_passes(rows: Sequence[PairRow], reference: NDArray[np.float32], *, most: int) -> list[Arrays]:
    """Return dpo_batch's arrays in passes of at most `most` tokens, the shared prefix included, or of one pair."""
    arrays = dpo_batch(rows, reference)
    lengths = [2 * _padded(max(len(row.chosen.ids), len(row.rejected.ids))) for row in rows]
    passes = []
    for group in groups(range(len(rows)), lengths, most - len(rows[0].chosen.shared)):
        length, learned = _extent([side for i in group for side in (rows[i].chosen, rows[i].rejected)])
        both = [*group, *(i + len(rows) for i in group)]
        inputs, *completion = (each[both] for each in arrays[:4])
        pair = (each[group] for each in arrays[4:])
        passes.append((inputs[:, :length], *(each[:, :learned] for each in completion), *pair))
    return passes


def groups(rows: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return the rows in groups of at most `most` tokens, padded to the longest of each, or in groups of one."""
    found: list[list[int]] = []
    for row in rows:
        last = found[-1] if found else []
        if last and max(lengths[i] for i in (*last, row)) * (len(last) + 1) <= most:
            last.append(row)
        else:
            found.append([row])
    return found


def dpo_batch(rows: Sequence[PairRow], reference: NDArray[np.float32]) -> Arrays:
    """Return (inputs, positions, targets, mask, reference, weights, shares), chosen rows first, then rejected ones.

    `reference` is [pairs, 2]; the shares of a step's pairs in its loss add up to 1.
    """
    inputs, positions, targets, mask = completions([row.chosen for row in rows] + [row.rejected for row in rows])
    weights = np.array([row.weight for row in rows], np.float32)
    shares = np.full(len(rows), 1 / len(rows), np.float32)
    return inputs, positions, targets, mask, reference, weights, shares


def completions(
    rows: Sequence[Row],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return inputs [rows, length], and each learned token's position, target, and weight, [rows, most learned].

    Padding has weight 0.
    """
    length, learned = _extent(rows)
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


def _extent(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the padded length of rows, and of what is learned of them."""
    return _padded(max(len(row.ids) for row in rows)), _padded(max(len(row.weights) for row in rows), 4)


def _row(identity: int, prompt: Encoded, ids: list[int], weights: list[float], end: int) -> Row:
    return Row(identity, prompt.shared, [*prompt.body, *ids, end], len(prompt.body), weights)


def _padded(length: int, to: int = _PAD) -> int:
    return -(-length // to) * to
