"""guard.json of an exported folder: the settings and the calibration to run the guard without its workspace.

The folder is untrusted: the file is bounded and validated like a recipe, and cannot name a server, a path or code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wizloop import regular_file
from wizloop.backends import base_blocks, gguf_names
from wizloop.loop.guard import instructions, linear_way, shown_policies
from wizloop.loop.guard.backend import Backend, choose_backend
from wizloop.loop.guard.judge import Judge, Limits, load_guard, local, renderer_of, uncalibrated
from wizloop.loop.guard.linear_way import Linear
from wizloop.loop.guard.readers import READERS, STRICT, TOLERANT, Reader
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.answer_choice import Source
from wizloop.loop.measures.calibration import Calibration, without_linear
from wizloop.loop.measures.confidence import MEASURES
from wizloop.loop.measures.operating_points import BEST
from wizloop.loop.words import DEFAULT, Declaration, Task
from wizloop.recipes import schema, sections
from wizloop.recipes.guard_policies import PolicyKeys
from wizloop.recipes.policies import PolicySet
from wizloop.recipes.schema import Recipe
from wizloop.recipes.tasks import Tasks

NAME = "guard.json"
MOST_BYTES = 1 << 20
"""Maximum size of the file; the longest instruction takes a tenth of it."""
MOST_TOKENS = 1 << 20
"""Maximum of each limit in tokens, and of the traces per sample."""
_NOT_OURS = {"base", "backend", "device", "engine", "server", "quantise"}
"""Keys of [guard] that depend on the machine."""

_Finite = Annotated[float, Field(ge=-1e6, le=1e6)]
_Slope = Annotated[float, Field(gt=0, le=1e6)]
_Frame = Annotated[str, Field(max_length=instructions.MOST_CHARS)]
_Word = Annotated[str, Field(max_length=300)]
_Cut = Annotated[float, Field(gt=0, lt=1)]
_Unit = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Rate(_Checked):
    k: _Count
    n: _Count
    rate: _Unit | None
    low: _Unit | None
    high: _Unit | None


class _PromisedCut(_Checked):
    below: _Unit
    n: _Count
    missing: _Count
    misses: _Count
    bound: _Unit | None


class GuardCalibration(_Checked):
    """What an exported guard needs of a Calibration: it is asked alone, without members."""

    source: dict[Task, Source]
    thresholds: dict[Task, dict[Source, _Cut]]
    """Raw probabilities."""
    scales: dict[Task, dict[Source, tuple[_Slope, _Finite]]]
    measure: Literal[MEASURES]  # type: ignore[valid-type]
    """The measure used as confidence."""
    cut: _Finite
    """The confidence from which a verdict is confident."""
    operating_point: sections.OperatingPoint = sections.added(BEST)
    reached: dict[Task, dict[Source, dict[Literal["fpr", "recall"], _Rate]]] = sections.added({})
    let_through: _Cut | None = sections.added(None)
    cuts: dict[Task, dict[Source, _PromisedCut]] = sections.added({})
    """By task and source, the cut below which a sample is let through under that promise."""
    categories: dict[_Word, _Unit] = sections.added({})
    """By category, the probability from which a text is in it; left out for a guard without categories."""
    linear: Literal["linear.safetensors"] | None = sections.added(None)
    """The file of the linear head, if it gives some verdict."""

    @model_validator(mode="after")
    def _has_its_head(self) -> "GuardCalibration":
        if ("linear" in self.source.values()) != (self.linear is not None):
            raise ValueError("the source linear and the file of the linear head go together")
        return self

    @classmethod
    def of(cls, known: Calibration) -> "GuardCalibration":
        """Take what decides the answers of a guard that is asked alone; without a head that gives no verdict."""
        known = known if known.reads_linear else without_linear(known, ())
        said = {
            "source": known.source,
            "thresholds": known.thresholds,
            "scales": known.scales,
            "measure": known.own,
            "cut": known.own_cut,
            **known.operating(),
            "categories": dict(known.categories),
            "linear": linear_way.NAME if known.reads_linear else None,
        }
        return cls.model_validate_json(json.dumps(said))

    def calibration(self, window: int, declared: Declaration = DEFAULT) -> Calibration:
        """Return it as the calibration of a judge."""
        chosen = self.model_dump(mode="json", exclude={"linear"})
        chosen |= {"own": self.measure, "own_cut": self.cut, "window": window}
        return Calibration.from_json(json.dumps(chosen), declared)


class GuardFile(_Checked):
    """The content of guard.json."""

    version: Literal[1] = 1
    guard: sections.Guard
    classify: sections.Classify
    tasks: Tasks = sections.added(Tasks())
    """The label words of its answers; left out if they are the default."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    instruction: Annotated[str, Field(max_length=instructions.MOST_CHARS)]
    window: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    """DeepConf's group, in tokens."""
    frame: tuple[_Frame, _Frame] | None = None
    """The chat frame that the guard was trained in; None in a file of a version that kept none."""
    opening_in_turn: bool = False
    """Whether an opening ends the user's turn, as for a chat endpoint."""
    reader: Literal["strict", "tolerant"] = "strict"
    """How its traces are read; strictly in a file of a version that exported trained guards only."""
    policies: PolicySet | None = Field(default=None, exclude_if=lambda given: given is None)
    """The policies of its prompts and how it is asked about them; None for a guard without."""
    base: dict[_Word, _Word] = {}
    """The model that it was trained from: name, and revision on the hub or sha256 of its files. It loads nothing."""
    calibration: GuardCalibration | None = None
    """None for a guard that was never measured on dev."""

    @property
    def recipe(self) -> Recipe:
        """The settings as a recipe."""
        known: dict[str, Any] = {"guard": self.guard, "classify": self.classify, "tasks": self.tasks}
        known["source"] = "demo" if self.tasks == Tasks() else "imported"
        return Recipe(name="export", seed=self.seed, **known)


class Loaded(NamedTuple):
    """A guard loaded from a folder."""

    judge: Judge
    recipe: Recipe
    calibrated: bool


def write(
    folder: Path,
    recipe: Recipe,
    renderer: Renderer,
    window: int,
    reader: Reader = STRICT,
    known: Calibration | None = None,
    base: Mapping[str, str] | None = None,
) -> None:
    """Write the settings of a recipe's guard, its instruction, chat frame and calibration.

    `window` is DeepConf's, in tokens; `base` is how it names its base.
    """
    content = GuardFile(
        guard=sections.Guard(
            **recipe.guard.model_dump(exclude={*_NOT_OURS, "tiny", *PolicyKeys.model_fields})
            # The calibration says in which way it answers.
            | {"instruction": "none", "categories": renderer.categories, "answer": "written"}
        ),
        classify=recipe.classify.model_copy(update={"verdict": recipe.written}),
        tasks=recipe.tasks,
        seed=recipe.seed,
        instruction=renderer.instruction,
        frame=renderer.frame,
        opening_in_turn=renderer.opening_in_turn,
        policies=renderer.policies,
        window=window,
        reader=reader.name,  # type: ignore[arg-type]
        base=dict(base or {}),
        calibration=None if known is None else GuardCalibration.of(known),
    ).model_dump(mode="json", exclude={"guard": _NOT_OURS})
    (folder / NAME).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path, named: Recipe | str | Path | None) -> Loaded:
    """Load the model in a folder as a judge: by its guard.json, or uncalibrated with the settings of a recipe.

    Raises BackendError, RecipeError, ImportRefused for an instruction and PolicyError for policies that cannot be
    read, ValueError for a folder without a model or usable settings.
    """
    window, known, policies, head = None, None, None, None
    if named is None:
        said = read(folder)
        recipe, instruction, window, policies = said.recipe, said.instruction, said.window, said.policies
        declared = Declaration.of(recipe.tasks)
        known = None if said.calibration is None else said.calibration.calibration(window, declared)
        head = None if said.calibration is None else said.calibration.linear
        in_turn = said.opening_in_turn
    else:
        recipe = named if isinstance(named, Recipe) else schema.load(named)
        in_turn = recipe.guard.engine == "chat"
        instruction, policies = instructions.read(recipe) or "", shown_policies.read(recipe.guard)
    settings = local(recipe.guard, _model(folder))
    backend = choose_backend(settings.backend, settings.device)
    guard = load_guard(settings, lambda: backend, settings.base, None)
    frame, declared = frame_of(folder, settings), Declaration.of(recipe.tasks)
    shown: dict[str, Any] = {"policies": policies, "declared": declared}
    renderer = renderer_of(settings, str(folder), instruction, frame, in_turn=in_turn, **shown)
    linear = None if head is None else _linear(folder, renderer, recipe, backend)
    limits = Limits.of(recipe, window)
    judge = Judge(guard, renderer, known or uncalibrated(recipe), limits, reader_of(folder), linear)
    return Loaded(judge, recipe, known is not None)


def _linear(folder: Path, renderer: Renderer, recipe: Recipe, backend: Backend) -> Linear:
    """Load the linear head of a folder, with the blocks of the base that it reads. Raises BackendError."""
    head, depth = linear_way.read(folder / linear_way.NAME, renderer.declared)
    if not head.reads_states:
        return Linear(head, depth)
    with base_blocks.folder_of(folder, depth) as place:
        base = backend.load(str(place), None, quantise=False)
    # The last of the blocks in the folder is the one whose states are read.
    return Linear(head, 1.0, lambda: base, renderer, recipe.guard.max_prompt_tokens)


def reader_of(folder: Path) -> Reader:
    """Return how the traces of the model in a folder are read: tolerantly unless it is an export that was trained."""
    try:
        return READERS[read(folder).reader]
    except ValueError:
        return TOLERANT


def _model(folder: Path) -> Path:
    """Return what backends load of an exported folder: itself, or its GGUF file. Raises ValueError."""
    if (folder / "config.json").is_file():
        return folder
    if (folder / gguf_names.FILE).is_file():
        return folder / gguf_names.FILE
    raise ValueError(f"{folder}: not a complete model (no config.json): export safetensors, or open the workspace")


def frame_of(folder: Path, settings: sections.Guard) -> tuple[str, str] | None:
    """Return the chat frame that an exported guard was trained in; None for a folder that is no export of ours.

    The template of the folder itself may print another date. Raises ValueError for an unusable guard.json, and
    BackendError.
    """
    if settings.template == "raw" or not (folder / NAME).is_file():
        return None
    frame = read(folder).frame
    if frame is not None:
        return frame
    # Late import: a tokenizer is loaded only for a template that was not kept.
    from wizloop.backends import bounded_chat

    return bounded_chat.render_plainly(str(folder))[:2]


def read(folder: Path) -> GuardFile:
    """Read a folder's guard.json. Raises ValueError."""
    path = folder / NAME
    try:
        said = GuardFile.model_validate_json(regular_file.read_bytes(path, MOST_BYTES))
        if said.guard.policies is not None:
            raise ValueError("guard.policies names a file, and its policies belong into `policies`")
        if most := _too_large(said):
            raise ValueError(f"{most} is above {MOST_TOKENS:,}")
        if isinstance(said.guard.categories, str):
            raise ValueError("guard.categories names a file: an export lists its categories")
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a recipe with the settings for this model") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{path}: invalid ({where}: {fault['msg']}); give a recipe") from None
    except ValueError as error:
        raise ValueError(f"{path}: invalid ({error}); give a recipe") from None
    return said


def _too_large(said: GuardFile) -> str | None:
    limits = {
        "max_prompt_tokens": said.guard.max_prompt_tokens,
        "max_trace_tokens": said.guard.max_trace_tokens,
        "most": said.classify.most,
    }
    return next((name for name, value in limits.items() if value > MOST_TOKENS), None)
