"""The section [members] of a recipe: the ensemble whose disagreement is measured."""

from typing import Annotated

from pydantic import Field, model_validator

from wizloop.recipes.sections import Section


class OtherMember(Section):
    """A member of the ensemble that no adapter makes: another model, or the round's guard asked otherwise."""

    base: str = ""
    """Another model, as in `guard.base`, asked as it is and never trained; empty is the guard that the round trains."""
    instruction: Annotated[str, Field(pattern=r"^(|full|none|.+\.(md|txt))$")] = ""
    """Another instruction, as in `guard.instruction`; empty is the run's."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Temperature of its traces, whose mean probability is its answer; 0 is the direct answer."""
    traces: Annotated[int, Field(ge=1, le=16)] = 4
    """Traces per sample, if it has a temperature."""

    @model_validator(mode="after")
    def _differs(self) -> "OtherMember":
        if not (self.base or self.instruction or self.temperature):
            raise ValueError("a member that differs in nothing: set its base, instruction or temperature")
        if self.base == "tiny":
            raise ValueError('base: "tiny" is built for one run: name a folder, a GGUF file or a hub name')
        return self


class Members(Section):
    """Ensemble whose disagreement is measured."""

    count: Annotated[int, Field(ge=0, le=8)] = 2
    """Members besides the champion, each a training of its own. With 0 and no others a committee of linear models on
    the base's hidden states and TF-IDF disagrees instead, which costs seconds."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.67
    """Share of the training data for each member, as if one of three folds is left out."""
    others: Annotated[tuple[OtherMember, ...], Field(max_length=4)] = ()
    """Members beside these adapters, as tables [[members.others]] with base, instruction, temperature or traces. They
    predict what the adapters do; a base predicts the pool once, the others anew in every round."""
