"""What a call costs: a table of prices by model and day, and tokens into micro-dollars. It holds no budget.

One dollar for a million tokens is one micro-dollar for a token, so that a cost is a sum of products, rounded up.
"""

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wizloop.backends.teachers.base import Usage
from wizloop.recipes.shipped import HERE

SHIPPED = HERE / "prices.toml"
_SNAPSHOT = re.compile(r"-\d{8}$")
_Rate = Annotated[float, Field(ge=0)]


class PriceError(ValueError):
    """A price that is needed is not known, or the file of prices cannot be used."""


class Price(BaseModel):
    """One entry of the table. Rates are US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    provider: str
    model: str
    from_: Annotated[date, Field(alias="from")]
    input: _Rate
    output: _Rate
    cache_read: _Rate
    cache_write: _Rate
    cache_write_1h: _Rate | None = None
    batch: Annotated[float, Field(gt=0, le=1)] = 0.5
    above_tokens: Annotated[int, Field(ge=0)] = 0
    most_output: Annotated[int, Field(ge=1)] | None = None
    cache_from: Annotated[int, Field(ge=0)] = 0

    def micro(self, usage: Usage, *, batch: bool) -> float:
        """Micro-dollars for these tokens."""
        whole = (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cached_tokens * self.cache_read
            + usage.cache_write_tokens * self._write(batch)
        )
        return whole * self.batch if batch else whole

    def worst_micro(self, usage: Usage, *, batch: bool) -> float:
        """Micro-dollars if every token of the prompt were charged at the dearest rate that there is for one."""
        dearest = max(self.input, self.cache_read, self._write(batch))
        whole = _prompt(usage) * dearest + usage.output_tokens * self.output
        return whole * self.batch if batch else whole

    def _write(self, batch: bool) -> float:
        """A batch keeps its prefix for an hour, a live call for five minutes."""
        return self.cache_write_1h if batch and self.cache_write_1h is not None else self.cache_write


@dataclass(frozen=True, slots=True)
class Tariff:
    """The prices of one model on one day, by the length of the prompt."""

    tiers: tuple[Price, ...]
    """By rising `above_tokens`, the first from 0."""

    def cost_micro(self, usage: Usage, *, batch: bool) -> int:
        """What these tokens cost, in micro-dollars, rounded up."""
        return _up(self._tier(_prompt(usage)).micro(usage, batch=batch))

    def total_micro(self, usage: Usage, calls: float, *, batch: bool) -> float:
        """What so many calls cost that take these tokens together, each about as many, in micro-dollars."""
        return self._tier(math.ceil(_prompt(usage) / max(calls, 1))).micro(usage, batch=batch)

    def worst_micro(self, usage: Usage, *, batch: bool) -> int:
        """The most that a call can cost whose tokens are bounded by `usage`, in micro-dollars, rounded up."""
        reached = [tier for tier in self.tiers if tier.above_tokens < max(_prompt(usage), 1)]
        return _up(max(tier.worst_micro(usage, batch=batch) for tier in reached))

    @property
    def most_output(self) -> int | None:
        """The most tokens that the model writes in one answer; None where the table does not say."""
        return min((tier.most_output for tier in self.tiers if tier.most_output is not None), default=None)

    @property
    def cache_from(self) -> int:
        """The least tokens of a prompt's beginning that the provider keeps in its cache."""
        return self.tiers[0].cache_from

    def as_json(self) -> list[dict[str, Any]]:
        """As it is kept with a call."""
        no_price = {"most_output", "cache_from"}
        return [tier.model_dump(mode="json", by_alias=True, exclude=no_price) for tier in self.tiers]

    def _tier(self, prompt_tokens: int) -> Price:
        return [tier for tier in self.tiers if tier.above_tokens < max(prompt_tokens, 1)][-1]


@dataclass(frozen=True, slots=True)
class Table:
    """Every price that is known."""

    prices: tuple[Price, ...]

    def tariff(self, provider: str, model: str, day: date) -> Tariff | None:
        """The prices that hold on a day, or None. A dated snapshot of a model costs what the model costs."""
        names = {model, _SNAPSHOT.sub("", model)}
        begun = [one for one in self.prices if one.provider == provider and one.model in names and one.from_ <= day]
        newest: dict[int, Price] = {}
        for one in sorted(begun, key=lambda price: price.from_):
            newest[one.above_tokens] = one
        if 0 not in newest:
            return None
        return Tariff(tuple(newest[above] for above in sorted(newest)))

    def known(self, provider: str, day: date) -> list[str]:
        """The models of a provider that have a price on that day."""
        return sorted({one.model for one in self.prices if one.provider == provider and one.from_ <= day})


def load(own: Path | None = None) -> Table:
    """The shipped table, with `own` entries before it: they stand for their model alone. Raises PriceError."""
    shipped = _read(SHIPPED)
    if own is None:
        return Table(tuple(shipped))
    mine = _read(own)
    replaced = {(one.provider, one.model) for one in mine}
    return Table((*mine, *(one for one in shipped if (one.provider, one.model) not in replaced)))


def _read(path: Path) -> Sequence[Price]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(list[Price]).validate_python(table.get("price", []))
    except OSError as error:
        raise PriceError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PriceError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        number, *key = first["loc"]
        raise PriceError(f"{path}: price {int(number) + 1}, {'.'.join(map(str, key))}: {first['msg']}") from None


def _prompt(usage: Usage) -> int:
    return usage.input_tokens + usage.cached_tokens + usage.cache_write_tokens


def _up(micro: float) -> int:
    # A product of binary fractions may lie a hair above the whole number that it stands for.
    return math.ceil(round(micro, 6))
