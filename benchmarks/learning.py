"""Measure how much the tiny guard learns from how many labels, beside TF-IDF and logistic regression on the same rows.

    python benchmarks/learning.py acceptance --labels 100 200 400 1000
    python benchmarks/learning.py demo --labels 80 180 280 380 --rounds
    python benchmarks/learning.py toxicchat --labels 200 500 --set lr=0.001 epochs=4 --tiny width=256 --members 3

Labels are drawn at random from the recipe's pool; settings are the recipe's unless changed by --set ([train]) or --tiny
([guard.tiny]). Prints one line per number of labels: F1 at one half, F1 at the best threshold for the measured rows (an
upper bound), AUC and average precision, all of P(request harmful) from one forward pass. --rounds starts each training
from the one before, as a night does. With --members, each member is trained on two thirds of the labels, and the line
adds how well three measures separate right answers from wrong ones (AUROC).
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nights import recipe_file
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from wizloop.backends.guard_types import LoraShape, SftExample, TrainJob, TrainSettings
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import train as mlx_train
from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.policy.reasoner import PolicyReasoner
from wizloop.backends.teachers.recorded import explain
from wizloop.backends.tiny.build import Shape, build
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.guard.rendering import Renderer, choice
from wizloop.loop.measures import linear as linear_model
from wizloop.loop.phases.prepare import fixed_texts
from wizloop.loop.teaching.teachers import policies_of, sentences
from wizloop.recipes import schema
from wizloop.recipes.demo_text import demo_samples


@dataclass(frozen=True)
class Row:
    """One labeled text."""

    prompt: str
    response: str | None
    labels: dict[str, str | None]

    @property
    def harmful(self) -> bool:
        """True if the request is harmful."""
        return self.labels["request"] == "harmful"


@dataclass(frozen=True)
class Rationale:
    """A trace for training."""

    verdict: dict[str, str | None]
    explanation: str
    steps_json: str = "{}"


def rows_of(recipe: schema.Recipe, rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Return (pool, measured) rows. Without a test set of the pool's kind, the seed part is measured."""
    if recipe.source == "demo":
        made = demo_samples(random.Random(recipe.seed))
        pool, test = [], []
        for one in made:
            row = Row(one.prompt, one.response, dict(one.labels))
            (pool if one.split in ("pool", "seed") else test).append(row)
    else:
        pool, held, test = (read(recipe, split) for split in ("pool", "seed", "test"))
        test = test if recipe.name == "toxicchat" else held
    rng.shuffle(pool)
    rng.shuffle(test)
    return pool[:3000], test


def read(recipe: schema.Recipe, split: str) -> list[Row]:
    """Read the rows of a recipe's split."""
    data = next(one for one in recipe.data if one.split == split)
    found = read_samples(data.model_copy(update={"hide_labels": False}))
    return [Row(one.prompt, None, {"request": one.labels["request"]}) for one in found.rows if one.labels["request"]]


class Lessons:
    """Rows rendered for the guard."""

    def __init__(self, recipe: schema.Recipe, guard: mlx_guard.Guard) -> None:
        self.renderer, self.guard = Renderer(""), guard
        self._longest = recipe.guard.max_prompt_tokens
        self._reasoner = PolicyReasoner(policies_of(recipe), recipe.teacher.depth)
        self._recorded = "recorded" in recipe.teacher.names

    def examples(self, rows: Sequence[Row]) -> list[SftExample]:
        """Return the training examples of rows, with and without a trace."""
        return [each for number, row in enumerate(rows) for each in self._pair(number, row)]

    def asked(self, rows: Sequence[Row]) -> list[Any]:
        """Return the encoded prompts of rows."""
        return [self.guard.encode(self.renderer.direct_prompt(row), max_tokens=self._longest) for row in rows]

    def _pair(self, number: int, row: Row) -> list[SftExample]:
        known = Rationale(row.labels, self._reason(number, row))
        both = (
            (self.renderer.trace_prompt(row), self.renderer.trace_completion(known)),
            (self.renderer.direct_prompt(row), self.renderer.direct_completion(row.labels)),
        )
        encode = self.guard.encode
        return [SftExample(number, encode(p, max_tokens=self._longest), c.text, c.strong) for p, c in both]

    def _reason(self, number: int, row: Row) -> str:
        if self._recorded:
            return explain(str(row.labels["request"]), None, None)
        trace = self._reasoner.ask(Question(str(number), row.prompt, row.response, row.labels)).trace
        return trace.explanation if trace else "No reason."


def train(
    base: str, start: Path | None, examples: list[SftExample], recipe: schema.Recipe, seed: int, to: Path
) -> float:
    """Train an adapter and return the seconds."""
    how, longest = recipe.train, recipe.guard.max_prompt_tokens + recipe.guard.max_trace_tokens
    settings = TrainSettings(
        epochs=how.epochs, batch=how.batch, lr=how.lr, seed=seed, checkpoint_every=10**6, max_tokens=longest,
        verdict_weight=how.verdict_weight, prompt_weight=how.prompt_weight, word_dropout=how.word_dropout,
        warmup=how.warmup,
    )  # fmt: skip
    to.mkdir()
    begun, shape = time.perf_counter(), LoraShape(how.rank, how.scale, how.dropout, how.layers)
    job = TrainJob(base, start, settings, shape, to, to.with_suffix(".unfinished"))
    mlx_train.train_sft(job, examples, lambda *_: None)
    return time.perf_counter() - begun


def scores(base: str, adapter: Path, lessons: Lessons, rows: Sequence[Row]) -> np.ndarray:
    """Return P(request harmful) of rows."""
    return mlx_guard.load(base, adapter).score(lessons.asked(rows), choice("request"))[:, 0]


def measured(truth: np.ndarray, p: np.ndarray) -> str:
    """Return F1, best F1, AUC and average precision as text."""
    best = max(f1_score(truth, p > cut) for cut in np.quantile(p, np.linspace(0.02, 0.98, 49)))
    figures = (f1_score(truth, p > 0.5), best, roc_auc_score(truth, p), average_precision_score(truth, p))
    return "F1 {:.3f} best {:.3f} AUC {:.3f} AP {:.3f}".format(*figures)


def linear(pool: Sequence[Row], test: Sequence[Row]) -> np.ndarray:
    """Return P(harmful) by TF-IDF and logistic regression."""
    model = linear_model.fit([row.prompt for row in pool], [row.harmful for row in pool], balanced=True)
    assert model is not None, "draw more labels: those drawn are all of one class"
    return np.array(model.p([row.prompt for row in test]))


def knowing(truth: np.ndarray, p: np.ndarray, members: np.ndarray) -> str:
    """Return AUROC of three measures for right against wrong answers, as text."""
    right, mean = (p > 0.5) == truth, members.mean(axis=0)
    spread = sum(abs(a - b) for i, a in enumerate(members) for b in members[:i])
    margin, together = roc_auc_score(right, abs(p - 0.5)), roc_auc_score((mean > 0.5) == truth, abs(mean - 0.5))
    agree = roc_auc_score((mean > 0.5) == truth, -spread)
    return (
        f"| members {measured(truth, mean)} | knows: margin {margin:.3f}, their mean {together:.3f}, spread {agree:.3f}"
    )


def changed(
    recipe: schema.Recipe, train_keys: Sequence[str], tiny_keys: Sequence[str], prompt_tokens: int | None
) -> schema.Recipe:
    """Return a recipe with changed training keys, tiny shape and prompt length."""

    def with_keys(section: Any, keys: Sequence[str]) -> Any:
        given = {
            key: float(value) if set(value) & set(".e") else int(value)
            for key, value in (one.split("=") for one in keys)
        }
        return type(section).model_validate(section.model_dump() | given)

    longest = prompt_tokens or recipe.guard.max_prompt_tokens
    guard = recipe.guard.model_copy(
        update={"tiny": with_keys(recipe.guard.tiny, tiny_keys), "max_prompt_tokens": longest}
    )
    return recipe.model_copy(update={"train": with_keys(recipe.train, train_keys), "guard": guard})


def main() -> None:
    """Train on each number of labels and print a line for each."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("recipe", choices=["acceptance", "demo", "toxicchat"])
    ask.add_argument("--labels", type=int, nargs="+", default=[100, 400])
    ask.add_argument("--set", nargs="*", action="append", metavar="KEY=VALUE")
    ask.add_argument("--prompt-tokens", type=int)
    ask.add_argument("--tiny", nargs="*", default=[], metavar="KEY=VALUE")
    ask.add_argument("--test", type=int, default=600)
    ask.add_argument("--seeds", type=int, nargs="+", default=[1])
    ask.add_argument("--members", type=int, default=0)
    ask.add_argument("--rounds", action="store_true")
    given = ask.parse_args()
    variants = [
        changed(schema.load(recipe_file(given.recipe)), keys, given.tiny, given.prompt_tokens)
        for keys in given.set or [[]]
    ]
    pool, test = rows_of(variants[0], random.Random(5))
    test = test[: given.test]
    with tempfile.TemporaryDirectory() as folder:
        base = base_of(variants[0], pool, Path(folder))
        for number, recipe in enumerate(variants):
            print("set:", *(given.set[number] if given.set else ["nothing"]), flush=True)
            for seed in given.seeds:
                learn(recipe, base, pool, test, given, seed, Path(folder) / f"{number}")


def base_of(recipe: schema.Recipe, pool: list[Row], folder: Path) -> str:
    """Build the tiny base on the pool and return its folder."""
    wanted, base, begun = recipe.guard.tiny, folder / "base", time.perf_counter()
    base.mkdir()
    fixed = fixed_texts(list(sentences(recipe, list(pool[:400]))), "")
    build(
        base, [row.prompt for row in pool], shape=Shape(wanted.vocab, wanted.layers, wanted.width, wanted.mlp),
        epochs=wanted.epochs, seed=recipe.seed, progress=lambda *_: None, fixed_texts=fixed,
    )  # fmt: skip
    print(f"{len(pool)} texts, base built in {time.perf_counter() - begun:.0f} s", flush=True)
    return str(base)


def learn(
    recipe: schema.Recipe,
    base: str,
    pool: list[Row],
    test: list[Row],
    given: argparse.Namespace,
    seed: int,
    folder: Path,
) -> None:
    """Train on growing numbers of labels and print each result."""
    lessons, before = Lessons(recipe, mlx_guard.load(base)), None
    rows, truth = random.Random(seed).sample(pool, len(pool)), np.array([row.harmful for row in test])
    folder.mkdir(exist_ok=True)
    for count in given.labels:
        to = folder / f"{seed}-{count}"
        examples = lessons.examples(rows[:count])
        seconds = train(base, before if given.rounds else None, examples, recipe, seed, to)
        before, p, extra = to, scores(base, to, lessons, test), ""
        if given.members:
            ps = [p]
            for number in range(1, given.members):
                kept = [row for row in rows[:count] if random.Random(f"{number}{row.prompt}").random() < 0.67]
                member = folder / f"{seed}-{count}-{number}"
                train(base, None, lessons.examples(kept), recipe, seed + number, member)
                ps.append(scores(base, member, lessons, test))
            extra = knowing(truth, p, np.array(ps))
        print(f"{count:5} labels, seed {seed}: {measured(truth, p)} {seconds:.0f} s {extra}", flush=True)
        print(f"{'':13}TF-IDF: {measured(truth, linear(rows[:count], test))}", flush=True)


if __name__ == "__main__":
    main()
