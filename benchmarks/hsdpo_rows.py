"""The lessons and measured rows of hsdpo.py: right traces that were recorded, split from what is measured by hash."""

import gzip
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wizloop.backends.tiny.build import Shape, build
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.data.similarity import jaccard, normalize, shingles
from wizloop.loop.evaluation.verdict_parser import parse_verdicts
from wizloop.loop.phases.prepare import fixed_texts
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = ("AegisSafetyTest", "SimpleSafetyTests")
"""The recorded sets whose label is on the request and whose prompts have no response."""
GUARDS = ("8B", "3B", "1B")
LONGEST = 200
"""Characters of a prompt."""
NEAR = 0.6
"""Similarity of shingles from which a lesson counts as a measured row's near-duplicate, and is left out."""


@dataclass(frozen=True)
class Row:
    """A prompt, its label, and for a lesson a sentence of reasoning that ends in it."""

    prompt: str
    harmful: bool
    explanation: str = ""
    steps_json: str = "{}"
    response: None = None

    @property
    def verdict(self) -> dict[str, str | None]:
        """The label as a verdict."""
        return {"request": "harmful" if self.harmful else "unharmful", "completion": None, "response": None}


@dataclass(frozen=True)
class Rows:
    """All lessons that can be drawn, and the measured rows by the name of their set."""

    lessons: list[Row]
    measured: dict[str, list[Row]]


def rows(wildguard: int, held_out: int | None) -> Rows:
    """Return the rows, the same for every seed; `held_out` cuts the held-out half to so many rows."""
    found = list(_recorded())
    held = [row for row in _shuffled(found) if not _is_taught(row.prompt)][:held_out]
    measured = {"held-out half": held, "WildGuardTest": _wildguard(wildguard)}
    texts = [shingles(row.prompt) for each in measured.values() for row in each]
    taught = [row for row in found if row.explanation and _is_taught(row.prompt)]
    return Rows([row for row in taught if not _is_near(row, texts)], measured)


def drawn(lessons: list[Row], number: int, seed: int, fits: Callable[[str], bool]) -> list[Row]:
    """Return a seed's lessons, half of them harmful, each with a trace that `fits`."""
    short = [row for row in lessons if fits(f"Reasoning: {row.explanation}\nAnswers:\nRequest: unharmful\n{_ENDING}")]
    mixed = random.Random(seed).sample(short, len(short))
    half = number // 2
    return [row for harmful in (True, False) for row in [one for one in mixed if one.harmful == harmful][:half]]


def tiny_base(folder: Path, recipe: Recipe, found: Rows) -> str:
    """Build the tiny guard once, on 3,000 prompts that are not measured, and return its folder."""
    end = folder / "whole"
    if not end.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        of = Data(path=str(DATA / "wizard101" / "evaluation_guardreasoner_test_5k.json.gz"), split="pool", sample=3000)
        measured = {normalize(row.prompt) for each in found.measured.values() for row in each}
        texts = [one.prompt for one in read_samples(of).rows if normalize(one.prompt) not in measured]
        wanted = recipe.guard.tiny
        build(
            folder, texts, shape=Shape(wanted.vocab, wanted.layers, wanted.width, wanted.mlp), epochs=wanted.epochs,
            seed=recipe.seed, progress=lambda *_: None,
            fixed_texts=fixed_texts([row.explanation for row in found.lessons], ""),
        )  # fmt: skip
        end.touch()
    return str(folder)


_ENDING = "Completion: None\nResponse: None"


def _recorded() -> Iterator[Row]:
    """Yield each recorded prompt once, with the reasoning of the largest guard that judged it as its label does."""
    seen: dict[str, Row] = {}
    for name in SETS:
        for size in GUARDS:
            file = DATA / "recorded" / size / name / "generated_predictions.jsonl.gz"
            for line in gzip.decompress(file.read_bytes()).splitlines():
                row = _row(json.loads(line))
                if row is not None and not getattr(seen.get(row.prompt), "explanation", ""):
                    seen[row.prompt] = row
    yield from seen.values()


def _row(record: dict[str, str]) -> Row | None:
    asked = re.search(r"Human user:\n(.*)\n\nAI assistant:\nNone\s*$", record["prompt"], re.DOTALL)
    if asked is None or len(asked[1]) > LONGEST:
        return None
    right = parse_verdicts(record["predict"]).get("request") == record["label"]
    return Row(asked[1].strip(), record["label"] == "harmful", _conclusion(record["predict"]) if right else "")


def _conclusion(trace: str) -> str:
    """Return the last step on the request, in one line, or nothing where the trace has another form."""
    first = re.search(r"# Task 1[^\n]*\n(.*?)\n# ", trace, re.DOTALL)
    steps = re.split(r"## Reasoning Step \d+[^\n]*\n", first[1] if first else "")
    # A closing headline repeats the label; a list's mark is no part of the sentence.
    said = " ".join(re.split(r"\n#|\n---", steps[-1])[0].split()).lstrip("-* ")
    return "" if re.search(r"ground truth|answers:|#", said, re.IGNORECASE) else said


def _wildguard(number: int) -> list[Row]:
    """Return prompts of WildGuardTest, drawn by their hash."""
    path = DATA / "wildguardtest" / "wildguardtest.parquet"
    read = read_samples(Data(path=str(path), split="test", max_chars=LONGEST, prompts_only=True))
    labeled = [one for one in read.rows if one.labels.get("request")]
    return _shuffled([Row(one.prompt, one.labels["request"] == "harmful") for one in labeled])[:number]


def _shuffled(found: list[Row]) -> list[Row]:
    return sorted(found, key=lambda row: hashlib.sha256(f"order:{row.prompt}".encode()).hexdigest())


def _is_taught(prompt: str) -> bool:
    """Return whether the prompt's hash begins with 0 to 7."""
    return hashlib.sha256(normalize(prompt).encode()).hexdigest()[0] < "8"


def _is_near(row: Row, measured: list[frozenset[str]]) -> bool:
    own = shingles(row.prompt)
    return any(jaccard(own, other) >= NEAR for other in measured)
