"""No text of a pool, a model or a teacher reaches a screen with a character that acts or hides."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wizloop.store.display import shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain text\nin two lines", "plain text\nin two lines"),
        ("Zoë — 安全 ✓", "Zoë — 安全 ✓"),
        ("\x1b]52;c;cm0=\x07", "␛]52;c;cm0=␇"),
        ("\x1b[2J\x00", "␛[2J␀"),
        ("a\tb\rc\x7f", "a␉b␍c␡"),
        ("\x9b2J\x85", "⟨U+009B⟩2J⟨U+0085⟩"),
        ("safe\u202egnp", "safe⟨U+202E⟩gnp"),
        ("\u2066a\u2069\u200e\u200f\u061c", "⟨U+2066⟩a⟨U+2069⟩⟨U+200E⟩⟨U+200F⟩⟨U+061C⟩"),
        ("a\u200bb\u200dc\u2060\ufeff", "a⟨U+200B⟩b⟨U+200D⟩c⟨U+2060⟩⟨U+FEFF⟩"),
        ("\U000e0041\U000e0100\ufe0f", "⟨U+E0041⟩⟨U+E0100⟩⟨U+FE0F⟩"),
        ("\u3164\u2028\ue000\ud800", "⟨U+3164⟩⟨U+2028⟩⟨U+E000⟩⟨U+D800⟩"),
        ("[red]not markup[/]", "[red]not markup[/]"),
        ("e" + "\u0301" * 9 + "x", "e" + "\u0301" * 4 + "x"),
        ("", ""),
    ],
)
def test_shown(text: str, seen: str) -> None:
    assert shown(text) == seen


@pytest.mark.parametrize(
    ("text", "limit", "seen"),
    [
        ("x" * 20, 20, "x" * 20),
        ("x" * 21, 20, "x" * 11 + "⟨cut⟩"),
        ("é" * 11, 20, "é" * 5 + "⟨cut⟩"),
        ("\u202e" * 3, 20, "⟨cut⟩"),
        ("\u202e" * 3, 33, "⟨U+202E⟩" * 2 + "⟨cut⟩"),
        ("e" + "\u0301" * 500, 20, "e" + "\u0301" * 4 + "⟨cut⟩"),
    ],
)
def test_a_cut_is_seen_and_splits_no_character(text: str, limit: int, seen: str) -> None:
    assert shown(text, limit) == seen


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        shown("text", 15)


HOSTILE = st.text(
    alphabet=st.one_of(
        st.characters(categories=("Cc", "Cf", "Co", "Cs", "Mn", "Me", "Zl", "Zp")),
        st.characters(),
        st.sampled_from("a\n⟨⟩\u0301"),
    ),
    max_size=60,
)


@given(HOSTILE, st.integers(16, 200))
@example("a\u0301\u0301\u0301\u200d\u0301\u0301\u0301", 200)
def test_what_is_shown_is_harmless_short_and_stays_so(text: str, limit: int) -> None:
    seen = shown(text, limit)
    assert {unicodedata.category(c) for c in seen.replace("\n", "")}.isdisjoint({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
    assert len(seen.encode()) <= limit
    assert shown(seen, limit) == seen
