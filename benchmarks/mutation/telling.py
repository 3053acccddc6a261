"""Tell what came of mutants: a section of a Markdown file, between two marks."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from mutation.making import JOINTS, Mutant
from mutation.trying import Results

BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"


@dataclass(frozen=True)
class Group:
    """A folder's mutants, or the joint ones."""

    name: str
    mutants: Sequence[Mutant]
    drawn_from: int

    def tried(self, results: Results) -> list[Mutant]:
        """Return those whose outcome stands."""
        return [mutant for mutant in self.mutants if results.stands(mutant)]

    def survivors(self, results: Results) -> list[Mutant]:
        """Return those that no test has killed."""
        return [mutant for mutant in self.tried(results) if results.found[mutant.id]["status"] == "survived"]

    def good(self, results: Results, bar: float) -> bool:
        """Return whether enough are killed: of the joint ones all."""
        killed = len(self.tried(results)) - len(self.survivors(results))
        return killed >= (1.0 if self.name == JOINTS else bar) * len(self.mutants)


def section(groups: Sequence[Group], results: Results, harmless: Mapping[str, str], about: str) -> str:
    """Return the section: a table of the groups and every survivor, with the reason why it is harmless or "-"."""
    lines = [f"## Mutants (`make mutants`, {about})", ""]
    lines += ["| mutants of | drawn | tried | killed | of them by time-out | share killed (95 % interval) |"]
    lines += ["|---|---|---|---|---|---|", *(_row(group, results) for group in groups), ""]
    survivors = [line for group in groups for line in _survivors(group, results, harmless)]
    return "\n".join([*lines, "Survivors:", "", *(survivors or ["- none"]), ""])


def write(file: Path, text: str) -> None:
    """Put the section between the marks, or at the end of a file that has none."""
    told = file.read_text(encoding="utf-8") if file.exists() else ""
    marked = f"{BEGIN}\n\n{text}\n{END}"
    if BEGIN in told and END in told:
        before, _, rest = told.partition(BEGIN)
        file.write_text(f"{before}{marked}{rest.partition(END)[2]}", encoding="utf-8")
    else:
        file.write_text(f"{told.rstrip()}\n\n{marked}\n".lstrip(), encoding="utf-8")


def verdicts(file: Path) -> dict[str, str]:
    """Return why survivors are harmless, by id."""
    found: dict[str, str] = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def _row(group: Group, results: Results) -> str:
    tried = group.tried(results)
    n, killed = len(tried), len(tried) - len(group.survivors(results))
    late = sum(results.found[mutant.id]["status"] == "timeout" for mutant in tried)
    drawn = f"{len(group.mutants)} of {group.drawn_from:,}"
    return f"| {group.name} | {drawn} | {n} | {killed} | {late} | {_share(killed, n)} |"


def _share(killed: int, n: int) -> str:
    """Return the share with its exact interval (Clopper-Pearson), in per cent."""
    if not n:
        return "-"
    interval = binomtest(killed, n).proportion_ci(0.95, "exact")
    return f"{100 * killed / n:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _survivors(group: Group, results: Results, harmless: Mapping[str, str]) -> Iterator[str]:
    for mutant in sorted(group.survivors(results), key=lambda each: (each.file, each.lines.start, each.id)):
        came = results.found[mutant.id]
        left_out = f" ({came['left_out']} slower ones left out)" if came["left_out"] else ""
        run = f", {came['tests']} tests{left_out}" if came["covered"] else ", no test runs it"
        change = f"`{_code(mutant.before)}` to `{_code(mutant.after)}`"
        why = f"harmless because {harmless[mutant.id]}" if mutant.id in harmless else "-"
        yield f"- {mutant.id} {mutant.file}, {mutant.where}{run}: {change}: {why}"


def _code(text: str) -> str:
    return text.replace("`", "'") or " "
