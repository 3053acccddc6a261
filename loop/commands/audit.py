"""`audit`: labels that are likely wrong."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import FILE, ROUND, SPLITS, in_workspace_with_json, new_file, put, run_models, say

if TYPE_CHECKING:
    from wizloop.loop.evaluation.label_audit import Opinion

_TEXT = 200
"""Bytes of a text that are printed; --out has the whole text with --texts."""


@click.command(short_help="List labels that are likely wrong, most likely first.")
@click.option("--split", type=click.Choice(SPLITS), multiple=True, help="Audit these splits; default: all.")
@click.option(
    "--round", type=ROUND, metavar="N", help="Ask the champion after this round; default: the current champion."
)
@click.option("--traces", type=FILE, help="Use a teacher's traces of these samples, as `wizloop teach` writes them.")
@click.option("--untaught", is_flag=True, help="Also list labels that only the guards contradict; most are right.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Rows to print.")
@click.option("--out", type=FILE, help="Write all rows to this new file, as JSON Lines.")
@click.option("--texts", is_flag=True, help="In --out and --json, write the prompt and the response of each row, too.")
@in_workspace_with_json
def audit(
    split: tuple[str, ...],
    round: int | None,
    traces: Path | None,
    untaught: bool,
    limit: int,
    out: Path | None,
    texts: bool,
    workspace: Path,
    as_json: bool,
) -> None:
    """List labels that a confident guard, its members and the teacher all contradict, most likely errors first.

    The policy reasoner is asked about samples that it has not seen; for other teachers, give --traces. A guard repeats
    the labels that it was trained on: a seed row that is listed anyway is all the more likely wrong.
    """
    new_file(out)
    from wizloop.loop.evaluation import label_audit

    opinions = _opinions(workspace, split or SPLITS, round, traces)
    suspects = label_audit.suspects(opinions, untaught=untaught)
    if as_json:
        put({"labels": len(opinions), "suspects": [_row(each, texts=texts) for each in suspects]})
    else:
        _show(suspects, limit, len(opinions))
    if out is not None:
        text = "".join(json.dumps(_row(each, texts=texts)) + "\n" for each in suspects)
        out.write_text(text, encoding="utf-8")
        say(f"wrote {len(suspects)} rows to {out}")


def _opinions(workspace: Path, splits: Sequence[str], round: int | None, traces: Path | None) -> "list[Opinion]":
    from wizloop.loop.evaluation import compare_traces, label_audit
    from wizloop.loop.phases import model_roles
    from wizloop.recipes.policies import PolicyError

    with run_models(workspace, "audit", PolicyError, compare_traces.NotTraces) as ctx:
        with ctx.store.read() as db:
            model = model_roles.champion_after(db, round)
        written = [] if traces is None else compare_traces.read(traces)
        return label_audit.opinions(ctx, model, splits, written)


def _row(one: "Opinion", *, texts: bool) -> dict[str, Any]:
    row = {**asdict(one), "self_confidence": round(one.p, 6)}
    return row if texts else {name: value for name, value in row.items() if name not in ("prompt", "response")}


def _show(suspects: "Sequence[Opinion]", limit: int, labels: int) -> None:
    from wizloop.console.tables import console_for_tables, plain

    console = console_for_tables()
    taught = sum(each.teacher is not None for each in suspects)
    summary = f"{len(suspects):,} of {labels:,} known labels are suspect"
    if suspects:
        summary += (
            f": a teacher contradicts {taught:,}, only the guards {len(suspects) - taught:,}. The first "
            f"{min(limit, len(suspects)):,}, most likely first, with the guard's probability of the label:"
        )
    console.print(plain(summary))
    for each in suspects[:limit]:
        text = each.prompt if each.response is None else f"{each.prompt} / {each.response}"
        teacher = "no teacher was asked" if each.teacher is None else f"the teacher says {each.teacher}"
        # Wrap, not cut: the reference must stay whole.
        line = f"{each.row_ref}  {each.task} {each.label} ({each.p:.3f}); {teacher}"
        console.print(plain(" ".join(line.split())), soft_wrap=True)
        console.print(plain(f"    {' '.join(text.split())}", _TEXT), soft_wrap=True)
