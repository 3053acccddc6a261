"""Perturb a text so that a person still reads the same in it: case, spacing and light obfuscation.

Pure functions of a text and a seed. They are those with which published work measures guards and content filters:

- case: random capitals are Best-of-N's (Hughes et al. 2024, arXiv:2412.03556, appendix A.1), the others its plain forms
- spacing: spaces between letters and doubled ones (Gröndahl et al. 2018, arXiv:1808.09115; Hackett et al. 2025,
  arXiv:2504.11168)
- obfuscation: leetspeak, homoglyphs and zero-width characters (Hackett et al. 2025), punctuation inside words (Hosseini
  et al. 2017, arXiv:1702.08138), typos (Pruthi et al. 2019, arXiv:1905.11268: swap, drop, add, keyboard)

Where words are drawn, about half of those that can be changed are, and at least one. A text in which nothing can be
changed, such as one in a script without case, is returned as it is.
"""

import random
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, NamedTuple

Change = Callable[[str, random.Random], str]

SHARE: Final = 0.5
"""Share of the words, or of the spaces, that are changed where they are drawn."""
CAPITALS: Final = 0.6
"""Best-of-N's probability that a letter becomes a capital."""
LEET: Final = str.maketrans("aeiostAEIOST", "431057431057")
HOMOGLYPHS: Final = str.maketrans("aceiopxyABCEHKMOPTX", "асеіорхуАВСЕНКМОРТХ")
"""Latin letters to the Cyrillic ones that look the same."""
ZERO_WIDTH: Final = "\u200b"
KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of a keyboard."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SPACES = re.compile(r"[ \t]+")


class Perturbation(NamedTuple):
    """One way to perturb a text."""

    family: str
    change: Change


def chosen(names: str) -> tuple[str, ...]:
    """Return the perturbations that a list of names and families stands for, in their own order.

    "all" is every one. Raises ValueError for a name that is neither.
    """
    wanted = {name.strip().casefold() for name in names.split(",") if name.strip()}
    known = ["all", *_FAMILIES, *PERTURBATIONS]
    for name in sorted(wanted):
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"{name[:40]!r} is no perturbation: {hint}there are {', '.join(known)}")
    if not wanted:
        raise ValueError(f"no perturbation is named: there are {', '.join(known)}")
    return tuple(name for name, one in PERTURBATIONS.items() if wanted & {"all", one.family, name})


def perturbed(name: str, text: str, seed: int) -> str:
    """Return a perturbed text, the same for the same name, text and seed. Raises KeyError for an unknown name."""
    return PERTURBATIONS[name].change(text, random.Random(f"{seed} {name} {text}"))


def _of_words(change: Change, able: Callable[[str], bool]) -> Change:
    """Return what changes drawn words, of those that it is able to change."""

    def changed(text: str, rng: random.Random) -> str:
        places = [word.span() for word in _WORD.finditer(text) if able(word[0])]
        drawn = [place for place in places if rng.random() < SHARE] or ([rng.choice(places)] if places else [])
        pieces, at = [], 0
        for start, end in drawn:
            pieces += [text[at:start], change(text[start:end], rng)]
            at = end
        return "".join((*pieces, text[at:]))

    return changed


def _mapped(table: Mapping[int, int]) -> Change:
    """Return what replaces characters in drawn words, of those that hold one."""
    return _of_words(lambda word, _: word.translate(table), lambda word: word.translate(table) != word)


def _title(text: str, _: random.Random) -> str:
    return _WORD.sub(lambda word: word[0][:1].upper() + word[0][1:].lower(), text)


def _random_case(text: str, rng: random.Random) -> str:
    return "".join(one.upper() if rng.random() < CAPITALS else one for one in text)


def _double_spaces(text: str, _: random.Random) -> str:
    return _SPACES.sub(lambda spaces: spaces[0] * 2, text)


def _newlines(text: str, rng: random.Random) -> str:
    places = [match.span() for match in _SPACES.finditer(text)]
    drawn = {place for place in places if rng.random() < SHARE} or ({rng.choice(places)} if places else set())
    return _SPACES.sub(lambda spaces: "\n" if spaces.span() in drawn else spaces[0], text)


def _punctuated(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word))
    return f"{word[:at]}.{word[at:]}"


def _mistyped(word: str, rng: random.Random) -> str:
    """Return a word with one typo behind its first letter and before its last."""
    at = rng.randrange(1, len(word) - 1)
    before, here, after = word[:at], word[at], word[at + 1 :]
    edits = [before + after, before + here + here + after]
    if at + 2 < len(word) and after[0] != here:
        edits.append(before + after[0] + here + after[1:])
    edits += [before + key + after for key in _beside(here)]
    return rng.choice(edits)


def _beside(letter: str) -> list[str]:
    """Return the keys left and right of a letter's."""
    row = next((row for row in KEYS if letter in row), "")
    at = row.find(letter)
    return [row[near] for near in (at - 1, at + 1) if row and 0 <= near < len(row)]


def _has_middle(word: str) -> bool:
    return len(word) > 3 and word.isalpha()


_FAMILIES: Final[Mapping[str, Mapping[str, Change]]] = {
    "case": {
        "upper": lambda text, _: text.upper(),
        "lower": lambda text, _: text.lower(),
        "title": _title,
        "random-case": _random_case,
    },
    "spacing": {
        "double-spaces": _double_spaces,
        "newlines": _newlines,
        "letters": _of_words(lambda word, _: " ".join(word), _has_middle),
    },
    "obfuscation": {
        "leetspeak": _mapped(LEET),
        "homoglyphs": _mapped(HOMOGLYPHS),
        "zero-width": _of_words(lambda word, _: ZERO_WIDTH.join(word), _has_middle),
        "punctuation": _of_words(_punctuated, _has_middle),
        "typos": _of_words(_mistyped, _has_middle),
    },
}

PERTURBATIONS: Final[Mapping[str, Perturbation]] = MappingProxyType(
    {name: Perturbation(family, change) for family, ways in _FAMILIES.items() for name, change in ways.items()}
)
"""By name."""
