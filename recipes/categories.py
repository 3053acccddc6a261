"""Names of categories in a recipe: `[guard] categories`, and what may stand in the place of the list.

A name is a word of the guard's answers: it must be readable in a list that commas separate, on one line.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST, LONGEST = 64, 60
"""Categories of a guard, and characters of a name."""
POLICIES = "policies"
"""In place of a list: the names of the guard's policies."""
_NONE = "none"


def checked_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names as they are. Raises ValueError for one that an answer cannot hold, and for two that are one."""
    if len(names) > MOST:
        raise ValueError(f"{len(names)} categories: give at most {MOST}")
    known: dict[str, str] = {}
    for name in names:
        if fault := _fault(name):
            raise ValueError(f"the category {name[:LONGEST]!r} {fault}")
        if (twin := known.setdefault(plain(name), name)) is not name:
            raise ValueError(f"the categories {twin!r} and {name!r} are read as one: give each a name of its own")
    return names


def plain(name: str) -> str:
    """Return a name as it is compared: case-folded, with one space for each run of blanks, "_" and "-"."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _fault(name: str) -> str | None:
    if not plain(name) or plain(name) == _NONE:
        return "is no name: None is what a guard answers where no category applies"
    if len(name) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if name != name.strip() or not name.isprintable() or {",", ";"} & set(name):
        return "must be one line without commas, semicolons and blanks around it"
    return None


def _checked(given: tuple[str, ...] | str) -> tuple[str, ...] | str:
    if not isinstance(given, str):
        return checked_names(given)
    if given != POLICIES and not given.endswith((".txt", ".toml")):
        raise ValueError(f'give a list of names, "{POLICIES}", or a .txt or .toml file')
    return given


Names = Annotated[tuple[str, ...] | str, AfterValidator(_checked)]
"""A list of names, "policies", or a file: one name a line (.txt), or policies (.toml)."""
Margin = Annotated[float, Field(ge=0, le=1)] | None


def _unset() -> Any:
    return Field(default=None, exclude_if=lambda given: given is None)


class Bounds(BaseModel):
    """Bounds of the gate on categories, as fields of [gate]; one that is left out does not bind."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    category_macro_margin: Margin = _unset()
    """Macro-F1 over the categories that a challenger may be below the champion, or the base; None sets no bound."""
    category_margin: Margin = _unset()
    """F1 on any one category that it may be below; None sets no bound."""
    category_exact_margin: Margin = _unset()
    """Share of the rows with exactly the right categories that it may be below; None sets no bound."""
