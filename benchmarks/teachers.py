"""Money under fire: a provider that fails on every third request, a caller that is killed, and the books of both.

    python benchmarks/teachers.py kills [--calls 500] [--kills 20] [--mode live|batch] [--cap-share 0.6]
    python benchmarks/teachers.py pace  [--calls 1000] [--latency 0.2] [--concurrency 32]

`kills` compares what the provider billed with what the ledger charged; `pace` compares the wall time with calls x
latency / concurrency. The phase teach runs in a process of its own, on the real store; the provider is `provider.py`.
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
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from wizloop.loop.calls import Seat
from wizloop.loop.context import Context
from wizloop.loop.prices import Price, Tariff
from wizloop.loop.teach import teach
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.recipes.teaching import Batching
from wizloop.store import control, samples, selections, steps, teaching
from wizloop.store.db import Store

PRICE = Price.model_validate(
    {"provider": "plain", "model": "plain-1", "from": "2026-01-01", "input": 0, "output": 1}
    | {"cache_read": 0, "cache_write": 0}
)
LOST = "in flight at a kill"


def provider_module() -> ModuleType:
    """`provider.py`, which stands beside this file and in no package."""
    if "wizloop_provider" in sys.modules:
        return sys.modules["wizloop_provider"]
    spec = importlib.util.spec_from_file_location("wizloop_provider", Path(__file__).with_name("provider.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wizloop_provider"] = module
    spec.loader.exec_module(module)
    return module


def prepare(workspace: Path, calls: int, cap_micro: int | None) -> None:
    """A run that stands before its phase teach, with so many picked samples."""
    teacher = {"backoff_s": 0.02, "tries": 8}
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


def work(workspace: Path, url: str, mode: str, concurrency: int, deadline_s: float) -> str:
    """The phase teach, in this process."""
    teacher = provider_module().PlainTeacher(url, deadline_s)
    settings = Batching(model="plain-1", concurrency=concurrency, batch_size=100, poll_s=0.05, settle_s=0.0)
    tariff = Tariff((PRICE,))
    seat = Seat(teacher, tariff, settings) if mode == "live" else Seat(teacher, tariff, batches=(teacher, settings))
    with Store.open(workspace) as store:
        with store.read() as db:
            run = control.get_run(db)
        assert run is not None
        recipe = Recipe.model_validate_json(run.recipe_json)
        return teach(Context(store, workspace, recipe, 0, "teach", lambda: datetime.now(UTC), lambda: False), [seat])


def kills(
    workspace: Path, *, calls: int, times: int, mode: str, cap_share: float | None, seed: int = 1
) -> dict[str, Any]:
    """Do the work through so many SIGKILLs; the books of both sides, and what is wrong with them."""
    module, rng, concurrency = provider_module(), random.Random(seed), 16
    each = module.OUTPUT_TOKENS // (2 if mode == "batch" else 1)
    cap = None if cap_share is None else int(cap_share * calls * each)
    prepare(workspace, calls, cap)
    began, killed = time.monotonic(), 0
    share = 1.0 if cap_share is None else cap_share
    expected = calls * share * 1.3 if mode == "live" else calls / 100 * 40
    with module.Provider(seed=seed) as provider:
        last = (workspace / "child.log").open("ab")
        while True:
            child = _child(workspace, provider.url, mode, concurrency, provider.deadline_s, last)
            if killed < times:
                killed += _killed(child, provider, rng.uniform(0.3, 1.3) * expected / times)
            if child.wait() == 0:
                break
            if child.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the phase failed: {(workspace / 'child.log').read_text()[-2000:]}")
        last.close()
        return _books(workspace, provider, cap, killed, concurrency, time.monotonic() - began)


def _child(
    workspace: Path, url: str, mode: str, concurrency: int, deadline_s: float, log: Any
) -> "subprocess.Popen[bytes]":
    words = [str(workspace), url, mode, str(concurrency), str(deadline_s)]
    command = [sys.executable, "-P", str(Path(__file__)), "child", *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _killed(child: "subprocess.Popen[bytes]", provider: Any, after: float) -> bool:
    """Kill it when the provider has had so many requests more; False where it was done before."""
    until = provider.requests + max(1, round(after))
    while child.poll() is None and provider.requests < until:
        time.sleep(0.002)
    if child.poll() is not None:
        return False
    child.send_signal(signal.SIGKILL)
    child.wait()
    return True


def _books(
    workspace: Path, provider: Any, cap: int | None, killed: int, concurrency: int, seconds: float
) -> dict[str, Any]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        money, made = teaching.budget(db), teaching.calls(db, 0)
        picked = [one.sample_id for one in selections.of_round(db, 0)]
    last = {call.sample_id: call for call in made}
    fates = Counter(_fate(last.get(sample_id)) for sample_id in picked)
    in_doubt = sum(call.reserved_micro for call in made if call.state == "ambiguous")
    lost = sum(call.state == "ambiguous" and call.outcome is None for call in made)
    twice = sum(times > 1 for times in provider.billed.values())
    charged = max(money.settled_micro + money.reserved_micro, provider.bill_micro)
    unended = fates.keys() & {"planned", "reserved", "sent", "received", "not asked"}
    wrong = {
        "a key was billed twice": twice > 0,
        "the provider billed more than was charged": provider.bill_micro > money.settled_micro + in_doubt,
        "the cap was passed": cap is not None and charged > cap,
        "more was in flight than can have been": lost > killed * concurrency,
        "something is still held": money.reserved_micro != in_doubt,
        "a sample has no end": bool(unended) and cap is None,
    }
    return {
        "kills": killed,
        "seconds": round(seconds, 1),
        "requests": provider.requests,
        "faults": dict(provider.dealt),
        "fates": dict(fates),
        "lost_in_flight": lost,
        "billed_micro": provider.bill_micro,
        "settled_micro": money.settled_micro,
        "ambiguous_micro": in_doubt,
        "cap_micro": cap,
        "billed_twice": twice,
        "wrong": [name for name, is_so in wrong.items() if is_so],
    }


def _fate(call: teaching.Call | None) -> str:
    if call is None:
        return "not asked"
    if call.state == "ambiguous":
        return LOST if call.outcome is None else "broke off"
    return call.state


def pace(workspace: Path, *, calls: int, latency_s: float, concurrency: int) -> dict[str, Any]:
    """Wall time of live calls that all succeed, beside calls x latency / concurrency."""
    prepare(workspace, calls, None)
    with provider_module().Provider(latency_s=latency_s, every=0) as provider:
        # In a process of its own, as a night has it: the provider must not take the caller's interpreter.
        began = time.monotonic()
        with (workspace / "child.log").open("ab") as log:
            status = _child(workspace, provider.url, "live", concurrency, 30.0, log).wait()
        whole = time.monotonic() - began
    told = json.loads((workspace / "child.log").read_text().splitlines()[-1])
    ideal = calls * latency_s / concurrency
    return {
        "calls": calls,
        "ideal_s": ideal,
        "phase_s": round(told["seconds"], 2),
        "ratio": round(told["seconds"] / ideal, 3),
        "with_start_s": round(whole, 2),
        "billed_twice": sum(times > 1 for times in provider.billed.values()),
        "status": status,
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    child = parts.add_parser("child")
    for name in ("workspace", "url", "mode", "concurrency", "deadline_s"):
        child.add_argument(name)
    fire = parts.add_parser("kills")
    fire.add_argument("--calls", type=int, default=500)
    fire.add_argument("--kills", type=int, default=20)
    fire.add_argument("--mode", choices=("live", "batch"), default="live")
    fire.add_argument("--cap-share", type=float)
    fire.add_argument("--seed", type=int, default=1)
    fast = parts.add_parser("pace")
    fast.add_argument("--calls", type=int, default=1000)
    fast.add_argument("--latency", type=float, default=0.2)
    fast.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    if options.part == "child":
        began = time.monotonic()
        work(Path(options.workspace), options.url, options.mode, int(options.concurrency), float(options.deadline_s))
        print(json.dumps({"seconds": time.monotonic() - began}))
        return
    with tempfile.TemporaryDirectory(prefix="wizloop-") as folder:
        if options.part == "pace":
            made = {"latency_s": options.latency, "concurrency": options.concurrency}
            report = pace(Path(folder), calls=options.calls, **made)
        else:
            how = {"mode": options.mode, "cap_share": options.cap_share, "seed": options.seed}
            report = kills(Path(folder), calls=options.calls, times=options.kills, **how)
    print(json.dumps(report, indent=1))
    sys.exit(bool(report.get("wrong")))


if __name__ == "__main__":
    _main()
