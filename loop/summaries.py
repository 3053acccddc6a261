"""The objects that `status --json` and `rounds --json` print. Scripts rely on the keys; money is in dollars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.console import chosen, label_gains
from wizloop.loop.controller import lock
from wizloop.store.checked_teacher import Checked, from_table
from wizloop.store.status import RunStatus

if TYPE_CHECKING:
    from wizloop.store.db import Connection
    from wizloop.store.evaluations import Evaluation
    from wizloop.store.exports import Export
    from wizloop.store.overview import BaseSummary, RoundSummary

_LIVE = ("created", "running", "paused")


def status_of(seen: RunStatus, workspace: Path) -> dict[str, Any]:
    """Return the state of the run; `alive` says whether a controller works on it now."""
    alive = lock.is_held(workspace)
    state, reason = _state(seen, alive)
    return {
        "run": seen.run,
        "state": state,
        "round": seen.round,
        "phase": seen.phase,
        "doing": (seen.doing or None) if alive else None,
        "waiting": seen.waiting if alive else None,
        "reason": reason,
        "teachers_out": {name: why for name, (_, why) in json.loads(seen.out).items()},
        "teachers_checked": checked_of(from_table(json.loads(seen.checked))),
        "budget": {
            "cap": usd(seen.cap_micro),
            "settled": usd(seen.settled_micro),
            "reserved": usd(seen.reserved_micro),
        },
        # A finished phase counts as complete, whatever its last batch recorded.
        "done": (seen.total if seen.phase_state == "done" else seen.done) or 0,
        "total": seen.total or 0,
        "rounds_wanted": seen.rounds_wanted,
        "until": _time(seen.until),
        "to_review": seen.to_review,
        "alive": alive,
        "pid": seen.pid if alive else None,
        "host": seen.host if alive else None,
        "heartbeat_at": _time(seen.heartbeat_at) if alive else None,
        "workspace": str(workspace),
    }


def checked_of(found: Mapping[str, Checked]) -> dict[str, dict[str, Any]]:
    """Return what is known of each measured teacher; `sentence` says it in words."""
    return {name: asdict(one) | {"sentence": one.sentence()} for name, one in found.items()}


def rounds_of(db: "Connection", workspace: Path) -> list[dict[str, Any]]:
    """Return every round that has begun, after round "base"; empty before the first."""
    from wizloop.store.overview import base_summary, summaries

    base = base_summary(db)
    first = [] if base is None else [base_of(base)]
    return first + [round_of(summary, workspace) for summary in summaries(db)]


def base_of(summary: "BaseSummary") -> dict[str, Any]:
    """Return the scores of the base, with the keys of a round: it was taught nothing and passed no gate."""
    return {
        "round": summary.name,
        "gate": None,
        "metrics": metrics_of(summary.evaluations),
        "selected": {},
        "teacher": {"answers": 0, "usd": 0.0},
        "exports": [],
        "exported": [],
        "baselines": summary.record.get("baselines", {}),
        "compared": summary.record.get("compared", {}),
        **_categories(summary.record),
        "speeds": {},
        "champion": None,
        "chosen": [],
        "labels": None,
        "challenger": None,
        "started_at": None,
        "ended_at": None,
        "record": summary.record,
    }


def round_of(summary: "RoundSummary", workspace: Path) -> dict[str, Any]:
    """Return one round's scores, cost and gate decision."""
    made = summary.round
    return {
        "round": made.number,
        "gate": {"passed": made.passed, "reason": made.gate_reason, "lower": made.record.get("gate_lower")},
        "metrics": metrics_of(summary.evaluations),
        "selected": summary.selected,
        "teacher": {"answers": summary.answers, "usd": usd(summary.spent_micro)},
        "exports": [str(workspace / export.path) for export in summary.exports if export.failed is None],
        "exported": [_export_of(export, workspace) for export in summary.exports],
        "baselines": made.record.get("baselines", {}),
        "compared": made.record.get("compared", {}),
        **_categories(made.record),
        "speeds": dict(summary.speeds),
        "champion": made.champion_after,
        "chosen": made.record.get(chosen.KEY, []),
        "labels": made.record.get(label_gains.KEY),
        "challenger": made.challenger,
        "started_at": _time(made.started_at),
        "ended_at": _time(made.ended_at),
        "record": made.record,
    }


def _categories(record: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of categories by benchmark, if the guard names any."""
    return {"categories": record["categories"]} if "categories" in record else {}


def _export_of(export: "Export", workspace: Path) -> dict[str, Any]:
    """Return one export: its own figures if it is lossy, `path` null if it failed."""
    parity = export.parity
    return {
        "format": export.format,
        "path": str(workspace / export.path) if export.failed is None else None,
        "passed": export.failed is None,
        "reason": parity.get("reason"),
        "metrics": parity.get("metrics", {}),
        **_categories(parity),
        "parity": {key: parity.get(key) for key in ("n", "agree", "max_difference")},
    }


def metrics_of(measured: Sequence["Evaluation"]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {benchmark: {task: figures}}; the figures include at least f1, low, high and n."""
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for row in measured:
        values = {"f1": None, "low": None, "high": None, **json.loads(row.metrics_json)}
        figures.setdefault(row.benchmark, {})[row.task] = {**values, "n": row.n, "unparsed": row.unparsed}
    return figures


def usd(micro: int | None) -> float | None:
    """Convert micro-dollars to dollars."""
    return None if micro is None else micro / 1_000_000


def _state(seen: RunStatus, alive: bool) -> tuple[str, str]:
    """Return the run's state and its reason; without a live controller, a run is stopped."""
    if alive or seen.ended or seen.state not in _LIVE:
        return seen.state, seen.reason
    if seen.state == "created":
        return "created", "not started yet. Run `wizloop start` to start."
    who = "the controller" if seen.pid is None else f"controller {seen.pid}"
    return "stopped", f"{who} died without a message (killed?). Run `wizloop start` to resume."


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
