"""`traces compare`: two teachers' traces side by side."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import FILE, new_file, put, report_errors, say, with_json

if TYPE_CHECKING:
    from rich.table import Table

    from wizloop.loop.evaluation.compare_traces import Comparison, Side
    from wizloop.loop.measures.paired import Paired

_SHOWN = 10
_HEADS = ("traces", "answered", "right", "right at low", "right at medium", "right at high", "steps", "tokens")
"""`right at low` is the share of right verdicts among those with low confidence."""


@click.group(short_help="Compare two teachers' traces.")
def traces() -> None:
    """Work with teacher traces outside a run."""


@traces.command(short_help="Compare accuracy, calibration, length and agreement.")
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option("--out", type=FILE, help="Write the disagreements to this new file, in the traces schema.")
@with_json
def compare(a: Path, b: Path, out: Path | None, as_json: bool) -> None:
    """Compare two sets of traces: accuracy, calibration, length, agreement and disagreements.

    A and B are files in the traces schema, as `wizloop teach` writes them.
    """
    from wizloop.loop.evaluation import compare_traces

    new_file(out)
    with report_errors(compare_traces.NotTraces):
        found = compare_traces.compare(compare_traces.read(a), compare_traces.read(b), (a.name, b.name))
    if as_json:
        put(compare_traces.to_json(found))
    else:
        _show(found)
    if out is not None:
        text = json.dumps(compare_traces.document(found), indent=1, ensure_ascii=False)
        out.write_text(text + "\n", encoding="utf-8")
        say(f"wrote {len(found.disagreements)} disagreements to {out}")


def _show(found: "Comparison") -> None:
    from wizloop.console.tables import console_for_tables, plain
    from wizloop.loop.evaluation.report import DASH, share

    console = console_for_tables()
    columns = zip(_HEADS, _column(found.a), _column(found.b), strict=True)
    console.print(_table(["", found.a.name, found.b.name], columns))
    kappa = [f"{task} {DASH if one is None else f'{one:.2f}'}" for task, one in found.kappa.items()]
    console.print(plain(f"{found.shared:,} texts in both: agreement {share(found.agreement)}."))
    console.print(plain(f"Kappa: {', '.join(kappa) or DASH}."))
    console.print(
        plain(f"Only the first is right {found.only_a_right:,} times, only the second {found.only_b_right:,} times.")
    )
    if found.paired is not None:
        console.print(plain(_which(found.paired)))
    if not found.disagreements:
        return
    console.print(plain(f"{len(found.disagreements):,} disagreements, most confident first:"))
    rows = [
        (x.expected or DASH, *(f"{one.predicted or DASH} ({one.confidence or DASH})" for one in (x, y)), x.text[:200])
        for x, y in found.disagreements[:_SHOWN]
    ]
    console.print(_table(["label", "first", "second", "text"], rows))


def _which(found: "Paired") -> str:
    """Say which set is right more often, or what difference these texts would have shown."""
    from wizloop.loop.evaluation.against import p_value

    gap, told = found.accuracy, found.accuracy.detectable
    interval = "" if gap.low is None or gap.high is None else f" ({100 * gap.low:.1f} to {100 * gap.high:.1f})"
    figures = f"{100 * (gap.difference or 0):+.1f} points right{interval}, exact McNemar p {p_value(found.mcnemar)}"
    if found.conclusion != "cannot be told apart":
        return f"The first is {found.conclusion}: {figures}."
    shown = "no difference" if told is None else f"{100 * told:.1f} points or more"
    return f"They cannot be told apart: {figures}; {found.n:,} texts would have shown {shown}."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich.table import Table

    from wizloop.console.tables import plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(plain(head, 60))
    for row in rows:
        table.add_row(*(plain(" ".join(cell.split()), 80) for cell in row))
    return table


def _column(side: "Side") -> Iterator[str]:
    """Yield one side's figures in the order of the heads."""
    from wizloop.loop.evaluation.report import DASH, share

    yield f"{side.traces:,}"
    yield from map(share, (side.answered, side.right, *side.right_by_confidence.values()))
    yield from (DASH if mean is None else f"{mean:.1f}" for mean in (side.mean_steps, side.mean_tokens))
