"""Make mutants: mutmut's operators on a folder's functions, drawn by a seed, and joint mutants from a file.

mutmut runs its mutants through a copy of every function, which needs a package laid out as a folder of its name. Only
its operators are used here; a mutant is a whole file with one place changed.
"""

import ast
import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

JOINTS = "joints"
"""The group of hand-written mutants, beside the folders."""


class JointError(ValueError):
    """The text of a joint mutant does not occur exactly once."""


@dataclass(frozen=True)
class Mutant:
    """One change to one file. Its id comes from the code that changes: it outlives a moved file and a moved line."""

    id: str
    group: str
    file: str
    """Relative to the root."""
    where: str
    """The function, or the joint mutant's name."""
    before: str
    after: str
    code: str
    """The whole mutated file."""
    lines: range
    """The lines of the file that must run for the change to matter."""

    def shown(self) -> str:
        """Return the change in one line."""
        return f"{self.file} {self.where}: `{self.before}` to `{self.after}`"


def drawn(root: Path, folder: str, count: int, seed: int) -> tuple[list[Mutant], int]:
    """Return the folder's mutants that rank first under the seed, and how many there are to draw from.

    Raises FileNotFoundError for a folder without any.
    """
    found = [one for path in sorted((root / folder).rglob("*.py")) for one in _candidates(path)]
    if not found:
        raise FileNotFoundError(f"{root / folder} holds nothing to mutate")
    times: Counter[str] = Counter()
    ranked = []
    for path, module, mutation in found:
        content = _content(module, mutation)
        times[content] += 1
        id = hashlib.sha256(f"{content}\0{times[content]}".encode()).hexdigest()[:12]
        rank = hashlib.sha256(f"{seed}:{id}".encode()).hexdigest()
        ranked.append((rank, id, path, module, mutation))
    ranked.sort(key=lambda each: each[:2])
    kept = [_made(root, folder, id, path, module, mutation) for _, id, path, module, mutation in ranked[:count]]
    return kept, len(ranked)


def joints(root: Path, file: Path, folders: list[str]) -> list[Mutant]:
    """Return the hand-written mutants. Raises JointError for a text that does not occur exactly once."""
    written = tomllib.loads(file.read_text(encoding="utf-8"))["joint"]
    sources = {path: path.read_text(encoding="utf-8") for folder in folders for path in (root / folder).rglob("*.py")}
    return [_joint(root, one["name"], one["module"], one["old"], one["new"], sources) for one in written]


def _joint(root: Path, name: str, module: str, old: str, new: str, sources: dict[Path, str]) -> Mutant:
    # A module that has moved or was renamed is found by its code.
    named = {root / module: sources[root / module]} if old in sources.get(root / module, "") else sources
    holders = [path for path, code in named.items() for _ in range(code.count(old))]
    if len(holders) != 1:
        raise JointError(f"{name}: its text occurs {len(holders)} times, and must occur once: {old!r}")
    code = sources[holders[0]]
    start = code[: code.index(old)].count("\n") + 1
    changed = range(start, start + old.rstrip("\n").count("\n") + 1)
    mutated = code.replace(old, new)
    ast.parse(mutated)
    path = str(holders[0].relative_to(root))
    return Mutant(f"joint: {name}", JOINTS, path, name, _line(old), _line(new), mutated, _statement(code, changed))


def _candidates(path: Path) -> Iterator[tuple[Path, cst.Module, Mutation]]:
    """Yield every mutation inside a function, as mutmut makes them, but those of prose."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8")))
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
    wrapper.visit(visitor)
    for mutation in visitor.mutations:
        if isinstance(mutation.contained_by_top_level_function, cst.FunctionDef) and not _prose(mutation.original_node):
            yield path, wrapper.module, mutation


def _prose(node: cst.CSTNode) -> bool:
    """Whether a node is a text for people: its wording is nobody's business here."""
    return isinstance(node, cst.SimpleString) and " " in node.value


def _content(module: cst.Module, mutation: Mutation) -> str:
    function = mutation.contained_by_top_level_function
    assert function is not None
    nodes = (mutation.original_node, mutation.mutated_node)
    return "\0".join([function.name.value, *(module.code_for_node(node) for node in nodes)])


def _made(root: Path, group: str, id: str, path: Path, module: cst.Module, mutation: Mutation) -> Mutant:
    function = mutation.contained_by_top_level_function
    assert function is not None
    changed = module.deep_replace(mutation.original_node, mutation.mutated_node)  # type: ignore[arg-type]
    before, after, lines = _difference(module.code, changed.code)
    where, file = function.name.value, str(path.relative_to(root))
    return Mutant(id, group, file, where, before, after, changed.code, _statement(module.code, lines))


def _difference(code: str, mutated: str) -> tuple[str, str, range]:
    """Return what differs, in one line each, and which lines of the original do."""
    old, new = code.splitlines(), mutated.splitlines()
    start = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), len(new))
    most = min(len(old), len(new)) - start
    same = next((at for at in range(most) if old[-1 - at] != new[-1 - at]), most)
    stop = len(old) - same
    before, after = "\n".join(old[start:stop]), "\n".join(new[start : len(new) - same])
    return _line(before), _line(after), range(start + 1, max(stop, start + 1) + 1)


def _statement(code: str, lines: range) -> range:
    """Return all lines of the smallest statement around these, of a compound one its head: any of them may be run."""
    best = lines
    smallest = None
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        body = getattr(node, "body", None)
        last = max(node.lineno, body[0].lineno - 1) if isinstance(body, list) and body else node.end_lineno
        size = last - node.lineno
        if node.lineno <= lines.start <= last and (smallest is None or size < smallest):
            smallest, best = size, range(node.lineno, max(last, lines.stop - 1) + 1)
    return best


def _line(text: str) -> str:
    return " ".join(text.split())
