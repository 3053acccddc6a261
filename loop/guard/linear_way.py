"""The linear head beside a guard: its file, and its answers to any texts. It never writes a token.

The file is untrusted in an export: it is bounded, and every array in it is checked before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wizloop import regular_file
from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.rendering import Renderer, Text
from wizloop.loop.measures.linear_head import Head, States
from wizloop.loop.words import Declaration

NAME = "linear.safetensors"
MOST_BYTES = 64 << 20
"""Maximum size of the file: 256 components of the widest base and the weights of all tasks take a third of it."""
SIGNAL = "p_linear_"
_DEPTH = "depth"
_LARGEST = float(np.finfo(np.float16).max)


class Said(NamedTuple):
    """What the head says of a text: the signals `p_linear_TASK`, and the tokens of the text that it did not read."""

    signals: dict[str, float]
    cut: int


@dataclass(frozen=True, slots=True)
class Linear:
    """A head with the model whose hidden states it reads."""

    head: Head
    depth: float
    """Share of the model's blocks that are run for the states."""
    base: Callable[[], Guard] | None = None
    """Loads the model whose states it reads; None for a head that reads only words."""
    renderer: Renderer | None = None
    """How that model is asked."""
    tokens: int = 0
    """Maximum of a prompt."""

    def says(self, texts: Sequence[Text]) -> list[Said]:
        """Return what the head says of each text, after one pass of the base over all of them."""
        cuts, states = [0] * len(texts), None
        if self.base is not None and self.renderer is not None and self.head.reads_states and texts:
            guard = self.base()
            asked = [guard.encode(self.renderer.direct_prompt(text), max_tokens=self.tokens) for text in texts]
            cuts, found = [one.cut for one in asked], guard.states(asked, depth=self.depth)
            states = None if found is None else rounded(found)
        ps = self.head.p(texts, states)
        return [Said(signals_of(p), cut) for p, cut in zip(ps, cuts, strict=True)]


def signals_of(p: Mapping[str, float]) -> dict[str, float]:
    """Return the head's probabilities as signals of a prediction."""
    return {f"{SIGNAL}{task}": one for task, one in p.items()}


def rounded(states: States) -> States:
    """Return hidden states as a night keeps them, in float16: the same text has the same answer anywhere."""
    whole = np.nan_to_num(states, posinf=_LARGEST, neginf=-_LARGEST)
    return np.clip(whole, -_LARGEST, _LARGEST).astype(np.float16).astype(np.float32)


def write(path: Path, head: Head, depth: float) -> None:
    """Write a head, and the depth at which its states are read."""
    from safetensors.numpy import save_file

    # save_file writes memory as it lies, whatever an array's order.
    arrays = {name: np.ascontiguousarray(array) for name, array in head.arrays().items()}
    save_file({**arrays, _DEPTH: np.array([depth], np.float32)}, path)


def read(path: Path, declared: Declaration) -> tuple[Head, float]:
    """Read a head and its depth. Raises BadArtifact for a file that is missing, damaged, or no head of these tasks."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(regular_file.read_bytes(path, MOST_BYTES))
        at = arrays.pop(_DEPTH, np.zeros(1, np.float32))
        if at.shape != (1,) or not 0 < float(at[0]) <= 1:
            raise ValueError(f"{_DEPTH}: not a share of the blocks")
        return Head.of(arrays, declared), float(at[0])
    except OSError as error:
        raise BadArtifact(f"{path}: {error.strerror}; {artifacts.AGAIN}") from None
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise BadArtifact(f"{path}: is no linear head ({error}); {artifacts.AGAIN}") from None


def load(folder: Path, declared: Declaration) -> tuple[Head, float]:
    """Read the head of a folder with a manifest, after checking its hash. Raises BadArtifact."""
    artifacts.verify(folder)
    return read(folder / NAME, declared)
