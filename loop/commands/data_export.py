"""`data`: a run's rows as files for other programs, and the errors of its models."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import (
    FILE,
    ROUND,
    in_workspace,
    in_workspace_with_json,
    new_file,
    now,
    put,
    report_errors,
    say,
    show,
    written_whole,
)

if TYPE_CHECKING:
    from wizloop.loop.evaluation.answered_rows import AnsweredRow
    from wizloop.loop.exchange.exported_rows import Form, Kind

_LINE = 400
"""Bytes of a line that shows a row; --rows has the whole text."""


@click.group(short_help="Write a run's lessons, pairs and other rows to files; list errors.")
def data() -> None:
    """Write a run's rows to files for other programs, and list its models' errors."""


@data.command("export", short_help="Write lessons, pairs, selections, hard samples or reviews.")
@click.argument("kind", type=click.Choice(["lessons", "pairs", "selections", "hard-samples", "reviews"]))
@click.option("--out", type=FILE, required=True, metavar="FILE", help="Write to this new file, as JSON Lines.")
@click.option(
    "--form",
    type=click.Choice(["plain", "messages", "mlx-lm-lora"]),
    default="plain",
    show_default=True,
    help="plain: prompt and completion, or TRL's columns of pairs; messages: as lists of them; mlx-lm-lora: its pairs.",
)
@click.option("--round", type=ROUND, metavar="N", help="Only rounds up to this one; default: all.")
@in_workspace
def export(kind: "Kind", out: Path, form: "Form", round: int | None, workspace: Path) -> None:
    """Write rows of a run to a file: one JSON object per line, each with its origin.

    What is in dev or test, or nearly repeats it, is left out. Texts are written as they are: a trainer that reads
    special tokens in them reads those of a hostile text, too.
    """
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.context import recipe_of, standalone
    from wizloop.loop.exchange import exported_rows
    from wizloop.store.db import Store

    new_file(out)
    with (
        report_errors(exported_rows.NoSuchForm, failures=(BackendError,)),
        Store.open(workspace, readonly=True) as store,
    ):
        with store.read() as db:
            recipe = recipe_of(db)
        made = exported_rows.export(standalone(store, workspace, recipe, "export", now()), kind, form, round)
        with written_whole(out) as file:
            n = sum(file.write(json.dumps(row) + "\n") > 0 for row in made.rows)
    for reason, count in made.left_out.items():
        say(f"left out {count:,}: {reason}")
    say(f"wrote {n:,} rows to {out}")


@data.command("errors", short_help="List the errors of a round's model on dev and test.")
@click.option(
    "--round", type=ROUND, metavar="N", help="Of the challenger of this round; default: of the champion, or the base."
)
@click.option("--benchmark", multiple=True, metavar="NAME", help="Only in dev, or in this test set; repeatable.")
@click.option("--texts", is_flag=True, help="Show the prompt and the response of each row, too.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, metavar="N", help="Rows to print.")
@click.option("--rows", type=FILE, metavar="FILE", help="Write every answered row to this new file, as JSON Lines.")
@in_workspace_with_json
def errors(
    round: int | None,
    benchmark: tuple[str, ...],
    texts: bool,
    limit: int,
    rows: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """List the errors of a round's model on dev and test, by kind and policy, from the answers of that night."""
    from wizloop.loop.commands import evaluate_files
    from wizloop.loop.evaluation import answered_rows, stored_answers
    from wizloop.store.db import Store

    new_file(rows)
    with report_errors(), Store.open(workspace, readonly=True) as store:
        model = stored_answers.model_of(store, round)
        found = stored_answers.answered(store, model, benchmark)
    counts = answered_rows.count_errors(found)
    wrong = [one for one in found if one.right is False]
    if rows is not None:
        evaluate_files.write_rows(rows, found, texts=texts)
    if as_json:
        put(
            {
                "model": model.name,
                "rows": len(found),
                "errors": [asdict(one) for one in counts],
                "wrong": [one.to_json(texts=texts) for one in wrong],
            }
        )
        return
    from wizloop.console.tables import console_for_tables
    from wizloop.loop.commands.evaluate_table import errors_table

    if counts:
        console_for_tables().print(errors_table(counts))
    for one in wrong[:limit]:
        _show_wrong(one, texts=texts)
    say(f"{model.name} was wrong about {len(wrong):,} of {len(found):,} labeled rows that it answered")


def _show_wrong(one: "AnsweredRow", *, texts: bool) -> None:
    for task, label in one.labels.items():
        if (error := one.error(task)) is not None:
            p = one.probability.get(task)
            said = "" if p is None else f", P {p:.3f}"
            show(f"{one.row}  {task} {label}: {error.replace('_', ' ')}{said}; {one.policy or 'no policy'}", _LINE)
    if texts:
        text = one.prompt if one.response is None else f"{one.prompt} / {one.response}"
        show(f"    {' '.join(text.split())}", _LINE)
