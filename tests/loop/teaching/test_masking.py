"""What is masked before a text leaves, what is not, and that no pattern of a recipe hangs."""

import time

import pytest
from pydantic import ValidationError

from wizloop.loop.teaching.masking import Mask, TooSlow, mask_of, masked
from wizloop.recipes.teaching import Teachers

EVERYTHING = Mask(("email", "phone", "card"), ())


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("Write to ann.lee+a@mail.example.co.uk, please.", "Write to [email], please."),
        ("mailto:o'neil@x-y.io", "mailto:[email]"),
        ("call +1 (555) 123-4567 now", "call [phone] now"),
        ("+49 (0) 171 / 1234567", "[phone]"),
        ("+8613800138000", "[phone]"),
        ("(555) 123-4567 or 555.123.4567", "[phone] or [phone]"),
        ("020 7946 0958", "[phone]"),
        ("06 12 34 56 78", "[phone]"),
        ("555-0123", "[phone]"),
        ("98765 43210", "[phone]"),
        ("paid with 4111 1111 1111 1111.", "paid with [card]."),
        ("4111-1111-1111-1111,378282246310005", "[card],[card]"),
        ("row 1 4111 1111 1111 1111 123", "row 1 [card] 123"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[card]"),
    ],
)
def test_what_is_masked(text: str, sent: str) -> None:
    assert masked(EVERYTHING, text, text) == (sent, sent)


@pytest.mark.parametrize(
    "text",
    [
        "no@domain, @handle",
        "on 2026-11-30, 01.02.2026 or 12/31/1999",
        "pi is 3.14159265358, and 0.12345678 is small",
        "the server 192.168.10.12, version 1.2.3",
        "ISBN 978-3-16-148410-0, $1,234,567.89, 10 000 000 people, 1999-2005",
        "card 4111 1111 1111 1112",
        "order 1234567890123456",
    ],
)
def test_what_is_left_as_it_is(text: str) -> None:
    assert masked(EVERYTHING, text, None) == (text, None)


def test_each_kind_is_asked_for_by_itself() -> None:
    text = "a@b.co 555-123-4567 4111111111111111"
    assert Mask(("email",), ()).masked(text) == "[email] 555-123-4567 4111111111111111"
    assert Mask(("phone",), ()).masked(text) == "a@b.co [phone] 4111111111111111"
    assert Mask(("card",), ()).masked(text) == "a@b.co 555-123-4567 [card]"
    assert Mask((), (r"\bb\.co\b", r"\d{3}-")).masked(text) == "a@[masked] [masked][masked]4567 4111111111111111"
    assert mask_of(Teachers()) is None


@pytest.mark.parametrize("part", ["a", "1", "1 ", "a@", "a@b.", "(0", "+1-", "+( ", "4111 1111 1111 111 "])
def test_long_texts_are_masked_in_a_time_that_grows_with_them(part: str) -> None:
    began = time.monotonic()
    EVERYTHING.masked(part * (200_000 // len(part)))
    assert time.monotonic() - began < 5


def test_a_pattern_that_would_hang_is_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(TooSlow, match="takes too long: simplify it"):
        Mask((), ("(?:a|aa)+$",)).masked("a" * 80 + "b")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "is no regular expression"),
        ("x*", "matches an empty text"),
        ("((a{1000}){1000}){1000}", "repeats too much"),
        ("a(?R)", "repeats too much"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_recipe(pattern: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Teachers(mask_patterns=(pattern,))
