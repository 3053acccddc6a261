"""The key of [guard] that says in which way it answers. The section inherits it: sections.py has no room for more."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AnswerKeys(BaseModel):
    """The way in which a guard answers."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    # At its default it is not stored, so that the hashes of older recipes stay.
    answer: Literal["written", "direct", "traces", "linear", "auto"] = Field(
        default="written", exclude_if=lambda given: given == "written"
    )
    """Where a verdict is read. "written" is the guard's own words, at once or by traces, as classify.verdict chooses;
    "direct" and "traces" are one of the two. "linear" is a logistic regression on the base's hidden states and the
    words of a text, fitted on all approved labels: one pass, no token written, and nothing that training changes.
    "auto" takes for each task whichever of all is best on dev. The linear way is measured beside the others
    always."""
