"""Compare both books under fire: local providers that fail on every third request, and a caller that is killed.

    python benchmarks/teachers.py kills [--provider claude] [--calls 500] [--kills 20] [--mode batch] [--cap-share 0.6]
    python benchmarks/teachers.py pace  [--provider claude] [--calls 1000] [--latency 0.2] [--concurrency 32]
    python benchmarks/teachers.py costs [--samples 200]

`kills` compares the provider's bills with the ledger's charges, through all kills: if money or work runs out before the
last of them, the caller is killed while it starts, looks and gives up again. `pace` compares the wall time with calls x
latency / concurrency; `costs` prices 1,000 traces by mode. The phase teach runs in a process of its own, on the real
store, through the real SDKs; the providers are those of tests/servers. Alternatives are measured by `peers.py`.
"""

import argparse
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Question, Usage
from wizloop.backends.teachers.recorded import text_sha
from wizloop.loop.context import Context
from wizloop.loop.data.sample_reader import read_samples
from wizloop.loop.phases import teach
from wizloop.loop.teaching import prices, teachers
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.recipes.sections import Data
from wizloop.store import control, samples, selections, spending, steps, teacher_calls
from wizloop.store.db import Store

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
# The providers are in tests/, which is not an installed package.
sys.path.insert(0, str(ROOT))

from tests.servers import pairs, provider  # noqa: E402

KEY = "sk-canary-4f1b7d"
CONCURRENCY = 16
DEADLINE_S = 1.0
LIVE_FAULTS = (
    *("429", "429 retry-after", "529", "500", "html 503", "reset before the reply", "reset in mid-body"),
    *("truncated json", "timeout", "slow drip", "refusal", "wrong schema", "max tokens", "thinking"),
    *("comma", "surrogate"),
)
BATCH_FAULTS = {
    "submit": ("429", "500", "reset before the reply"),
    "list": ("500",),
    "poll": ("500", "reset before the reply"),
    "collect": ("500", "reset in mid-body"),
    "upload": ("500", "reset before the reply"),
    "row": ("errored", "refusal", "wrong schema", "surrogate"),
}
LOST, UNPAID = "in flight at a kill", "waits for budget"
BEGUN, MOST_STARTS = "begun", 200
PUBLISHED = {"claude": 3.00, "gemini": 0.23}
"""Published dollars for 1,000 traces of other pipelines with these providers' models."""


def script(seed: int) -> provider.Script:
    """Return a script of random faults on every third request, each of a kind that fits the request."""
    rng = random.Random(seed)

    def draw(number: int, path: str) -> str | None:
        faults = LIVE_FAULTS if path == "ask" else BATCH_FAULTS.get(path, ())
        return rng.choice(faults) if faults and rng.random() * 3 < 1 else None

    return draw


def prepare(workspace: Path, kind: str, calls: int, *, mode: str, cap_micro: int | None, concurrency: int) -> None:
    """Create a run before its phase teach, with `calls` picked samples."""
    asked: dict[str, Any] = {"concurrency": concurrency, "deadline_s": DEADLINE_S, "max_tokens": 600}
    if kind == "openai":
        raise ValueError("a server of one's own has no price: take claude or gemini")
    asked |= {"mode": mode, "batch_size": 100, "poll_s": 0.05, "settle_s": 0.0}
    teacher = {"names": [kind], kind: asked, "backoff_s": 0.02, "tries": 8 if mode == "live" else 40}
    recipe = Recipe.model_validate_json(json.dumps({"name": "fire", "source": "demo", "teacher": teacher}))
    now = datetime.now(UTC)
    with Store.create(workspace) as store, store.write() as db:
        control.create_run(
            db,
            name=recipe.name,
            recipe_json=canonical_json(recipe),
            recipe_hash=recipe_hash(recipe),
            seed=1,
            cap_micro=cap_micro,
            until=None,
            rounds_wanted=0,
            now=now,
        )
        new = [samples.NewSample("pool", f"question {n}", None, "made", "row") for n in range(calls)]
        samples.add(db, new, now)
        steps.begin_round(db, 0, None, now)
        steps.begin_step(db, 0, "teach", now)
        ids = samples.ids(db, "pool")
        selections.add(db, [selections.Selection(0, one, "random", 0.0, one, None, "All of them.") for one in ids])


def work(workspace: Path) -> str:
    """Run the phase teach in this process."""
    with Store.open(workspace) as store:
        with store.read() as db:
            run = control.get_run(db)
        assert run is not None
        recipe = Recipe.model_validate_json(run.recipe_json)
        return teach.run(Context(store, workspace, recipe, 0, "teach", lambda: datetime.now(UTC), lambda: False))


def kills(
    workspace: Path, kind: str, *, calls: int, times: int, mode: str, cap_share: float | None, seed: int = 1
) -> dict[str, Any]:
    """Work through SIGKILLs and return the books of both sides and their faults.

    A caller without work or money is started and killed again until all kills are done.
    """
    rng = random.Random(seed)
    cap = None if cap_share is None else int(cap_share * calls * _each_micro(kind, mode))
    prepare(workspace, kind, calls, mode=mode, cap_micro=cap, concurrency=CONCURRENCY)
    began, asking, idle, ended, lasted = time.monotonic(), 0, 0, False, 0.0
    expected = calls * (cap_share or 1.0) * 0.9 if mode == "live" else calls / 100 * 20
    with pairs.server(kind, script=script(seed), latency_s=0.02, batch_s=0.1) as server:
        server.deadline_s = DEADLINE_S
        for number in range(MOST_STARTS):
            log = workspace / f"child-{number}.log"
            with log.open("wb") as told:
                child = _child(workspace, kind, server.url, told)
            wanted = asking + idle < times
            if wanted and ended:
                idle += _killed_idle(child, log, rng.uniform(0, lasted))
            elif wanted:
                asking += _killed(child, server, rng.uniform(0.3, 1.3) * expected / times)
            if child.wait() == 0:
                ended, lasted = True, json.loads(log.read_text().splitlines()[-1])["seconds"]
            elif child.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the phase failed: {log.read_text()[-2000:]}")
            if child.returncode == 0 and asking + idle >= times:
                return _books(workspace, server, cap, asking, idle, time.monotonic() - began)
    raise RuntimeError(f"after {MOST_STARTS} starts {asking + idle} kills of {times} came in time")


def _each_micro(kind: str, mode: str) -> float:
    """Return the provider's bill for one question whose instruction is cached."""
    with pairs.pair(kind) as (server, teacher):
        for n in range(2):
            before = server.books.bill_micro
            teacher.ask(Question(f"{n}", f"question {n}"))
        return float(server.books.bill_micro - before) * (0.5 if mode == "batch" else 1.0)


def environment(url: str) -> dict[str, str]:
    """Return an environment with every provider at one address, and one key."""
    addresses = {"ANTHROPIC_BASE_URL": url, "GOOGLE_GEMINI_BASE_URL": url}
    return os.environ | addresses | {"ANTHROPIC_API_KEY": KEY, "GEMINI_API_KEY": KEY}


def _child(workspace: Path, kind: str, url: str, log: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", str(Path(__file__)), "child", str(workspace), "--provider", kind]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(url))


def _killed(child: "subprocess.Popen[bytes]", server: Any, after: float) -> bool:
    """Kill a child after `after` more requests; return False if it finished before."""
    until = server.books.requests + max(1, round(after))
    while child.poll() is None and server.books.requests < until:
        time.sleep(0.002)
    if child.poll() is not None:
        return False
    child.send_signal(signal.SIGKILL)
    child.wait()
    return True


def _killed_idle(child: "subprocess.Popen[bytes]", log: Path, after: float) -> bool:
    """Kill a child `after` seconds after its start of work; return False if it finished before."""
    while child.poll() is None and BEGUN not in log.read_text():
        time.sleep(0.002)
    time.sleep(after)
    if child.poll() is not None:
        return False
    child.send_signal(signal.SIGKILL)
    child.wait()
    return True


def _books(workspace: Path, server: Any, cap: int | None, asking: int, idle: int, seconds: float) -> dict[str, Any]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        money, made, told = spending.budget(db), teacher_calls.calls(db, 0), steps.get_round(db, 0)
        picked = [one.sample_id for one in selections.of_round(db, 0)]
    assert told is not None
    waits = any("pass the budget" in why for why in told.record["teach"]["given_up"].values())
    last = {call.sample_id: call for call in made}
    fates = Counter(_fate(last.get(sample_id), waits) for sample_id in picked)
    in_doubt = sum(call.reserved_micro for call in made if call.state == "ambiguous")
    lost = sum(call.state == "ambiguous" and call.outcome is None for call in made)
    twice = sum(times > 1 for times in server.books.billed.values())
    bill = server.books.bill_micro
    charged = max(money.settled_micro + money.reserved_micro, bill)
    unended = fates.keys() & {"planned", "reserved", "sent", "received", "not asked"}
    waiting = fates[UNPAID] > 0
    wrong = {
        "a question was billed twice": twice > 0,
        "the provider billed more than was charged": bill > money.settled_micro + money.reserved_micro + 1e-6,
        "the cap was passed": cap is not None and charged > cap,
        "more was in flight than can have been": lost > asking * CONCURRENCY,
        "something is still held": money.reserved_micro != in_doubt,
        "a sample has no end": bool(unended),
        "a sample waits for money where there is no cap": waiting and cap is None,
        "the key was written down": key_found(workspace),
    }
    return {
        "kills": asking + idle,
        "kills_with_nothing_to_ask": idle,
        "seconds": round(seconds, 1),
        "requests": server.books.requests,
        "faults": dict(server.books.dealt),
        "fates": dict(fates),
        "lost_in_flight": lost,
        "billed_micro": round(bill, 1),
        "settled_micro": money.settled_micro,
        "ambiguous_micro": in_doubt,
        "cap_micro": cap,
        "billed_twice": twice,
        "wrong": [name for name, is_so in wrong.items() if is_so],
    }


def key_found(workspace: Path) -> bool:
    """Return whether the key, or a header with one, is in any file of a workspace."""
    marks = (KEY.encode(), b"Authorization", b"authorization: ", b"Bearer ")
    # The store is closed: no other process has its files open.
    return any(mark in one.read_bytes() for one in workspace.rglob("*") if one.is_file() for mark in marks)


def _fate(call: teacher_calls.Call | None, waits: bool) -> str:
    """Return a sample's outcome by its last call; `waits`: one more call could have exceeded the cap."""
    if call is None or call.state == "planned":
        return UNPAID if waits else "not asked"
    if call.state == "ambiguous":
        return LOST if call.outcome is None else "broke off"
    return call.state


def pace(workspace: Path, kind: str, *, calls: int, latency_s: float, concurrency: int) -> dict[str, Any]:
    """Measure the wall time of live calls that all succeed, beside calls x latency / concurrency."""
    prepare(workspace, kind, calls, mode="live", cap_micro=None, concurrency=concurrency)
    with pairs.server(kind, latency_s=latency_s) as server:
        # In a process of its own, as in a night: the provider must not block the caller's interpreter.
        began = time.monotonic()
        with (workspace / "child.log").open("ab") as log:
            status = _child(workspace, kind, server.url, log).wait()
        whole = time.monotonic() - began
    told = json.loads((workspace / "child.log").read_text().splitlines()[-1])
    ideal = calls * latency_s / concurrency
    return {
        "calls": calls,
        "ideal_s": ideal,
        "phase_s": round(told["seconds"], 2),
        "cpu_s": round(told["cpu"], 2),
        "ratio": round(told["seconds"] / ideal, 3),
        "with_start_s": round(whole, 2),
        "billed_twice": sum(times > 1 for times in server.books.billed.values()),
        "status": status,
    }


def costs(n: int, models: Mapping[str, str] = pairs.MODELS) -> list[dict[str, Any]]:
    """Return dollars for 1,000 traces by model and mode, for real prompts and traces of real length.

    A token is taken as four characters. The traces are those that GuardReasoner 1B to 8B wrote, plus our schema's field
    names.
    """
    recipe = Recipe.model_validate_json('{"name": "costs", "source": "demo"}')
    path = DATA / "toxicchat" / "toxic_chat_test.json.gz"
    read = read_samples(Data(path=str(path), split="pool"))
    chosen = sorted(read.rows, key=lambda row: text_sha(row.prompt, row.response))[:n]
    told = teacher_prompt.instruction(teachers.policies_of(recipe))
    asked = [Question("k" * 64, row.prompt, row.response) for row in chosen]
    sent = sum(len(teacher_prompt.message(one)) for one in asked) / len(asked) / 4
    names = sum(len(name) + 4 for name in teacher_prompt.schema()["properties"])
    written = (_recorded_length() + names) / 4
    shared = (len(told) + len(json.dumps(teacher_prompt.schema()))) / 4
    table, found = prices.load(), []
    for kind in ("claude", "gemini"):
        tariff = table.tariff(kind, models[kind], datetime.now(UTC).date())
        assert tariff is not None
        plain = Usage(round(1000 * (sent + shared)), round(1000 * written))
        cached = Usage(round(1000 * sent), round(1000 * written), cached_tokens=round(1000 * shared))
        for mode, usage, batch in (
            ("live", plain, False),
            ("live, cached", cached, False),
            ("batch", plain, True),
            ("batch, cached", cached, True),
        ):
            usd = tariff.tiers[0].micro(usage, batch=batch) / 1e6
            found.append({"model": models[kind], "mode": mode, "usd": round(usd, 2), "published": PUBLISHED[kind]})
    return [{"samples": len(asked), "shared": round(shared), "own": round(sent), "out": round(written)}, *found]


def _load(kind: str) -> None:
    """Load the provider's SDK, which a night does once, before the calls are timed."""
    import_module("anthropic" if kind == "claude" else "google.genai")


def _recorded_length() -> float:
    """Return the mean length, in characters, of the published guards' traces."""
    lengths: list[int] = []
    for path in sorted((DATA / "recorded").glob("?B/*/generated_predictions.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            lengths += [len(json.loads(line)["predict"]) for line in lines]
    return sum(lengths) / len(lengths)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    child, fire, fast = (parts.add_parser(name) for name in ("child", "kills", "pace"))
    child.add_argument("workspace")
    for part in (child, fire, fast):
        part.add_argument("--provider", choices=("claude", "gemini"), default="claude")
    fire.add_argument("--calls", type=int, default=500)
    fire.add_argument("--kills", type=int, default=20)
    fire.add_argument("--mode", choices=("live", "batch"), default="live")
    fire.add_argument("--cap-share", type=float)
    fire.add_argument("--seed", type=int, default=1)
    fast.add_argument("--calls", type=int, default=1000)
    fast.add_argument("--latency", type=float, default=0.2)
    fast.add_argument("--concurrency", type=int, default=32)
    parts.add_parser("costs").add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    if options.part == "child":
        _load(options.provider)
        print(BEGUN, flush=True)
        began, cpu = time.monotonic(), time.process_time()
        work(Path(options.workspace))
        print(json.dumps({"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}))
        return
    report: Any
    with tempfile.TemporaryDirectory(prefix="wizloop-") as folder:
        if options.part == "costs":
            report = costs(options.samples)
        elif options.part == "pace":
            made = {"latency_s": options.latency, "concurrency": options.concurrency}
            report = pace(Path(folder), options.provider, calls=options.calls, **made)
        else:
            how = {"mode": options.mode, "cap_share": options.cap_share, "seed": options.seed}
            report = kills(Path(folder), options.provider, calls=options.calls, times=options.kills, **how)
    print(json.dumps(report, indent=1))
    sys.exit(bool(isinstance(report, dict) and report.get("wrong")))


if __name__ == "__main__":
    _main()
