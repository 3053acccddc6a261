"""What is masked in a text before it leaves for a teacher: addresses, numbers and a recipe's own patterns.

Own patterns run with a deadline: a recipe must not hang a night. The text in the store is never changed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wizloop.recipes.teaching import Teachers

TIMEOUT_S: Final = 0.2
"""For one own pattern on one text."""
OWN: Final = "[masked]"
_MOST_GROUPS: Final = 8
"""A run of more groups is taken for one number."""
_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[\w-]{2,63}")
_GAP: Final = r"[ .\-/\u00a0\u2009\u202f\u2011]"
_CARD: Final = re.compile(rf"(?<!\d)\d(?:{_GAP}?\d){{12,23}}(?!\d)")
_GROUP: Final = re.compile(rf"({_GAP})")
_PHONE: Final = re.compile(
    # With a country code; with a leading 0; as in North America, or its local part; mobile numbers without a 0.
    rf"(?<![\w+])(?:\+{_GAP}?\(?\d(?:{_GAP}{{0,2}}[()]?{_GAP}?\d){{6,14}}"
    rf"|\(?0\d{{1,5}}\)?(?:{_GAP}{{0,3}}\d){{5,12}}"
    rf"|(?:1{_GAP})?\(?[2-9]\d{{2}}\)?{_GAP}{{0,2}}\d{{3}}{_GAP}?\d{{4}}"
    rf"|[2-9]\d{{2}}[-.\u2011]\d{{4}}|1\d{{2}}{_GAP}\d{{4}}{_GAP}\d{{4}}|\d{{4}}{_GAP}\d{{3}}{_GAP}\d{{3}}"
    rf"|[6-9]\d{{4}}{_GAP}\d{{5}})(?!\w)"
)
_DATE: Final = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./-]\d{1,2}[./-]\d{1,2}|0[.,]\d+")


class TooSlow(ValueError):
    """An own pattern took too long on a text, which is therefore not sent."""


@dataclass(frozen=True)
class Mask:
    """Kinds and own patterns that are masked."""

    kinds: tuple[str, ...]
    patterns: tuple[str, ...]

    def masked(self, text: str) -> str:
        """Return the text with everything masked. Raises TooSlow."""
        return _masked(self, text)


def mask_of(section: Teachers) -> Mask | None:
    """Return what a recipe masks, or None if it is nothing."""
    return Mask(section.mask, section.mask_patterns) if section.mask or section.mask_patterns else None


def masked(mask: Mask | None, prompt: str, response: str | None) -> tuple[str, str | None]:
    """Return a sample's texts as they are sent. Raises TooSlow."""
    if mask is None:
        return prompt, response
    return mask.masked(prompt), None if response is None else mask.masked(response)


@lru_cache(maxsize=1024)
def _masked(mask: Mask, text: str) -> str:
    for pattern in mask.patterns:
        text = _own(pattern, text)
    for kind, hide in _KINDS.items():
        if kind in mask.kinds:
            text = hide(text)
    return text


def _own(pattern: str, text: str) -> str:
    import regex

    try:
        return str(regex.sub(pattern, OWN, text, timeout=TIMEOUT_S))
    except (TimeoutError, MemoryError):
        raise TooSlow(f"the pattern {pattern!r} of teacher.mask_patterns takes too long: simplify it") from None


def _hide_emails(text: str) -> str:
    return _EMAIL.sub("[email]", text)


def _hide_cards(text: str) -> str:
    return _CARD.sub(_hide_card, text)


def _hide_card(found: re.Match[str]) -> str:
    """Mask a card's number: some consecutive groups of a run of digits."""
    parts = _GROUP.split(found[0])
    if len(parts) > 2 * _MOST_GROUPS:
        parts = ["".join(parts[::2])]
    for begin in range(0, len(parts), 2):
        for end in range(len(parts), begin, -2):
            number = "".join(parts[begin:end:2])
            if 13 <= len(number) <= 19 and _luhn(number):
                return "".join([*parts[:begin], "[card]", *parts[end:]])
    return found[0]


def _hide_phones(text: str) -> str:
    return _PHONE.sub(lambda found: found[0] if _DATE.fullmatch(found[0]) else "[phone]", text)


_KINDS: Final[Mapping[str, Callable[[str], str]]] = {
    # Cards first: a part of one would be a phone number.
    "email": _hide_emails,
    "card": _hide_cards,
    "phone": _hide_phones,
}


def _luhn(number: str) -> bool:
    """Return whether the check digit of a card's number is right."""
    digits = [int(one) for one in number]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return any(digits) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
