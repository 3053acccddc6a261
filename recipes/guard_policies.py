"""Keys of [guard] for the policies in its prompt. The section inherits them: sections.py has no room for more."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHIPPED = "shipped"


class PolicyKeys(BaseModel):
    """The policies that stand in every prompt of the guard, and how they vary while it is trained."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    # At their defaults none of these keys is stored, so that the hashes of older recipes stay.
    policies: Annotated[str, Field(pattern=r"^(shipped|.+\.toml)$")] | None = Field(
        default=None, exclude_if=lambda given: given is None
    )
    """Policies between the instruction and every sample: "shipped" (the six of the policy reasoner), or your own .toml
    file, relative to the folder in which wizloop is started, whose policies the teachers get too. None shows none."""
    policies_ask: Literal["all", "each"] = Field(default="all", exclude_if=lambda given: given == "all")
    """all shows all policies in one question; each asks one question for each policy, and any harmful verdict wins:
    P(harmful) is the maximum. It takes as many times as long as there are policies."""
    policies_text: Literal["minimal", "full"] = Field(default="full", exclude_if=lambda given: given == "full")
    """minimal shows a policy's name and its `short` text (without one, the first sentence of its description); full
    shows name, description and examples."""
    policies_vary: bool = Field(default=True, exclude_if=lambda given: given is True)
    """Vary the policies of training prompts: their order, their wording where the file has `wordings`, and which of
    them are shown; a sample whose violated policies are not shown is taught as unharmful. Inference never varies."""
    policies_left_out: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), exclude_if=lambda given: not given
    )
    """Policies, by id or name, that no training prompt shows, and whose samples are not trained on. They are shown when
    the guard is measured and used: their figures tell whether it reads policies it was never trained on."""

    @model_validator(mode="after")
    def _policies_are_given(self) -> "PolicyKeys":
        changed = [name for name in PolicyKeys.model_fields if getattr(self, name) != _default(name)]
        if self.policies is None and changed:
            raise ValueError(f'{changed[0]} is about the policies: set policies to "shipped" or to a .toml file')
        return self

    @property
    def own_policies(self) -> str | None:
        """The user's own policy file; None for the shipped policies, and for none."""
        return None if self.policies == SHIPPED else self.policies


def _default(name: str) -> object:
    return PolicyKeys.model_fields[name].default
