"""Protocols for plugins: a package may add a teacher, an import format, a selection strategy, an exporter, or a guard.

A package names a class in its pyproject.toml, and recipes and commands take the name:

    [project.entry-points."wizloop.strategies"]
    longest = "my_package:Longest"

A name has at most 32 lower-case letters, digits, ".", "-", and "_", and is no built-in's. A class is called without
arguments, a teacher's with its Setup. It has the members of the Protocol below; a subclass inherits the defaults.
This module imports nothing slow. It loads a plugin when a recipe or a command names it.
"""

import difflib
import errno
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from wizloop.backends.guard_types import Prompt
    from wizloop.backends.teachers.base import Answer, Question, Usage

Kind = Literal["teacher", "format", "strategy", "exporter", "guard"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GROUPS: Mapping[Kind, str] = MappingProxyType(
    {
        "teacher": "wizloop.teachers",
        "format": "wizloop.formats",
        "strategy": "wizloop.strategies",
        "exporter": "wizloop.exporters",
        "guard": "wizloop.guards",
    }
)
"""The group of entry points of each kind."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
RESERVED: Mapping[Kind, tuple[str, ...]] = MappingProxyType({"strategy": ("seed",), "teacher": ("server",)})
"""Names with another meaning: why a sample of round 0 was selected, and whose key a guard's server takes."""


class PluginError(ValueError):
    """A plugin is missing, cannot be imported, or failed; the message names it and its package."""


@dataclass(frozen=True)
class Setup:
    """What a teacher is built from."""

    name: str
    """Its name in the recipe."""
    options: Mapping[str, Any]
    """The table [teacher.options.NAME] of the recipe; empty where there is none."""
    key: str | None = field(default=None, repr=False)
    """From the variable WIZLOOP_NAME_KEY or the keyring (`wizloop keys set NAME`); never from the recipe."""
    instruction: str = ""
    """How to judge and which JSON to write, with the recipe's policies: a system prompt for a language model."""


class Teacher(Protocol):
    """Writes a rationale and verdicts for one sample. Build it cheaply: load a model at the first question."""

    model: str
    """The model that answers; part of the key of every call."""
    version: str
    """Changes whenever the same question may get another answer; part of the key of every call."""
    free: bool = True
    """Whether an answer costs nothing. A call to a free teacher that a crash cut off is repeated. One that costs money
    needs a price in the file that `teacher.prices` names, and its own `worst_usage`."""
    concurrency: int = 0
    """Threads that call `ask`, for a teacher behind a network; 0 asks one question after another."""

    def ask(self, question: "Question") -> "Answer":
        """Answer once. `answer_from_raw` of wizloop.backends.teachers.base turns JSON text into an Answer.

        Report faults that have an Outcome (overloaded, rate_limited, refused, ...) by it; an exception ends the run.
        """
        ...

    def read(self, raw: str, stop_reason: str | None, question: "Question") -> "Answer":
        """Read the `raw` text of an earlier Answer again, after a crash."""
        from wizloop.backends.teachers.base import Usage, answer_from_raw

        return answer_from_raw(raw, question, model=self.model, usage=Usage(), stop_reason=stop_reason)

    def worst_usage(self, question: "Question") -> "Usage":
        """Return the most tokens that a question can cost; they are reserved before it is sent."""
        from wizloop.backends.teachers.base import Usage

        return Usage()


class Row(NamedTuple):
    """One sample of a file, as an import format reads it."""

    prompt: str
    response: str | None = None
    labels: Mapping[str, str] = MappingProxyType({})
    """Task (request, completion, response) to label: harmful or unharmful, for completion refusal or compliance. The
    usual synonyms are understood ("unsafe", "1", ...); an unknown label refuses the row."""
    source: str | None = None
    policy: str | None = None


class ImportFormat(Protocol):
    """Recognizes a dataset by its columns and reads its records."""

    columns: Collection[str]
    """Columns that every record must have. The built-in formats are tried first."""
    note: str = ""
    """Note for the user about such a file; shown after the import."""

    def recognizes(self, record: Mapping[str, Any], file_name: str, /) -> bool:
        """Return whether a file is in this format, by its first record, which has the columns, and its name."""
        return True

    def read(self, record: Mapping[str, Any], /) -> Row | Sequence[Row]:
        """Return the samples of one record. Raise ValueError with the reason to refuse it."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pool sample that the guard has judged and no teacher has taught yet."""

    sample_id: int
    text: str
    """What is compared for near-duplicates: the prompt, and the response where there is one."""
    p: float | None
    """P(positive) of the sample's own main task, 0..1; None where the guard's answer could not be read."""
    confidence: float | None
    """In the unit of the round's chosen measure; only its order counts."""
    cell: str | None
    """uncertain_pass, confident_pass, uncertain_block or confident_block; None where there is no verdict."""
    disagreement: float | None
    """Sum over pairs of members of |p_i - p_j|, or the standard deviation of P(positive) over the committee's copies;
    None or 0 where there is nothing to disagree."""
    policy: str | None = None
    """The policy that the guard or the source assigned."""
    asked: Literal["members", "committee"] = "members"
    """Who disagrees."""


class SelectionStrategy(Protocol):
    """Ranks the pool: [select.shares] gives it a share of each round's budget. Its name is the stored reason."""

    def score(self, candidates: Sequence[Candidate], seed: int) -> Sequence[float | None]:
        """Return one score per candidate: the highest is picked first, None is never picked.

        The same candidates and seed must give the same scores, since a killed phase is repeated.
        """
        ...

    def explain(self, candidate: Candidate, score: float) -> str:
        """Return one sentence for the reviewer: why this candidate was picked."""
        return f"Scored {score:.3g}, the highest that were left."


class Exporter(Protocol):
    """Writes a trained guard for other programs. wizloop adds the card, guard.json and the manifest."""

    suffixes: Collection[str] = ()
    """File suffixes that it writes besides .safetensors, .json, .txt, .jinja and .md, such as ".onnx"."""
    loads: bool = False
    """Whether the folder is a model that wizloop's own backends load: then its answers are compared with the guard's.
    Else the card says that they were not."""

    def export(self, base: str, adapter: Path, to: Path) -> None:
        """Write files, and no subfolders, into the empty folder `to`.

        `base` is a folder or a Hugging Face name. `adapter` is a LoRA folder, in MLX's layout or in PEFT's.
        """
        ...


@dataclass(frozen=True)
class GuardQuestion:
    """One question to a published guard about a sample."""

    prompt: "Prompt"
    """Built of `Prompt` and `Part` of wizloop.backends.guard_types. The sample's texts are data, never trusted text."""
    words: Mapping[str, Mapping[str, str]]
    """By task that it answers: each word of the answer, spelled as its token begins (" yes"), and the word's label.
    Between them one token decides, which gives the probability."""


class Said(NamedTuple):
    """What a guard's answer says about a task."""

    label: str | None
    """None: it says that there is nothing to judge."""
    start: int
    """The character of the answer at which the word begins, without the space before it."""


class PublishedGuard(Protocol):
    """How a guard that another team trained is asked, in the prompt of its training, and how its answers are read."""

    source: str
    """Where its prompt and its answers are published."""
    max_tokens: int = 128
    """Tokens of the longest answer."""

    def questions(self, prompt: str, response: str | None, /) -> Sequence[GuardQuestion]:
        """Return the questions about a sample: one or several, with different tasks.

        Together they have the same tasks for every prompt, and for every prompt with a response.
        """
        ...

    def read(self, answer: str, question: GuardQuestion, /) -> Mapping[str, Said] | None:
        """Return what an answer says about each of the question's tasks; None if it is not in the guard's form."""
        ...


@cache
def installed(kind: Kind) -> Mapping[str, "tuple[EntryPoint, ...]"]:
    """Return the entry points of a kind by name, several where several packages claim it. Nothing is imported."""
    from importlib.metadata import entry_points

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in sorted(entry_points(group=GROUPS[kind]), key=lambda one: (one.name, package_of(one))):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def package_of(entry: "EntryPoint") -> str:
    """Return the distribution of an entry point, with its version."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def teacher(name: str, setup: Setup) -> Teacher:
    """Build an installed teacher. Raises PluginError."""
    made: Teacher = _made("teacher", name, Teacher, setup)
    return made


def import_format(name: str) -> ImportFormat:
    """Build an installed import format. Raises PluginError."""
    made: ImportFormat = _made("format", name, ImportFormat)
    return made


def strategy(name: str) -> SelectionStrategy:
    """Build an installed selection strategy. Raises PluginError."""
    made: SelectionStrategy = _made("strategy", name, SelectionStrategy)
    return made


def exporter(name: str) -> Exporter:
    """Build an installed exporter. Raises PluginError."""
    made: Exporter = _made("exporter", name, Exporter)
    return made


def guard(name: str) -> PublishedGuard:
    """Build an installed guard's form. Raises PluginError."""
    made: PublishedGuard = _made("guard", name, PublishedGuard)
    return made


@cache
def load(kind: Kind, name: str) -> Any:
    """Import the class that a name stands for, and nothing else. Raises PluginError."""
    entry = _entry(kind, name)
    try:
        return entry.load()
    except Exception as error:
        raise PluginError(
            f"the {_shown(kind, entry)} cannot be imported: {type(error).__name__}: {error}; repair or uninstall it"
        ) from error


def fault(kind: Kind, name: str, built_in: Collection[str] = ()) -> str | None:
    """Return why an installed plugin cannot be used, or None. Imports it; builds it unless it is a teacher."""
    try:
        refuse_name(kind, name, built_in)
        if kind == "teacher":
            made = load(kind, name)
            return None if callable(getattr(made, "ask", None)) else _lacks(kind, name, ["ask"])
        {"format": import_format, "strategy": strategy, "exporter": exporter, "guard": guard}[kind](name)
    except PluginError as error:
        return str(error)
    return None


def refuse_name(kind: Kind, name: str, built_in: Collection[str] = ()) -> None:
    """Raise PluginError for a name that is not installed, is not a valid one, or belongs to another already."""
    entry = _entry(kind, name, built_in)
    if NAME.fullmatch(name) is None:
        rule = 'use at most 32 lower-case letters, digits, ".", "-", and "_"'
        raise PluginError(f"the {_shown(kind, entry)} has a name that wizloop cannot use: {rule}")
    if name in built_in or name in RESERVED.get(kind, ()):
        raise PluginError(f"the {_shown(kind, entry)} has the name of a built-in {kind}: rename or uninstall it")


@contextmanager
def blamed(kind: Kind, name: str) -> Iterator[None]:
    """Turn whatever a plugin raises into a PluginError that names it; a full disk and lack of memory pass through."""
    try:
        yield
    except (PluginError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"the {_shown(kind, _entry(kind, name))} failed: {type(error).__name__}: {error}"
        raise PluginError(message) from error


def _entry(kind: Kind, name: str, built_in: Collection[str] = ()) -> "EntryPoint":
    """Return the one entry point of a name. Raises PluginError for none and for several."""
    found = installed(kind).get(name, ())
    if not found:
        known = [*built_in, *installed(kind)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = f"installed: {', '.join(installed(kind)) or 'none'}"
        listed = f"built in: {', '.join(built_in)}; {listed}" if built_in else listed
        raise PluginError(f"there is no {kind} {name!r} ({listed}){hint}")
    if len(found) > 1:
        packages = " and ".join(package_of(entry) for entry in found)
        raise PluginError(f"the {kind} {name!r} is in {packages}: uninstall all but one")
    return found[0]


def _made(kind: Kind, name: str, protocol: type, *given: object) -> Any:
    """Call the class of a plugin and check its members. Raises PluginError."""
    refuse_name(kind, name)
    with blamed(kind, name):
        made = load(kind, name)(*given)
    members = {*vars(protocol), *protocol.__annotations__}
    if missing := sorted(one for one in members if not one.startswith("_") and not hasattr(made, one)):
        raise PluginError(_lacks(kind, name, missing))
    return made


def _lacks(kind: Kind, name: str, missing: Sequence[str]) -> str:
    return f"the {_shown(kind, _entry(kind, name))} has no {', '.join(missing)}: see wizloop.plugins"


def _shown(kind: Kind, entry: "EntryPoint") -> str:
    return f"{kind} {entry.name!r} of {package_of(entry)} ({entry.value})"
