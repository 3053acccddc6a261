"""Answered rows for tests of robustness."""

from wizloop.loop.evaluation.answered_rows import AnsweredRow, Perturbed

HARM, FINE = "harmful", "unharmful"


def row(label: str, before: str | None, after: str | None, number: int = 0, *, p: float = 0.5) -> AnsweredRow:
    """A row, perturbed into upper case; `after` is "same" for one that this does not change."""
    asked = {} if after == "same" else {"upper": Perturbed("X", None, {"request": after}, {}, cut=number % 2 == 1)}
    return AnsweredRow(
        benchmark="mine",
        row=f"mine:{number}",
        sample=None,
        prompt=f"prompt {number}",
        response=None,
        main="request",
        labels={"request": label},
        verdict={"request": before},
        probability={"request": p},
        confidence=None,
        cell=None,
        policy=None,
        perturbed=asked,
    )
