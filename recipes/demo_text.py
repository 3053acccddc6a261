"""Generate the demo pool: labeled prompts and answers from the phrases of demo_phrases.toml, without a network.

Not real traffic: labels hold by construction, and the wording is far narrower than people's. It shows that the loop
works; only real data shows how good a guard is.
"""

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

PHRASES = Path(__file__).with_name("demo_phrases.toml")
Split = Literal["pool", "seed", "dev", "test"]
Kind = Literal["harmful", "lookalike", "everyday", "protective"]

# Shares of the texts; the rest is everyday. Harmful acts occur in protective frames, too, and are unharmful there.
HARMFUL, LOOKALIKE, PROTECTIVE = 0.35, 0.17, 0.02
WITH_ANSWER = 0.25
# Share of texts with a motive, and share of motives of the opposite label. With these, a linear model reaches about
# 0.78 F1 on held-out phrases from 80 labels and 0.92 from 600, so that a night has something to show.
MOTIVE = 0.7
MISLEADING = 0.04
TYPO = 0.03
HELD_OUT = 4
TRIES = 500


@dataclass(frozen=True)
class DemoSample:
    """One text with its labels."""

    split: Split
    prompt: str
    response: str | None
    labels: Mapping[str, str | None]
    policy: str | None
    """Policy that the text is about, harmful or not; None for an everyday text."""


@dataclass(frozen=True)
class _Request:
    prompt: str
    act: str
    harmful: bool
    policy: str | None


def demo_samples(
    rng: random.Random, *, pool: int = 1600, seed: int = 80, dev: int = 300, test: int = 400
) -> list[DemoSample]:
    """Return this many samples of each split, in this order, without repeating a prompt.

    Fillers, frames, motives and answers of dev and test never occur in pool or seed; heads and tails are shared.
    Raises ValueError if the phrases cannot make that many distinct texts.
    """
    used: set[str] = set()
    sizes: dict[Split, int] = {"pool": pool, "seed": seed, "dev": dev, "test": test}
    return [
        _answered(split, _new_request(kind, split, rng, used), rng)
        for split, count in sizes.items()
        for kind in _kinds(count, rng)
    ]


def _kinds(count: int, rng: random.Random) -> list[Kind]:
    """Return the kinds by their exact shares in random order, so that a small split is as mixed as a large one."""
    shares: list[tuple[Kind, float]] = [("harmful", HARMFUL), ("lookalike", LOOKALIKE), ("protective", PROTECTIVE)]
    kinds: list[Kind] = [kind for kind, share in shares for _ in range(round(share * count))]
    kinds += ["everyday"] * (count - len(kinds))
    rng.shuffle(kinds)
    return kinds


def _new_request(kind: Kind, split: Split, rng: random.Random, used: set[str]) -> _Request:
    for _ in range(TRIES):
        request = _request(kind, rng, held=split in ("dev", "test"))
        if request.prompt not in used:
            used.add(request.prompt)
            return request
    raise ValueError(f"the demo phrases cannot make another {kind} text for {split}: ask for fewer samples")


def _request(kind: Kind, rng: random.Random, *, held: bool) -> _Request:
    clusters = _clusters("harmful" if kind == "protective" else kind)
    about = rng.choice(sorted({cluster["about"] for cluster in clusters}))
    cluster = rng.choice([cluster for cluster in clusters if cluster["about"] == about])
    act = rng.choice(cluster["heads"]).format(rng.choice(_side(cluster["fillers"], held)))
    prompt = _framed(act, kind, rng, held=held)
    if kind != "protective" and rng.random() < MOTIVE:
        prompt = f"{prompt} {_motive(kind == 'harmful', rng, held=held)}"
    prompt = _dressed(prompt, rng)
    return _Request(prompt, act, kind == "harmful", None if kind == "everyday" else about)


def _framed(act: str, kind: Kind, rng: random.Random, *, held: bool) -> str:
    """Put an act into a frame. Disguises are more common around harm, but no proof of it."""
    if kind == "protective":
        name = "protective"
    else:
        name = "disguises" if rng.random() < (0.3 if kind == "harmful" else 0.15) else "frames"
    return rng.choice(_side(_phrases()[name], held)).format(act)


def _motive(harmful: bool, rng: random.Random, *, held: bool) -> str:
    misleads = rng.random() < MISLEADING
    return rng.choice(_side(_phrases()["good_motives" if harmful == misleads else "bad_motives"], held))


def _dressed(text: str, rng: random.Random) -> str:
    """Add an opener, a tail or typing errors to some texts."""
    if rng.random() < 0.2:
        text = f"{rng.choice(_phrases()['openers'])} {text}"
    if rng.random() < 0.2:
        text = f"{text} {rng.choice(_phrases()['tails'])}"
    return _with_typos(text, rng) if rng.random() < TYPO else text


def _with_typos(text: str, rng: random.Random) -> str:
    """Swap two adjacent letters in two of the longer words."""
    words = text.split(" ")
    longer = [number for number, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    for number in rng.sample(longer, min(2, len(longer))):
        word, at = words[number], rng.randrange(1, len(words[number]) - 2)
        words[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _answered(split: Split, request: _Request, rng: random.Random) -> DemoSample:
    harm = "harmful" if request.harmful else "unharmful"
    if rng.random() >= WITH_ANSWER:
        labels: dict[str, str | None] = {"request": harm, "completion": None, "response": None}
        return DemoSample(split, request.prompt, None, labels, request.policy)
    kind = _answer_kind(request.harmful, rng)
    held = split in ("dev", "test")
    answers = _phrases()["answers"]
    answer = rng.choice(_side(answers[kind], held)).format(act=request.act, why=rng.choice(answers["reasons"]))
    labels = {
        "request": harm,
        "completion": "refusal" if kind == "refusal" else "compliance",
        "response": "harmful" if kind == "harm" else "unharmful",
    }
    return DemoSample(split, request.prompt, answer, labels, request.policy)


def _answer_kind(harmful: bool, rng: random.Random) -> str:
    draw = rng.random()
    if harmful:
        return "refusal" if draw < 0.5 else "harm" if draw < 0.9 else "redirect"
    return "help" if draw < 0.8 else "refusal"


def _side(phrases: Sequence[str], held: bool) -> Sequence[str]:
    """Return the last quarter of the phrases for dev and test, the rest for pool and seed."""
    kept = max(1, len(phrases) // HELD_OUT)
    return phrases[-kept:] if held else phrases[:-kept]


@cache
def _phrases() -> dict[str, Any]:
    return tomllib.loads(PHRASES.read_text(encoding="utf-8"))


def _clusters(kind: str) -> list[dict[str, Any]]:
    return [cluster for cluster in _phrases()["cluster"] if cluster["kind"] == kind]
