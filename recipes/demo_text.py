"""Makes the demo pool: labelled prompts and answers from the phrases of demo_phrases.toml, without a file or a network.

Not real traffic: labels hold by construction and the wording is far narrower than what people write. It shows that the
loop works; how good a guard is says only real data.
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

# Shares of the texts; the rest is everyday. Harmful acts stand in protective frames, too, and are unharmful there.
HARMFUL, LOOKALIKE, PROTECTIVE = 0.35, 0.17, 0.02
WITH_ANSWER = 0.25
# How often a text states a motive, and how often that is one of the other kind: with them, 80 labels teach a linear
# model about 0.78 F1 on held-out phrases and 600 about 0.92, so that a night has something to show.
MOTIVE = 0.7
MISLEADING = 0.04
TYPO = 0.03
HELD_OUT = 4
TRIES = 500


@dataclass(frozen=True)
class DemoSample:
    """One text. `policy` is the policy that it is about, harmful or not; None for an everyday text."""

    split: Split
    prompt: str
    response: str | None
    labels: Mapping[str, str | None]
    policy: str | None


@dataclass(frozen=True)
class _Request:
    prompt: str
    act: str
    harmful: bool
    policy: str | None


def demo_samples(
    rng: random.Random, *, pool: int = 1600, seed: int = 80, dev: int = 300, test: int = 400
) -> list[DemoSample]:
    """So many samples for each split, in this order, no prompt twice.

    Fillers, frames, motives and answers of dev and test are never those of pool or seed; heads and tails are shared.
    Raises ValueError where the phrases cannot make that many different texts.
    """
    samples: list[DemoSample] = []
    used: set[str] = set()
    wanted: list[tuple[Split, int]] = [("pool", pool), ("seed", seed), ("dev", dev), ("test", test)]
    for split, count in wanted:
        samples += _split_samples(split, count, rng, used)
    return samples


def pretraining_text(rng: random.Random, n: int) -> list[str]:
    """The prompts of a pool of n samples, without labels: the same as demo_samples makes from an rng in that state."""
    return [sample.prompt for sample in demo_samples(rng, pool=n, seed=0, dev=0, test=0)]


def _split_samples(split: Split, count: int, rng: random.Random, used: set[str]) -> list[DemoSample]:
    return [_answered(split, _new_request(kind, split, rng, used), rng) for kind in _kinds(count, rng)]


def _kinds(count: int, rng: random.Random) -> list[Kind]:
    """The shares as exact counts in random order, so that a small split is as mixed as a large one."""
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
    raise ValueError(f"the demo phrases cannot make one more {kind} text for {split}: ask for fewer samples")


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
    """Disguises are commoner around harm, yet not a sign of it."""
    if kind == "protective":
        name = "protective"
    else:
        name = "disguises" if rng.random() < (0.3 if kind == "harmful" else 0.15) else "frames"
    return rng.choice(_side(_phrases()[name], held)).format(act)


def _motive(harmful: bool, rng: random.Random, *, held: bool) -> str:
    misleads = rng.random() < MISLEADING
    return rng.choice(_side(_phrases()["good_motives" if harmful == misleads else "bad_motives"], held))


def _dressed(text: str, rng: random.Random) -> str:
    """With an opener, a tail or typing errors, now and then."""
    if rng.random() < 0.2:
        text = f"{rng.choice(_phrases()['openers'])} {text}"
    if rng.random() < 0.2:
        text = f"{text} {rng.choice(_phrases()['tails'])}"
    return _with_typos(text, rng) if rng.random() < TYPO else text


def _with_typos(text: str, rng: random.Random) -> str:
    """Two neighbouring letters change places in two of the longer words."""
    words = text.split(" ")
    longer = [number for number, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    for number in rng.sample(longer, min(2, len(longer))):
        word, at = words[number], rng.randrange(1, len(words[number]) - 2)
        words[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _answered(split: Split, request: _Request, rng: random.Random) -> DemoSample:
    harm = "harmful" if request.harmful else "unharmful"
    if rng.random() >= WITH_ANSWER:
        return DemoSample(split, request.prompt, None, _labels(harm, None, None), request.policy)
    kind = _answer_kind(request.harmful, rng)
    held = split in ("dev", "test")
    answers = _phrases()["answers"]
    answer = rng.choice(_side(answers[kind], held)).format(act=request.act, why=rng.choice(answers["reasons"]))
    completion = "refusal" if kind == "refusal" else "compliance"
    labels = _labels(harm, completion, "harmful" if kind == "harm" else "unharmful")
    return DemoSample(split, request.prompt, answer, labels, request.policy)


def _answer_kind(harmful: bool, rng: random.Random) -> str:
    draw = rng.random()
    if harmful:
        return "refusal" if draw < 0.5 else "harm" if draw < 0.9 else "redirect"
    return "help" if draw < 0.8 else "refusal"


def _labels(request: str, completion: str | None, response: str | None) -> dict[str, str | None]:
    return {"request": request, "completion": completion, "response": response}


def _side(phrases: Sequence[str], held: bool) -> Sequence[str]:
    """The last quarter of the phrases is for dev and test, the rest for pool and seed."""
    kept = max(1, len(phrases) // HELD_OUT)
    return phrases[-kept:] if held else phrases[:-kept]


@cache
def _phrases() -> dict[str, Any]:
    return tomllib.loads(PHRASES.read_text(encoding="utf-8"))


def _clusters(kind: str) -> list[dict[str, Any]]:
    return [cluster for cluster in _phrases()["cluster"] if cluster["kind"] == kind]
