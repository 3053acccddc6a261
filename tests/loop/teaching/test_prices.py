"""The price table: what holds on which day, and tokens into micro-dollars."""

from datetime import date
from pathlib import Path

import pytest

from wizloop.backends.teachers.base import Usage
from wizloop.loop.teaching import prices

SEPTEMBER = date(2026, 9, 15)
PLAIN = Usage(input_tokens=2_300, output_tokens=500)
CACHED = Usage(input_tokens=300, output_tokens=500, cached_tokens=2_000)


@pytest.mark.parametrize(
    ("model", "usage", "batch", "dollars_per_thousand"),
    [
        ("claude-sonnet-5-5", PLAIN, False, 9.60),
        ("claude-sonnet-5-5", CACHED, False, 6.00),
        ("claude-sonnet-5-5", PLAIN, True, 4.80),
        ("claude-sonnet-5-5", CACHED, True, 3.00),
        ("claude-opus-5-5", PLAIN, False, 19.20),
        ("claude-opus-5-5", CACHED, True, 5.80),
        ("claude-haiku-5-5", PLAIN, False, 0.48),
    ],
)
def test_a_thousand_traces_cost_what_they_cost_by_hand(
    model: str, usage: Usage, batch: bool, dollars_per_thousand: float
) -> None:
    tariff = prices.load().tariff("claude", model, SEPTEMBER)
    assert tariff is not None
    assert tariff.cost_micro(usage, batch=batch) * 1_000 == dollars_per_thousand * 1_000_000


def test_the_worst_price_of_a_prompt_is_the_dearest_of_its_rates() -> None:
    rates = {"provider": "p", "model": "m", "from": SEPTEMBER, "input": 1, "output": 0, "cache_write": 2}
    dear = prices.Price.model_validate(rates | {"cache_read": 3})
    assert dear.worst_micro(Usage(input_tokens=10), batch=False) == 30


@pytest.mark.parametrize(("day", "micro"), [(date(2026, 12, 31), 4_500), (date(2027, 1, 1), 9_000)])
def test_a_price_holds_from_its_day(day: date, micro: int) -> None:
    tariff = prices.load().tariff("gemini", "gemini-3.8-flash", day)
    assert tariff is not None
    assert tariff.cost_micro(Usage(input_tokens=1_000, output_tokens=1_000), batch=False) == micro


@pytest.mark.parametrize(("tokens", "micro"), [(100_000, 10_000), (100_001, 50_001)])
def test_a_long_prompt_is_charged_whole_at_its_tier(tokens: int, micro: int) -> None:
    tariff = prices.load().tariff("claude", "claude-haiku-5-5", SEPTEMBER)
    assert tariff is not None
    assert tariff.cost_micro(Usage(input_tokens=tokens), batch=False) == micro


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_nothing_costs_more_than_its_worst(provider: str, batch: bool) -> None:
    table = prices.load()
    models = table.known(provider, date(2027, 1, 1))
    assert models
    for model in models:
        tariff = table.tariff(provider, model, date(2027, 1, 1))
        assert tariff is not None
        bound = tariff.worst_micro(Usage(input_tokens=2_300, output_tokens=500), batch=batch)
        for written in (0, 1_000, 2_300):
            for cached in (0, 2_300 - written):
                usage = Usage(2_300 - written - cached, 500, cached_tokens=cached, cache_write_tokens=written)
                assert tariff.cost_micro(usage, batch=batch) <= bound


def test_what_has_no_price_has_none() -> None:
    table = prices.load()
    assert table.tariff("claude", "claude-sonnet-5-5", date(2026, 8, 31)) is None
    assert table.tariff("claude", "claude-sonnet-9", SEPTEMBER) is None
    assert table.tariff("gemini", "claude-sonnet-5-5", SEPTEMBER) is None
    assert table.tariff("claude", "claude-haiku-4-5-20251001", SEPTEMBER) is not None
    assert "claude-opus-5-5" in table.known("claude", SEPTEMBER)


OWN = """
[[price]]
provider = "claude"
model = "claude-haiku-5-5"
from = 2026-01-01
input = 7
output = 7
cache_read = 7
cache_write = 7
"""


def test_a_file_of_ones_own_replaces_its_models_and_no_other(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(OWN, encoding="utf-8")
    table = prices.load(own)
    haiku, sonnet = (table.tariff("claude", f"claude-{name}-5-5", SEPTEMBER) for name in ("haiku", "sonnet"))
    assert haiku is not None
    assert sonnet is not None
    assert haiku.cost_micro(Usage(input_tokens=200_000), batch=False) == 1_400_000
    assert sonnet.cost_micro(Usage(input_tokens=3), batch=False) == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OWN.replace("input = 7", "input = -7"), r"mine\.toml: price 1, input"),
        (OWN.replace("output = 7", "outputs = 7"), r"mine\.toml: price 1, output"),
        ("[[price", r"mine\.toml: is not TOML"),
    ],
)
def test_a_bad_file_names_the_entry_and_the_key(tmp_path: Path, text: str, says: str) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(prices.PriceError, match=says):
        prices.load(own)
    with pytest.raises(prices.PriceError, match=r"none\.toml: cannot be read"):
        prices.load(tmp_path / "none.toml")
