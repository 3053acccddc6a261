"""Measure how often one question is paid for by alternatives, under the faults and kills of `teachers.py`.

    python benchmarks/peers.py sdk  [--calls 300] [--seed 1]               # the SDKs' own retries, no kill
    python benchmarks/peers.py dbos [--calls 300] [--seed 1] [--kills 10]  # DBOS on SQLite; needs `pip install dbos`

The provider is tests/servers' Claude for both, and Gemini for the SDKs; it bills by the hash of the question.
"""

import argparse
import importlib.util
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The providers are in tests/, which is not an installed package.
sys.path.insert(0, str(ROOT))

from tests.servers.claude_wire import ClaudeServer  # noqa: E402
from tests.servers.gemini_wire import GeminiServer  # noqa: E402
from tests.servers.provider import Provider, Script  # noqa: E402

FAULTS = ("429", "529", "500", "reset before the reply", "reset in mid-body", "truncated json", "timeout", "slow drip")
CONCURRENCY = 16
DEADLINE_S = 1.0
KEY = "sk-canary-4f1b7d"


class Failed(Exception):
    """The provider did not answer."""


def script(seed: int) -> Script:
    """Return a script of random faults on every third question."""
    rng = random.Random(seed)
    return lambda number, path: rng.choice(FAULTS) if path == "ask" and rng.random() * 3 < 1 else None


def question(n: int) -> dict[str, Any]:
    """Return a request, the same for every peer."""
    return {
        "model": "claude-sonnet-5-5",
        "max_tokens": 600,
        "system": [{"type": "text", "text": "Judge."}],
        "messages": [{"role": "user", "content": f"The sample has no answer. [ question {n} ]"}],
    }


def sdk(calls: int, seed: int) -> list[dict[str, Any]]:
    """Ask with the retries of both SDKs: anthropic by default, google-genai with its retry options."""
    import anthropic
    import httpx2
    from google import genai
    from google.genai import errors, types

    def ask_claude(n: int) -> None:
        try:
            claude.messages.create(**question(n), timeout=DEADLINE_S)
        except (anthropic.APIError, ValueError):
            return

    def ask_gemini(n: int) -> None:
        try:
            config = types.GenerateContentConfig(system_instruction="Judge.")
            gemini.models.generate_content(model="gemini-3.8-flash", contents=f"has no answer {n}", config=config)
        except (errors.APIError, ValueError, OSError, httpx2.HTTPError):
            return

    found = []
    with (
        ClaudeServer(script(seed), latency_s=0.02, deadline_s=DEADLINE_S) as server,
        anthropic.Anthropic(api_key=KEY, base_url=server.url) as claude,
    ):
        found.append(_all("anthropic, its own retries", server, ask_claude, calls))
    with GeminiServer(script(seed), latency_s=0.02, deadline_s=DEADLINE_S) as server:
        retries = types.HttpRetryOptions(attempts=5, initial_delay=0.05, max_delay=0.5)
        options = types.HttpOptions(base_url=server.url, timeout=int(DEADLINE_S * 1000), retry_options=retries)
        with genai.Client(api_key=KEY, http_options=options) as gemini:
            found.append(_all("google-genai, retry_options of five attempts", server, ask_gemini, calls))
    return found


def _all(name: str, server: Provider, ask: Any, calls: int) -> dict[str, Any]:
    began = time.monotonic()
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        list(threads.map(ask, range(calls)))
    return _books(name, server, calls, 0, time.monotonic() - began)


def _books(name: str, server: Provider, calls: int, kills: int, seconds: float) -> dict[str, Any]:
    billed = server.books.billed
    return {
        "peer": name,
        "calls": calls,
        "kills": kills,
        "seconds": round(seconds, 1),
        "requests": server.books.requests,
        "questions_billed": len(billed),
        "billed_more_than_once": sum(times > 1 for times in billed.values()),
        "bills_too_many": sum(billed.values()) - len(billed),
    }


def dbos(folder: Path, calls: int, kills: int, seed: int) -> dict[str, Any]:
    """Run one DBOS workflow with a step for each question, killed and recovered."""
    if importlib.util.find_spec("dbos") is None:
        raise SystemExit("this part needs `pip install dbos` in the environment that runs it")
    rng, killed, began = random.Random(seed), 0, time.monotonic()
    with ClaudeServer(script(seed), latency_s=0.02, deadline_s=DEADLINE_S) as server:
        with (folder / "child.log").open("ab") as log:
            while True:
                command = [sys.executable, str(Path(__file__)), "child", str(folder), server.url, str(calls)]
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                until = server.books.requests + rng.uniform(0.3, 1.2) * calls / max(kills, 1)
                while child.poll() is None and (killed >= kills or server.books.requests < until):
                    time.sleep(0.002)
                if child.poll() is None:
                    child.send_signal(signal.SIGKILL)
                    killed += 1
                if child.wait() == 0:
                    break
                if child.returncode != -signal.SIGKILL:
                    raise RuntimeError((folder / "child.log").read_text()[-2000:])
        return _books(
            "DBOS, a step a question, one retry layer of three tries", server, calls, killed, time.monotonic() - began
        )


def _child(folder: str, url: str, calls: int) -> None:
    """Run the workflow in a process of its own; DBOS resumes it."""
    from dbos import DBOS, SetWorkflowID, error

    DBOS(config={"name": "peers", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "run_admin_server": False})

    @DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.02)
    def ask(n: int) -> int:
        body = json.dumps(question(n)).encode()
        request = urllib.request.Request(f"{url}/v1/messages", body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
                return len(json.loads(reply.read())["content"])
        except (OSError, urllib.error.URLError, ValueError, KeyError) as error:
            raise Failed from error

    @DBOS.workflow()
    def night() -> int:
        answered = 0
        for n in range(calls):
            try:
                answered += ask(n)
            except (error.DBOSException, Failed):
                continue
        return answered

    DBOS.launch()
    with SetWorkflowID("night"):
        handle = DBOS.start_workflow(night)
    print(handle.get_result())
    DBOS.destroy()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("sdk", "dbos"):
        part = parts.add_parser(name)
        part.add_argument("--calls", type=int, default=300)
        part.add_argument("--seed", type=int, default=1, help="seed of the faults")
    parts.choices["dbos"].add_argument("--kills", type=int, default=10)
    child = parts.add_parser("child")
    for name in ("folder", "url", "calls"):
        child.add_argument(name)
    options = parser.parse_args()
    if options.part == "child":
        _child(options.folder, options.url, int(options.calls))
        return
    if options.part == "sdk":
        print(json.dumps(sdk(options.calls, options.seed), indent=1))
        return
    with tempfile.TemporaryDirectory(prefix="wizloop-") as folder:
        print(json.dumps(dbos(Path(folder), options.calls, options.kills, options.seed), indent=1))


if __name__ == "__main__":
    _main()
