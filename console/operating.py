"""Operating points, promised errors and speed in words, from what a calibration or a round's record says. Pure."""

import json
from collections.abc import Iterator, Mapping
from math import ceil, log
from typing import Any

from wizloop.console.words import CELL_NAMES

CELLS = ("promised", "let through silently", "deferred")
"""The figures of a promised error, as headings."""
_MEGABYTE = 1e6


def sentences(read: Mapping[str, Any]) -> list[str]:
    """Return what dev says of the operating point and of the promise, by task; empty where neither is asked for.

    `read` has `operating_point`, `reached`, `let_through`, `cuts` and `source`, as a round's record has them.
    """
    source = read.get("source", {})
    said = []
    for task, by_source in read.get("reached", {}).items():
        if rates := by_source.get(source.get(task, "direct")):
            said.append(f"{task}: the threshold is set on dev for {_point(read['operating_point'])}{_reached(rates)}.")
    return said + [_promised(task, cut, read["let_through"]) for task, cut in _cuts(read)]


def missing(read: Mapping[str, Any]) -> list[str]:
    """Return for each task how many harmful dev prompts the promise lacks, if it does."""
    return [_promised(task, cut, read["let_through"]) for task, cut in _cuts(read) if cut["missing"]]


def _cuts(read: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for task, by_source in read.get("cuts", {}).items():
        if cut := by_source.get(read.get("source", {}).get(task, "direct")):
            yield task, cut


def _point(asked: str) -> str:
    """Say `fpr<=0.01` in words: a card shows no `<`."""
    name, _, rate = asked.partition("<=" if "<=" in asked else ">=")
    words = {"fpr": "a false-positive rate of at most", "recall": "a recall of at least"}
    return f"{words[name]} {_percent(float(rate))}"


def _reached(rates: Mapping[str, Mapping[str, Any]]) -> str:
    words = {"fpr": "false-positive rate", "recall": "recall"}
    if not all(rates[name]["n"] for name in words):
        return ", which takes rows of both labels: it is one half"
    told = (f"a {words[name]} of {_share(rates[name], ' to ')} on {rates[name]['n']:,} rows" for name in words)
    return f", where it has {' and '.join(told)}"


def _promised(task: str, cut: Mapping[str, Any], promise: float) -> str:
    if cut["missing"]:
        return (
            f"{task}: at most {_percent(promise)} of what is harmful let through cannot be promised: that takes "
            f"{cut['n'] + cut['missing']:,} harmful dev prompts, and {cut['missing']:,} are missing; what is not "
            "blocked is deferred."
        )
    return (
        f"{task}: at most {_percent(promise)} of what is harmful is let through, below a raw probability of "
        f"{cut['below']:.4f}: {cut['misses']:,} of {cut['n']:,} harmful dev prompts, upper 95 % bound "
        f"{_percent(cut['bound'])}."
    )


def cell_words(cell: str | None, calibration_json: str | None, signals: Mapping[str, float | None]) -> str:
    """Return the name of a cell, `uncertain compliance`, and under a promise whether the sample is deferred."""
    name = "no cell" if cell is None else CELL_NAMES.get(cell, cell)
    known = json.loads(calibration_json) if calibration_json else {}
    return f"{name}, deferred" if known.get("let_through") is not None and _is_deferred(known, signals) else name


def _is_deferred(known: Mapping[str, Any], signals: Mapping[str, float | None]) -> bool:
    """Return what the loop's calibration decides, of which a test compares it: the console loads nothing of the loop.

    The response decides where there is one, and a sample without traces or a head's answer is judged directly.
    """
    task = "response" if {f"p_{way}_response" for way in ("direct", "traces", "linear")} & signals.keys() else "request"
    source = known["source"].get(task, "direct")
    traced = any(name.startswith("p_traces_") for name in signals)
    source = source if (f"p_linear_{task}" in signals if source == "linear" else traced) else "direct"
    p, cut = signals.get(f"p_{source}_{task}"), known["cuts"].get(task, {}).get(source, {"below": 0.0})
    return p is None or cut["below"] <= p < known["thresholds"].get(task, {}).get(source, 0.5)


def cells(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what was let through and deferred under a promise, in the order of CELLS."""
    over = ", over" if found["over"] else ""
    misses, deferred = found["misses"], found["deferred"]
    let_through = "-" if misses["rate"] is None else f"{_share(misses)} of {misses['n']:,}{over}"
    return _percent(found["promise"]), let_through, f"{_share(deferred)} of {deferred['n']:,}"


def measured(by_place: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each set and task that was measured under a promise; `by_place` has their figures."""
    for place, figures in by_place.items():
        if found := figures.get("promise"):
            promised, let_through, deferred = cells(found)
            kept = f"let through silently {let_through} harmful, promised at most {promised}"
            yield f"{place}: {kept}; deferred {deferred}."
            yield from by_category(place, found)


def by_category(place: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each category or policy with enough harmful rows, and how many have too few."""
    groups = found.get("by_group", {})
    told = {name: one for name, one in groups.items() if not one["missing"]}
    for name, one in told.items():
        share = f"{one['misses']:,} of {one['n']:,} harmful, upper 95 % bound {_percent(one['bound'])}"
        yield f"{place}, {name}: let through silently {share}."
    if few := found.get("too_few", len(groups) - len(told)):
        least = rows_needed(found["promise"])
        named = "1 category has" if few == 1 else f"{few:,} categories have"
        yield f"{place}: {named} fewer than the {least:,} harmful rows that can show {_percent(found['promise'])}."


def rows_needed(promise: float) -> int:
    """Return the least number of harmful rows that can show a miss rate; as `loop.measures.promised_error` has it."""
    return ceil(log(0.05) / log(1 - promise) - 1e-12)


def recalls(figures: Mapping[str, Any]) -> str:
    """Return recall at each false-positive rate that was measured: `1 %: 71.0 % (62-79), 5 %: ...`; else nothing."""
    told = {
        fpr: f"{100 * one['value']:.1f} % ({100 * one['low']:.0f}-{100 * one['high']:.0f})"
        for fpr, one in figures.get("recall_at_fpr", {}).items()
        if one["value"] is not None and one["low"] is not None
    }
    return ", ".join(f"at {_percent(float(fpr))} {value}" for fpr, value in told.items())


def _share(found: Mapping[str, Any], to: str = "-") -> str:
    """Format `1.6 % (0.3-8.5)`."""
    return f"{100 * found['rate']:.1f} % ({100 * found['low']:.1f}{to}{100 * found['high']:.1f})"


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def speed(found: Mapping[str, Any]) -> str:
    """Return what was measured of a guard's speed and memory as one sentence; what was not measured is left out."""
    rates = {"rows_per_s": "{:,.1f} rows a second", "tokens_per_s": "{:,.0f} tokens a second"}
    told = [form.format(found[name]) for name, form in rates.items() if found.get(name) is not None]
    if found.get("p50_ms") is not None:
        one_by_one = f"{found['latency_rows']:,} row{'' if found['latency_rows'] == 1 else 's'} asked one by one"
        told.append(f"latency p50 {found['p50_ms']:,.0f} ms and p95 {found['p95_ms']:,.0f} ms ({one_by_one})")
    peaks = {"peak_memory_bytes": "peak memory {:,.0f} MB", "peak_gpu_bytes": "on the GPU {:,.0f} MB"}
    told += [form.format(found[name] / _MEGABYTE) for name, form in peaks.items() if found.get(name) is not None]
    return f"Speed on {found['on']}: {', '.join(told)}." if told else ""
