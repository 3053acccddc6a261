"""Answered rows for tests of robustness."""

from wizloop.loop.evaluation.answered_rows import AnsweredRow, Perturbed

HARM, FINE = "harmful", "unharmful"


def row(label: str, before: str | None, after: str | None, number: int = 0, *, p: float = 0.5) -> AnsweredRow:
    """A row, perturbed into upper case; `after` is "same" for one that this does not change."""
    asked = {} if after == "same" else {"upper": Perturbed("X", None, {"request": after}, {}, cut=number % 2 == 1)}
    return AnsweredRow(
        *("mine", f"mine:{number}", None, f"prompt {number}", None, "request", {"request": label}),
        *({"request": before}, {"request": p}, None, None, None),
        perturbed=asked,
    )
