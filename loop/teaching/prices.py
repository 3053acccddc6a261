"""Prices by model and day, and the cost of tokens in micro-dollars. Holds no budget.

One dollar per million tokens is one micro-dollar per token: a cost is a sum of products, rounded up.
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

from wizloop import regular_file
from wizloop.backends.teachers.base import Usage
from wizloop.recipes.shipped import HERE

SHIPPED = HERE / "prices.toml"
_SNAPSHOT = re.compile(r"-\d{8}$")
_Rate = Annotated[float, Field(ge=0)]


class PriceError(ValueError):
    """A needed price is unknown, or the price file is invalid."""


class Price(BaseModel):
    """One entry of the table. Rates are US dollars per million tokens."""

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
        """Return the micro-dollars for these tokens."""
        whole = (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cached_tokens * self.cache_read
            + usage.cache_write_tokens * self._write(batch)
        )
        return whole * self.batch if batch else whole

    def worst_micro(self, usage: Usage, *, batch: bool) -> float:
        """Return the micro-dollars if every prompt token were charged at the highest prompt rate."""
        dearest = max(self.input, self.cache_read, self._write(batch))
        whole = usage.prompt_tokens * dearest + usage.output_tokens * self.output
        return whole * self.batch if batch else whole

    def _write(self, batch: bool) -> float:
        """Return the cache-write rate: a batch caches its prefix for an hour, a live call for five minutes."""
        return self.cache_write_1h if batch and self.cache_write_1h is not None else self.cache_write


@dataclass(frozen=True, slots=True)
class Tariff:
    """The prices of one model on one day, by prompt length."""

    tiers: tuple[Price, ...]
    """Sorted by `above_tokens`, the first from 0."""

    def cost_micro(self, usage: Usage, *, batch: bool) -> int:
        """Return the cost of these tokens, in micro-dollars, rounded up."""
        return _up(self._tier(usage.prompt_tokens).micro(usage, batch=batch))

    def total_micro(self, usage: Usage, calls: float, *, batch: bool) -> float:
        """Return the cost, in micro-dollars, of calls that take these tokens together, each about as many."""
        return self._tier(math.ceil(usage.prompt_tokens / max(calls, 1))).micro(usage, batch=batch)

    def worst_micro(self, usage: Usage, *, batch: bool) -> int:
        """Return the most that a call with at most these tokens can cost, in micro-dollars, rounded up."""
        reached = [tier for tier in self.tiers if tier.above_tokens < max(usage.prompt_tokens, 1)]
        return _up(max(tier.worst_micro(usage, batch=batch) for tier in reached))

    @property
    def most_output(self) -> int | None:
        """Return the model's limit of tokens in one answer; None if the table does not give one."""
        return min((tier.most_output for tier in self.tiers if tier.most_output is not None), default=None)

    @property
    def cache_from(self) -> int:
        """Return the fewest tokens of a prompt's beginning that the provider caches."""
        return self.tiers[0].cache_from

    def as_json(self) -> list[dict[str, Any]]:
        """Return the prices as stored with a call."""
        no_price = {"most_output", "cache_from"}
        return [tier.model_dump(mode="json", by_alias=True, exclude=no_price) for tier in self.tiers]

    def _tier(self, prompt_tokens: int) -> Price:
        return [tier for tier in self.tiers if tier.above_tokens < max(prompt_tokens, 1)][-1]


@dataclass(frozen=True, slots=True)
class Table:
    """Every known price."""

    prices: tuple[Price, ...]

    def tariff(self, provider: str, model: str, day: date) -> Tariff | None:
        """Return the prices valid on a day, or None. A dated snapshot of a model costs what the model costs."""
        names = {model, _SNAPSHOT.sub("", model)}
        begun = [one for one in self.prices if one.provider == provider and one.model in names and one.from_ <= day]
        newest: dict[int, Price] = {}
        for one in sorted(begun, key=lambda price: price.from_):
            newest[one.above_tokens] = one
        if 0 not in newest:
            return None
        return Tariff(tuple(newest[above] for above in sorted(newest)))

    def known(self, provider: str, day: date) -> list[str]:
        """Return the models of a provider with a price on that day."""
        return sorted({one.model for one in self.prices if one.provider == provider and one.from_ <= day})


def load(own: Path | None = None) -> Table:
    """Load the shipped table and `own` entries, which replace all entries of their model. Raises PriceError."""
    shipped = _read(SHIPPED)
    if own is None:
        return Table(tuple(shipped))
    mine = _read(own)
    replaced = {(one.provider, one.model) for one in mine}
    return Table((*mine, *(one for one in shipped if (one.provider, one.model) not in replaced)))


def _read(path: Path) -> Sequence[Price]:
    try:
        table = tomllib.loads(regular_file.read_text(path))
        return TypeAdapter(list[Price]).validate_python(table.get("price", []))
    except OSError as error:
        raise PriceError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise PriceError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        number, *key = first["loc"]
        raise PriceError(f"{path}: price {int(number) + 1}, {'.'.join(map(str, key))}: {first['msg']}") from None


def _up(micro: float) -> int:
    # A product of binary fractions may lie slightly above the whole number that it represents.
    return math.ceil(round(micro, 6))
