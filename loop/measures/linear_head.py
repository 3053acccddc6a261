"""The linear head: one logistic regression a task on the features of a space, fitted on approved labels.

It reads the base's hidden states and the words of a text, and writes no token. What a guard has learned changes nothing
of it, so its figures never tell whether a guard improved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.committee import fit_one
from wizloop.loop.measures.features import Floats, Space
from wizloop.loop.words import DEFAULT, Declaration, Task, share_of

States = NDArray[np.float32]
MOST_STATES: Final = 1 << 18
"""Hidden states of a text at most: 2 for each dimension of the widest model."""


class Text(Protocol):
    """A prompt, or a prompt with a response."""

    @property
    def prompt(self) -> str:
        """The user's request."""

    @property
    def response(self) -> str | None:
        """The assistant's response, or None."""


@dataclass(frozen=True)
class Head:
    """A fitted head: weights of shape (1, columns) for a task with two labels, else (labels, columns)."""

    space: Space
    weights: Mapping[Task, Floats]
    bias: Mapping[Task, Floats]
    """Of shape (1,) or (labels,)."""
    declared: Declaration = DEFAULT

    @property
    def reads_states(self) -> bool:
        """Whether it reads hidden states beside the text."""
        return self.space.center is not None

    def p(self, texts: Sequence[Text], states: States | None) -> list[dict[str, float]]:
        """Return P(positive) by task of each text, and P of further labels under `share_of(task, label)`.

        A task without weights, or that does not apply to a text, has none. `states` are the texts', row by row.
        """
        found: list[dict[str, float]] = [{} for _ in texts]
        for task, weights in self.weights.items():
            rows = [at for at, text in enumerate(texts) if task in self.declared.tasks_of(text)]
            if rows:
                some = None if states is None else states[rows]
                odds = self._odds(task, [texts[at] for at in rows], some, weights) + self.bias[task]
                for at, p in zip(rows, _probabilities(odds), strict=True):
                    found[at] |= self._named(task, p)
        return found

    def _odds(self, task: Task, texts: Sequence[Text], states: States | None, weights: Floats) -> NDArray[np.float64]:
        """Return the log-odds without the bias, (n, 1) or (n, labels): row by row, whatever else is in the batch.

        A product of matrices rounds a row otherwise in another batch.
        """
        words = Space(self.space.words_idf, self.space.characters_idf)
        components, center = self.space.components, self.space.center
        first = 0 if components is None else len(components)
        odds = np.asarray(_matrix(words, task, texts, None) @ weights[:, first:].T, dtype=np.float64)
        if components is None or center is None:
            return odds
        if states is None:
            raise ValueError("the head was fitted on hidden states and is given none")
        centered = states.astype(np.float64) - center
        by_label = weights[:, :first].astype(np.float64) @ components
        found: NDArray[np.float64] = odds + np.stack([(centered * one).sum(axis=1) for one in by_label], axis=1)
        return found

    def _named(self, task: Task, p: NDArray[np.float64]) -> dict[str, float]:
        further = zip(self.declared.classes(task)[1:], p[1:], strict=False)
        return {task: float(p[0]), **{share_of(task, label): float(one) for label, one in further}}

    def arrays(self) -> dict[str, Floats]:
        """Return all that it consists of, by names that `of` reads."""
        found = {f"space.{name}": array for name, array in self.space.arrays().items()}
        for task, weights in self.weights.items():
            found |= {f"weights.{task}": weights, f"bias.{task}": self.bias[task]}
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], declared: Declaration = DEFAULT) -> "Head":
        """Return the head that these arrays are. Raises ValueError where a name, a shape or a number cannot be."""
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name}: holds other than finite float32 numbers")
        space = Space.of({name.removeprefix("space."): one for name, one in arrays.items() if name[:6] == "space."})
        _check_space(space)
        tasks = [task for task in declared.tasks if f"weights.{task}" in arrays]
        known = {name for name in arrays if name[:6] == "space."}
        known |= {f"{part}.{task}" for task in tasks for part in ("weights", "bias")}
        if not tasks or known != set(arrays):
            raise ValueError(f"not a head of the tasks {', '.join(declared.tasks)}: holds {', '.join(sorted(arrays))}")
        head = cls(
            space,
            {task: arrays[f"weights.{task}"] for task in tasks},
            {task: arrays[f"bias.{task}"] for task in tasks},
            declared,
        )
        for task in tasks:
            labels = max(1, len(declared.classes(task)))
            if head.weights[task].shape != (labels, space.columns) or head.bias[task].shape != (labels,):
                raise ValueError(f"weights.{task}: not of the shape ({labels}, {space.columns})")
        return head


def fit(
    space: Space,
    texts: Sequence[Text],
    labels: Sequence[Mapping[Task, str]],
    states: States | None,
    declared: Declaration = DEFAULT,
) -> Head | None:
    """Fit a head on labeled texts and their states, row by row; None where no task has two labels among them."""
    weights: dict[Task, Floats] = {}
    bias: dict[Task, Floats] = {}
    for task in declared.tasks:
        rows = [at for at, known in enumerate(labels) if task in known and task in declared.tasks_of(texts[at])]
        given = np.array([declared[task].index(labels[at][task]) for at in rows], dtype=np.int64)
        if len(set(given.tolist())) > 1:
            X = _matrix(space, task, [texts[at] for at in rows], None if states is None else states[rows])
            weights[task], bias[task] = _fitted(X, given, len(declared.classes(task)))
    return Head(space, weights, bias, declared) if weights else None


def _fitted(X: Any, given: NDArray[np.int64], classes: int) -> tuple[Floats, Floats]:
    """Fit the first of two labels, or each of several against the rest; one that nobody gave is as good as excluded."""
    found = []
    for label in range(max(1, classes)):
        y = given == label
        one = fit_one(X, y) if y.any() and not y.all() else (np.zeros(X.shape[1], np.float32), -30.0)
        found.append(one)
    weights, bias = zip(*found, strict=True)
    return np.stack(weights).astype(np.float32), np.array(bias, dtype=np.float32)


def _probabilities(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P of the first label, (n, 1), or of each label, (n, labels)."""
    from scipy.special import expit

    p: NDArray[np.float64] = expit(odds)
    return p if p.shape[1] == 1 else p / p.sum(axis=1, keepdims=True)


def _matrix(space: Space, task: Task, texts: Sequence[Text], states: States | None) -> Any:
    """Return the rows of some texts: a request is read without its response."""
    return space.matrix([_text(task, text) for text in texts], states)


def _text(task: Task, text: Text) -> str:
    return text.prompt if task == "request" else whole(text)


def whole(text: Text) -> str:
    """Return prompt and response as one text."""
    return text.prompt if text.response is None else f"{text.prompt}\n{text.response}"


def _check_space(space: Space) -> None:
    """Raise ValueError for arrays that no fitted space has: `matrix` would read beyond them, or fill the memory."""
    from wizloop.loop.measures.features import COLUMNS, COMPONENTS

    if space.words_idf is None or space.characters_idf is None:
        raise ValueError("space: the weights of words and characters are missing")
    if not space.words_idf.shape == space.characters_idf.shape == (COLUMNS,):
        raise ValueError(f"space.words_idf: not of the shape ({COLUMNS},)")
    if (space.center is None) != (space.components is None):
        raise ValueError("space.center and space.components: one is missing")
    if space.center is None or space.components is None:
        return
    if space.center.ndim != 1 or not 0 < len(space.center) <= MOST_STATES:
        raise ValueError("space.center: not a list of hidden states")
    if space.components.ndim != 2 or space.components.shape[1] != len(space.center):
        raise ValueError(f"space.components: not of the shape (components, {len(space.center)})")
    if not 0 < len(space.components) <= COMPONENTS:
        raise ValueError(f"space.components: not 1 to {COMPONENTS} components")
