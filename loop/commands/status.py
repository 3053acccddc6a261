"""What `status --json` and `rounds --json` print. The keys are a promise to scripts; money is in dollars."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.loop.controller import lock
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import Overview, RoundSummary

_LIVE = ("created", "running", "paused")


def status_of(overview: Overview, workspace: Path) -> dict[str, Any]:
    """Where the run stands, as one object. `alive` tells whether a controller works on it now."""
    run, step, alive = overview.run, overview.step, lock.is_held(workspace)
    controller = overview.controller if alive else None
    state, reason = _state(overview, alive)
    return {
        "run": run.name,
        "state": state,
        "round": overview.round,
        "phase": step.phase if step else None,
        "doing": (controller.doing or None) if controller else None,
        "waiting": controller.waiting if controller else None,
        "reason": reason,
        "budget": {
            "cap": usd(overview.budget.cap_micro),
            "settled": usd(overview.budget.settled_micro),
            "reserved": usd(overview.budget.reserved_micro),
        },
        # A phase that is done has done all, wherever its last piece was counted.
        "done": 0 if step is None else step.total if step.state == "done" else step.done,
        "total": step.total if step else 0,
        "rounds_wanted": run.rounds_wanted,
        "until": _time(run.until),
        "to_review": overview.to_review,
        "alive": alive,
        "pid": controller.pid if controller else None,
        "host": controller.host if controller else None,
        "heartbeat_at": _time(controller.heartbeat_at) if controller else None,
        "workspace": str(workspace),
    }


def round_of(summary: RoundSummary, workspace: Path) -> dict[str, Any]:
    """What one round measured, spent and decided, as one object."""
    made = summary.round
    return {
        "round": made.number,
        "gate": {"passed": made.passed, "reason": made.gate_reason},
        "metrics": metrics_of(summary.evaluations),
        "selected": summary.selected,
        "teacher": {"answers": summary.answers, "usd": usd(summary.spent_micro)},
        "exports": [str(workspace / export.path) for export in summary.exports],
        "champion": made.champion_after,
        "challenger": made.challenger,
        "started_at": _time(made.started_at),
        "ended_at": _time(made.ended_at),
        "record": made.record,
    }


def metrics_of(measured: Sequence[Evaluation]) -> dict[str, dict[str, dict[str, Any]]]:
    """{benchmark: {task: figures}}: whatever was measured, with at least f1, low, high and n."""
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for row in measured:
        values = {"f1": None, "low": None, "high": None, **json.loads(row.metrics_json)}
        figures.setdefault(row.benchmark, {})[row.task] = {**values, "n": row.n, "unparsed": row.unparsed}
    return figures


def usd(micro: int | None) -> float | None:
    """Micro-dollars in dollars."""
    return None if micro is None else micro / 1_000_000


def _state(overview: Overview, alive: bool) -> tuple[str, str]:
    """The run's state. Without a controller nothing runs or waits, whatever its last words were."""
    run = overview.run
    if alive or run.state not in _LIVE:
        return run.state, run.reason
    if run.state == "created":
        return "created", "not started yet: `wizloop start` begins"
    who = f"controller {overview.controller.pid}" if overview.controller else "the controller"
    return "stopped", f"{who} is gone without a word, killed perhaps: `wizloop start` goes on"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
