"""`traces compare`: two teachers' traces side by side."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import FILE, new_file, put, say, sentences, with_json

if TYPE_CHECKING:
    from rich.table import Table

    from wizloop.loop.evaluation.compare_traces import Comparison, Side

_SHOWN = 10


@click.group(short_help="Two teachers' traces side by side.")
def traces() -> None:
    """Teacher traces outside of a run."""


@traces.command(short_help="Right, calibrated, agreeing; and where they differ.")
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option("--out", type=FILE, help="Write the disagreements into this new file, in the traces schema.")
@with_json
def compare(a: Path, b: Path, out: Path | None, as_json: bool) -> None:
    """Two sets of traces: right, calibrated, long, agreeing; and where they differ.

    A and B are files in the traces schema, as `wizloop teach` writes them.
    """
    from wizloop.loop.evaluation import compare_traces

    new_file(out)
    with sentences(compare_traces.NotTraces):
        found = compare_traces.compare(compare_traces.read(a), compare_traces.read(b), (a.name, b.name))
    if as_json:
        put(compare_traces.to_json(found))
    else:
        _show(found)
    if out is not None:
        document = compare_traces.document(found)
        out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"{len(found.disagreements)} disagreements are in {out}")


def _show(found: "Comparison") -> None:
    from wizloop.console.tables import console_for_tables, plain
    from wizloop.loop.evaluation.report import DASH, share

    console = console_for_tables()
    console.print(_table(["", found.a.name, found.b.name], zip(_HEADS, _of(found.a), _of(found.b), strict=True)))
    kappa = [f"{task} {DASH if one is None else f'{one:.2f}'}" for task, one in found.kappa.items()]
    console.print(plain(f"{found.shared:,} texts are in both: agreement {share(found.agreement)}."))
    console.print(plain(f"Kappa: {', '.join(kappa) or DASH}."))
    console.print(
        plain(f"Only the first is right {found.only_a_right:,} times, the second {found.only_b_right:,} times.")
    )
    shown = found.disagreements[:_SHOWN]
    if not shown:
        return
    console.print(plain(f"{len(found.disagreements):,} disagreements, the surest first:"))
    rows = [
        (x.expected or DASH, *(f"{one.predicted or DASH} ({one.confidence or DASH})" for one in (x, y)), x.text[:200])
        for x, y in shown
    ]
    console.print(_table(["label", "first", "second", "text"], rows))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich.table import Table

    from wizloop.console.tables import plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(plain(head, 60))
    for row in rows:
        table.add_row(*(plain(" ".join(cell.split()), 80) for cell in row))
    return table


_HEADS = ("traces", "answered", "right", "right where low", "right where medium", "right where high", "steps", "tokens")


def _of(side: "Side") -> Iterator[str]:
    """One set's column, in the order of the heads."""
    from wizloop.loop.evaluation.report import DASH, share

    yield f"{side.traces:,}"
    yield share(side.answered)
    yield share(side.right)
    yield from map(share, side.right_by_confidence.values())
    for mean in (side.mean_steps, side.mean_tokens):
        yield DASH if mean is None else f"{mean:.1f}"
