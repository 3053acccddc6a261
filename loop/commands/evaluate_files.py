"""What evaluations leave behind: a report, its entry in the run's log, and the rows with their answers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import now, say, written_whole

if TYPE_CHECKING:
    from wizloop.loop.evaluation.against import Line
    from wizloop.loop.evaluation.answered_rows import AnsweredRow, ErrorCount
    from wizloop.loop.evaluation.report import Section
    from wizloop.loop.evaluation.robustness import Robustness
    from wizloop.loop.evaluation.scoring import BenchmarkResult, ScoredRow


def write_report(
    folder: Path,
    scored: "Sequence[tuple[BenchmarkResult, Sequence[ScoredRow]]]",
    errors: "Sequence[ErrorCount]",
    compared: "Sequence[Line]",
    robust: "Sequence[Robustness]",
    notes: Mapping[str, Any],
) -> None:
    """Write a report with plots into a new folder; no text of a row is in it."""
    from wizloop.loop.evaluation import against, plots, report, robustness_tables

    folder.mkdir(parents=True)
    pictures: dict[str, Path] = {}
    for number, (one, rows) in enumerate(scored, start=1):
        pictures |= plots.draw(folder, number, one, rows)
    sections = [
        _of_categories(notes.get("categories", {})),
        against.in_report(compared),
        robustness_tables.in_report(robust),
    ]
    path = report.write(folder, [one for one, _ in scored], pictures, "Evaluation", errors, sections)
    say(f"wrote the report to {path}")


def _of_categories(found: Mapping[str, Any]) -> "Section":
    """Return the figures of categories as a report shows them; nothing for a guard without."""
    from wizloop.console import category_figures
    from wizloop.loop.evaluation.report import Section

    rows = [
        (benchmark, name, value, f"{n:,}")
        for benchmark, figures in category_figures.in_order(found)
        for name, value, n in category_figures.all_of(figures)
    ]
    tables = [("Categories", ("benchmark", "category", "F1", "rows"), rows)] if rows else []
    return Section({"categories": found} if found else {}, tables, [category_figures.NOTE])


def write_rows(path: Path, answered: "Sequence[AnsweredRow]", *, texts: bool) -> None:
    """Write answered rows to a new file, as JSON Lines."""
    from wizloop.loop.evaluation import answered_rows

    with written_whole(path) as file:
        answered_rows.write(file, answered, texts=texts)
    say(f"wrote {len(answered):,} rows to {path}")


def log_report(
    workspace: Path, folder: Path, scored: "Sequence[BenchmarkResult]", round: int | None, model: Path | None
) -> None:
    """Add the report's folder to the run's log, so that the rounds screen can open it."""
    from wizloop.loop.phases import model_roles
    from wizloop.store import errors, events
    from wizloop.store.db import Store

    benchmarks = ", ".join(dict.fromkeys(one.benchmark for one in scored))
    try:
        with Store.open(workspace) as store, store.write() as db:
            if model is None and round is None:
                round = model_roles.champion_after(db, None).round
            who = str(model) if model is not None else f"the champion after round {round}"
            events.add(
                db,
                level="info",
                message=f"{who} was evaluated on {benchmarks}: the report is in {folder.absolute()}",
                now=now(),
                phase="evaluate",
                round=None if model is not None else round,
                data_json=json.dumps({"report": str(folder.absolute())}),
            )
    except errors.StoreError as error:
        say(f"cannot add the report to the run's log: {error}")
