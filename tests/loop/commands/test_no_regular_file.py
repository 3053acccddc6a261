"""A pipe, a device or a folder as any file that a command or a recipe takes: a sentence and status 2, at once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app

KINDS = ("pipe", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("device", "folder")))
COMMANDS = (
    "start {} --dry-run",
    "import {} --split pool",
    "import --traces {}",
    "leaks {} {}",
    "leaks {good} {}",
    "evaluate --predictions {} --task request",
    "evaluate --benchmark {} --model {good}",
    "evaluate --benchmark {good} --recipe {}",
    "classify {}",
    "classify --model {} {good}",
    "teach {} --out traces.json",
    "teach {good} --out {}",
    "teach {good} --out traces.json --recipe {}",
    "teach --keep {}",
    "traces compare {} {good}",
    "traces compare {traces} {}",
    "review --edit 1 {}",
    "review --import {}",
    "audit --out {}",
    "export 1 --format adapter --to {}",
)
KEYS = (
    '[guard]\nbase = "{}"',
    '[guard]\ninstruction = "{}"',
    '[teacher]\npolicies = "{}"',
    '[teacher]\nnames = ["claude"]\nprices = "{}"',
    '[teacher]\nnames = ["claude"]\ninstruction = "{}"',
    '[teacher]\nnames = ["traces"]\n[[teacher.traces]]\npath = "{}"',
    '[teacher]\nnames = ["claude"]\nreplay = "{}"',
    '[[members.others]]\ninstruction = "{}"',
    '[[members.others]]\nbase = "{}"',
    '[[data]]\nsplit = "pool"\npath = "{}"',
)


@pytest.fixture(params=KINDS)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "odd.jsonl"
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[request.param](path)
    return str(path)


@pytest.fixture(autouse=True)
def _nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End a test whose command waits for a pipe or reads without end."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it waits")

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, type(done.exception)) == (2, SystemExit), (done.output, done.exc_info)
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_what_is_no_regular_file(after_a_night: Path, tmp_path: Path, odd: str, command: str) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text('{"prompt": "how do I knit", "label": "unharmful"}\n')
    traces = tmp_path / "known.json"
    traces.write_text('[{"text": "how do I knit", "expected_label": "unharmful", "predicted_label": "unharmful"}]')
    words = [word.format(odd, good=good, traces=traces) for word in command.split()]
    assert "odd.jsonl" in refused(
        [*words, *(() if "leaks" in words or "traces" in words else ("-w", str(after_a_night)))]
    )


def test_a_recipe_that_is_no_regular_file_is_not_called_missing(odd: str) -> None:
    assert "it is not a regular file" in refused(["recipes", "show", odd])


@pytest.mark.parametrize("key", KEYS)
def test_a_recipe_cannot_make_a_start_wait(tmp_path: Path, odd: str, key: str) -> None:
    text = "".join(f"{key.replace('pool', split)}\n" for split in ("pool", "seed", "dev")) if "data" in key else key
    source = "" if "data" in key else 'source = "demo"\n'
    Path("mine.toml").write_text(f'name = "mine"\n{source}{text.replace("{}", odd)}\n')
    assert "odd.jsonl" in refused(["start", "mine.toml", "--dry-run", "-w", str(tmp_path / "runs")])
