"""The raters of a set on a terminal of 80 columns: figures with intervals, confusion tables, and words."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from wizloop.console.tables import console_for_tables, plain
from wizloop.loop.evaluation.rater_agreement import Agreed, Agreement, too_few
from wizloop.loop.evaluation.report import DASH
from wizloop.loop.measures.agreement import Figure
from wizloop.loop.measures.metrics import FEW
from wizloop.store.ratings import COHERENT

_NAME = 24
"""Columns of a rater's name; a longer one wraps."""


def show(found: Agreement) -> None:
    """Print the raters, their agreement by pair and all together, the confusion tables, and what the figures are."""
    console = console_for_tables()
    about = found.set
    where = "" if about.round is None else f", round {about.round}"
    console.print(plain(f"Set {about.id}: {found.n:,} outputs of {about.name} ({about.of}{where}), seed {about.seed}."))
    if not found.raters:
        console.print(plain("Nobody has rated it yet: `wizloop rate --as NAME`, or `wizloop rate export`."))
        return
    console.print()
    console.print(_raters(found))
    if len(found.raters) < 2:
        console.print(plain("Agreement needs two raters."))
        return
    console.print()
    console.print(_figures(found))
    for one in found.pairs:
        if one.pair.n:
            first, second = one.raters
            console.print()
            console.print(plain(f"{one.question.name}: {first} by row, {second} by column"))
            console.print(_confusion(one))
    console.print()
    for note in notes(found):
        console.print(plain(note))


def notes(found: Agreement) -> list[str]:
    """Explain the figures: what they are, which are undefined, and whether there are enough ratings."""
    said = [
        "same: share of equal answers; kappa: Cohen's, for coherence with quadratic weights; alpha: Krippendorff's of "
        "all raters, for coherence ordinal. In brackets 95 % intervals, bootstrapped by prompt."
    ]
    if few := too_few(found):
        named = ", ".join(f"{one.question.name} {one.pair.prompts} ({' / '.join(one.raters)})" for one in few)
        said.append(f"Too few for an interval, which needs {FEW} prompts that both rated: {named}.")
    if any(one.pair.n and one.pair.kappa.value is None for one in found.pairs):
        said.append(f"{DASH}: both gave one label only, so that no agreement beyond chance can be shown.")
    differing = len(found.differing)
    said.append(f"Raters differ on {differing:,} outputs" + ("; --rows FILE writes them." if differing else "."))
    return said


def _raters(found: Agreement) -> Table:
    heads = ("rater", "rated", "coherence, mean", f"coherent ({COHERENT} or 5)")
    rows = [
        (one.name, f"{one.rated} of {found.n}", _number(one.grades.mean), _percent(one.grades.share))
        for one in found.raters
    ]
    return _headed(heads, rows)


def _figures(found: Agreement) -> Table:
    """Build a row for each question and pair, with alpha on a question's first row."""
    alphas = {one.question.name: one.figure for one in found.alphas}
    rows = []
    for one in found.pairs:
        alpha = alphas.pop(one.question.name, None)
        both = " / ".join(one.raters)
        figures = (_percent(one.pair.same), _number(one.pair.kappa), "" if alpha is None else _number(alpha))
        rows.append((one.question.name, both, f"{one.pair.n:,}", *figures))
    return _headed(("question", "raters", "n", "same", "kappa", "alpha"), rows)


def _confusion(one: Agreed) -> Table:
    """Build the counts of two raters' answers: the first by row, the second by column."""
    rows = [(label, *map(str, counts)) for label, counts in zip(one.question.labels, one.pair.table, strict=True)]
    return _headed(("", *one.question.labels), rows)


def _number(figure: Figure) -> str:
    if figure.value is None:
        return DASH
    return f"{figure.value:.2f}" + ("" if figure.low is None else f" ({figure.low:.2f} to {figure.high:.2f})")


def _percent(figure: Figure) -> str:
    if figure.value is None:
        return DASH
    interval = "" if figure.low is None or figure.high is None else f" ({100 * figure.low:.0f}-{100 * figure.high:.0f})"
    return f"{100 * figure.value:.0f} %{interval}"


def _headed(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        named = head in ("rater", "raters", "question", "")
        table.add_column(plain(head), justify="left" if named else "right", overflow="fold")
        if head in ("rater", "raters"):
            table.columns[-1].max_width = _NAME
    for row in rows:
        table.add_row(*map(plain, row))
    return table
