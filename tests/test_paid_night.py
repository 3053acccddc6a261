"""A whole night with teachers that cost, on the loopback and under a cap: Claude in batches, and Gemini live for what
Claude refuses."""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.servers import pairs
from tests.servers.prices import PRICES
from tests.servers.provider import Books
from tests.shortest import SHORTEST
from wizloop.loop.cli import app
from wizloop.loop.context import seed_of
from wizloop.recipes.demo_text import demo_samples

KEY = "sk-canary-9d31c0"
RECIPE = (
    """
name = "paid"
source = "demo"
seed = 5
rounds = 1
budget_usd = 3.0
[data_demo]
pool = 24
seed = 16
dev = 16
test = 12
[guard]
instruction = "none"
max_trace_tokens = 48
[guard.tiny]
vocab = 1000
layers = 1
width = 32
mlp = 32
epochs = 0
[select]
budget = 6
[export]
formats = ["adapter"]
parity_n = 0
[teacher]
names = ["claude", "gemini"]
prices = "prices.toml"
[teacher.claude]
mode = "batch"
poll_s = 0.05
"""
    + SHORTEST
)
QUESTIONS = 16 + 6
REFUSED = 7
"""Every third row of a batch."""


@dataclass(frozen=True)
class Night:
    folder: Path
    claude: Books
    gemini: Books
    status: int
    said: bytes

    def told(self, *words: str) -> Any:
        found = CliRunner().invoke(app, [*words, "-w", str(self.folder / "ws"), "--json"])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("paid")
    (folder / "paid.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "wizloop.loop.cli", "start", "paid.toml", "--headless", "-w", "ws"]
    with pairs.server("claude", script=_third) as claude, pairs.server("gemini") as gemini:
        claude.verdict = gemini.verdict = _label
        addresses = {"ANTHROPIC_BASE_URL": claude.url, "GOOGLE_GEMINI_BASE_URL": gemini.url}
        around = os.environ | addresses | {"ANTHROPIC_API_KEY": KEY, "GEMINI_API_KEY": KEY}
        done = subprocess.run(command, cwd=folder, env=around, capture_output=True, check=False)
        return Night(folder, claude.books, gemini.books, done.returncode, done.stdout + done.stderr)


MADE = demo_samples(random.Random(seed_of(5, 0, "import", "demo")), pool=24, seed=16, dev=16, test=12)
SEEN = {one.prompt: one.labels["request"] for one in MADE}


def _label(message: str) -> str:
    """The label of the request in a message: the seed's are hidden from a teacher that is checked."""
    return next(label or "" for prompt, label in SEEN.items() if f"user:\n{prompt}\n" in message)


def _third(number: int, path: str) -> str | None:
    return "refusal" if path == "row" and number % 3 == 0 else None


def test_it_ends_with_a_champion_and_every_sample_taught(night: Night) -> None:
    assert night.status == 0, night.said.decode()
    assert night.told("status")["state"] == "done"
    base, *rounds = night.told("rounds")
    assert (base["round"], base["gate"], base["teacher"]["answers"]) == ("base", None, 0)
    assert [one["gate"]["passed"] for one in rounds] == [True, True]
    assert sum(one["teacher"]["answers"] for one in rounds) == QUESTIONS
    assert rounds[-1]["exports"]


def test_what_is_refused_in_a_batch_is_asked_live_elsewhere(night: Night) -> None:
    assert (night.claude.paths["submit"], night.claude.paths["ask"]) == (2, 0)
    assert (night.gemini.paths["submit"], night.gemini.paths["ask"]) == (0, REFUSED)
    assert set(night.claude.billed.values()) == set(night.gemini.billed.values()) == {1}
    assert (len(night.claude.billed), len(night.gemini.billed)) == (QUESTIONS, REFUSED)


def test_the_ledger_is_the_providers_bill(night: Night) -> None:
    found = night.told("costs")
    assert (found["total"]["calls"], found["total"]["answers"]) == (QUESTIONS + REFUSED, QUESTIONS)
    assert (found["total"]["refusals"], found["unanswered"]) == (REFUSED, 0)
    for books, teacher in ((night.claude, "claude"), (night.gemini, "gemini")):
        settled = sum(row["settled_usd"] for row in found["rows"] if row["teacher"] == teacher)
        # The ledger keeps whole micro-dollars, and rounds each call up.
        assert -1e-3 <= settled * 1e6 - books.bill_micro < len(books.billed)
    # 400 tokens an answer: half of $10 a million in a batch, $3.75 live.
    assert night.claude.bill_micro > (QUESTIONS - REFUSED) * 400 * 5
    assert night.gemini.bill_micro > REFUSED * 400 * 3.75
    assert found["budget"] == {"cap": 3.0, "settled": found["total"]["settled_usd"], "reserved": 0.0}
    assert sum(one["teacher"]["usd"] for one in night.told("rounds")) == pytest.approx(found["total"]["settled_usd"])
    assert all(row["cached_tokens"] > 0 for row in found["rows"] if row["teacher"] == "claude")


def test_the_key_stands_nowhere(night: Night) -> None:
    assert KEY.encode() not in night.said
    files = [one for one in (night.folder / "ws").rglob("*") if one.is_file()]
    assert len(files) > 5
    assert not [one.name for one in files if KEY.encode() in one.read_bytes()]
