"""Cases from the wild that a command meets as a whole; those of reading a file alone stand in tests/loop/data."""

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.where import SHARED_CASES
from wizloop.loop.cli import app
from wizloop.loop.evaluation import benchmark_guard

PORT = 18765
TEACHERS = SHARED_CASES / "17-openai-teacher-replies"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start the cases' provider, which answers by the first part of a path; return its working folder."""
    file, folder = _case(TEACHERS / "fake.py"), tmp_path_factory.mktemp("provider")
    process = subprocess.Popen([sys.executable, str(file)], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        while not _listens():
            if process.poll() is not None:
                pytest.skip(f"port {PORT}, which the cases' provider takes, is not free")
            time.sleep(0.05)
        yield folder
    finally:
        process.kill()
        process.wait()


def _listens() -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", PORT)) == 0


def _case(path: Path) -> Path:
    if not path.exists():
        pytest.skip("../shared/cases is not on this machine")
    return path


def _run(*words: str | Path, status: int = 0) -> Result:
    said = CliRunner().invoke(app, list(map(str, words)))
    assert said.exit_code == status, said.output
    return said


def _teach(scenario: str, rows: int, status: int = 0) -> dict[str, Any]:
    """Return what `wizloop teach --json` says of some rows that an OpenAI-compatible server answers so."""
    lines = _case(TEACHERS / "one.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    Path("rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    server = f'[teacher.openai]\nbase_url = "http://127.0.0.1:{PORT}/{scenario}/v1"\nmodel = "m"\n'
    Path("one.toml").write_text(f'name = "one"\nsource = "demo"\n[teacher]\nnames = ["openai"]\n{server}')
    said = _run("teach", "rows.jsonl", "--recipe", "one.toml", "--out", "out.json", "--json", status=status)
    told: dict[str, Any] = json.loads(said.stdout)
    return told


SCENARIOS = "ok maxcomp noschema think think2 fence parts nullc case extra"


@pytest.mark.parametrize("scenario", SCENARIOS.split())
def test_17_an_answer_is_read_where_nothing_is_guessed(provider: Path, scenario: str) -> None:
    told = _teach(scenario, 2)
    assert (told["answered"], told["failures"], told["given_up"]) == (2, [], {})


@pytest.mark.parametrize("key", ["x", "token", "1"])
def test_18_a_dummy_key_that_is_a_word_spoils_no_reply(
    provider: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIZLOOP_OPENAI_KEY", key)
    assert _teach("ok", 1)["answered"] == 1
    (trace,) = json.loads(Path("out.json").read_text(encoding="utf-8"))["traces"]
    assert "It asks for nothing harmful." in json.dumps(trace)


def test_23_an_account_without_credit_is_no_samples_refusal(provider: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-of-the-cases")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{PORT}/c_credit")
    Path("rows.jsonl").write_bytes(_case(TEACHERS / "one.jsonl").read_bytes())
    words = ("teach", "rows.jsonl", "--teacher", "claude", "--budget", "5", "--out", "out.json", "--json")
    told = json.loads(_run(*words, status=1).stdout)
    assert told["answered"] == 0
    assert "Your credit balance is too low" in told["given_up"]["claude"]
    (provider / "credit_ok").touch()
    told = json.loads(_run(*words).stdout)
    assert (told["answered"], told["given_up"]) == (told["total_samples"], {})


@pytest.mark.parametrize("name", ["05_toxic_nontoxic.csv", "29_nan.jsonl"])
def test_04_evaluate_says_of_a_file_what_import_says(name: str) -> None:
    file = _case(SHARED_CASES / "04-evaluate-drops-rows-silently" / name)
    taken = json.loads(_run("import", file, "--split", "test", "-w", "w", "--json").stdout)
    with file.open(encoding="utf-8") as lines:
        assert taken["accepted"] == taken["rows"] == sum(1 for _ in lines) - (file.suffix == ".csv")
    (measured,) = benchmark_guard.file_rows([str(file)]).values()
    assert len(measured) == taken["accepted"]
    assert Counter(row.labels["request"] for row in measured) == taken["labels"]["request"]


@pytest.mark.parametrize(("name", "rows"), [("02_id_null.jsonl", 6), ("02_multilingual_same_id.jsonl", 6)])
def test_05_an_id_that_is_null_or_shared_refuses_nothing(name: str, rows: int) -> None:
    file = _case(SHARED_CASES / "05-id-null-or-shared" / name)
    taken = json.loads(_run("import", file, "--split", "seed", "-w", "w", "--json").stdout)
    assert (taken["accepted"], taken["refused"]) == (rows, [])


def test_19_nan_in_a_column_that_is_not_read_refuses_nothing() -> None:
    file = _case(SHARED_CASES / "19-nan-in-json" / "29_nan.jsonl")
    taken = json.loads(_run("import", file, "--split", "pool", "-w", "w", "--json").stdout)
    assert (taken["accepted"], taken["refused"]) == (taken["rows"], [])
