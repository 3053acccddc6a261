"""A whole night with a teacher that costs: Claude's wire format on the loopback, under a cap, live and in batches."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.servers import pairs
from tests.servers.provider import Books
from wizloop.loop.cli import app

KEY = "sk-canary-9d31c0"
CAP_USD = 3.0
PRICES = """
[[price]]
provider = "claude"
model = "claude-sonnet-5-5"
from = 2026-01-01
input = 2.0
output = 10.0
cache_read = 0.1
cache_write = 2.5
cache_write_1h = 4.0
"""
RECIPE = """
name = "paid"
source = "demo"
seed = 5
rounds = 1
budget_usd = 3.0
[data_demo]
pool = 40
seed = 24
dev = 24
test = 16
[guard]
instruction = "none"
max_trace_tokens = 32
[guard.tiny]
vocab = 1000
width = 64
mlp = 128
[members]
count = 0
[select]
budget = 8
[train]
epochs = 1
least_steps = 1
[dpo]
enabled = false
[review]
rule = "nothing"
[gate]
max_over_refusal_rise = 1.0
margin = 1.0
[export]
formats = ["adapter"]
[teacher]
names = ["claude"]
prices = "prices.toml"
[teacher.claude]
poll_s = 0.05
"""
QUESTIONS = 24 + 8


@dataclass(frozen=True)
class Night:
    mode: str
    folder: Path
    books: Books
    status: int
    said: bytes

    def told(self, *words: str) -> Any:
        found = CliRunner().invoke(app, [*words, "-w", str(self.folder / "ws"), "--json"])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)


@pytest.fixture(scope="module", params=["live", "batch"])
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "paid.toml").write_text(f'{RECIPE}mode = "{request.param}"\n', encoding="utf-8")
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    with pairs.server("claude") as server:
        around = os.environ | {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": KEY}
        command = [sys.executable, "-P", "-m", "wizloop.loop.cli", "start", "paid.toml", "--headless", "-w", "ws"]
        done = subprocess.run(command, cwd=folder, env=around, capture_output=True, check=False)
        yield Night(request.param, folder, server.books, done.returncode, done.stdout + done.stderr)


def test_it_ends_with_a_champion_and_every_sample_taught(night: Night) -> None:
    assert night.status == 0, night.said.decode()
    assert night.told("status")["state"] == "done"
    rounds = night.told("rounds")
    assert [one["gate"]["passed"] for one in rounds] == [True, True]
    assert sum(one["teacher"]["answers"] for one in rounds) == QUESTIONS
    assert rounds[-1]["exports"]


def test_the_ledger_is_the_providers_bill(night: Night) -> None:
    found = night.told("costs")
    assert set(night.books.billed.values()) == {1}
    assert len(night.books.billed) == found["total"]["calls"] == found["total"]["answers"] == QUESTIONS
    # The ledger keeps whole micro-dollars, and rounds each call up.
    above = found["total"]["settled_usd"] * 1e6 - night.books.bill_micro
    assert -1e-6 <= above < QUESTIONS
    assert found["budget"] == {"cap": CAP_USD, "settled": found["total"]["settled_usd"], "reserved": 0.0}
    assert night.books.bill_micro > QUESTIONS * 400 * 10 * (0.5 if night.mode == "batch" else 1.0)
    assert sum(one["teacher"]["usd"] for one in night.told("rounds")) == pytest.approx(found["total"]["settled_usd"])
    assert found["total"]["cached_tokens"] > 0


def test_it_asked_in_the_way_that_the_recipe_names(night: Night) -> None:
    batches = night.mode == "batch"
    assert night.books.paths["ask"] == (0 if batches else QUESTIONS)
    assert night.books.paths["submit"] == (2 if batches else 0)


def test_the_key_stands_nowhere(night: Night) -> None:
    assert KEY.encode() not in night.said
    files = [one for one in (night.folder / "ws").rglob("*") if one.is_file()]
    assert len(files) > 5
    assert not [one.name for one in files if KEY.encode() in one.read_bytes()]
