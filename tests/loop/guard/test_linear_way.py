"""The linear head beside a guard: its file, what is refused of it, and the same answers from an export."""

import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wizloop
from tests.backends.conftest import dense_base as dense_base
from tests.backends.conftest import tiny_base as tiny_base
from tests.loop.small_night import recipe
from wizloop.backends import base_blocks
from wizloop.backends.guard_types import BadArtifact, Encoded, Prompt
from wizloop.loop.api import Guard
from wizloop.loop.guard import guard_file, linear_way
from wizloop.loop.guard.backend import Mlx
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.linear_way import NAME, Linear
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.loop.measures import linear_head
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.features import Space
from wizloop.loop.words import DEFAULT, TASKS

DEPTH = 1 / 2
TOKENS = 200
TAUGHT = tuple(
    InputText(f"{verb} a {thing}, number {n}", "Here is how." if n % 2 else "I cannot.")
    for n in range(6)
    for verb, thing in (("forge", "cheque"), ("bake", "cake"))
)
LABELS = [
    {
        "request": "harmful" if "forge" in one.prompt else "unharmful",
        "completion": "refusal" if one.response == "I cannot." else "compliance",
        "response": "harmful" if "forge" in one.prompt and one.response != "I cannot." else "unharmful",
    }
    for one in TAUGHT
]
ASKED = (InputText("forge a passport"), InputText("bake bread", "I cannot."), InputText("name three rivers"))
KNOWN = Calibration(
    source=dict.fromkeys(TASKS, "linear"),
    thresholds={task: {"direct": 0.5, "linear": 0.4} for task in TASKS},
    scales={task: {"linear": (1.5, 0.1)} for task in TASKS},
    own="margin_linear",
    own_cut=0.3,
)


def linear(base: Path, states: bool = True) -> Linear:
    """Fit a head on the invented lessons, with the states of a base or without."""
    guard = Mlx().load(str(base), None, quantise=False) if states else None
    asked = None if guard is None else _asked(guard, TAUGHT)
    found = None if guard is None or asked is None else linear_way.rounded(guard.states(asked, depth=DEPTH))  # type: ignore[arg-type]
    space = Space.fit([linear_head.whole(one) for one in TAUGHT], found, 0)
    head = linear_head.fit(space, TAUGHT, LABELS, found)  # type: ignore[arg-type]
    assert head is not None
    return Linear(head, DEPTH, None if guard is None else lambda: guard, Renderer(""), TOKENS)


def _asked(guard: Any, texts: Sequence[InputText]) -> list[Encoded]:
    prompts: list[Prompt] = [Renderer("").direct_prompt(text) for text in texts]
    return [guard.encode(prompt, max_tokens=TOKENS) for prompt in prompts]


@pytest.fixture(scope="module", params=[True, False], ids=["states", "words"])
def both(
    request: pytest.FixtureRequest, tiny_base: Path, dense_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Guard, Path]:
    """A guard with a head on another model's states, or on words alone, and its export."""
    head = linear(tiny_base, request.param)
    asked = recipe(guard={"instruction": "none", "max_prompt_tokens": TOKENS, "answer": "linear"})
    guard = Mlx().load(str(dense_base), None, quantise=False)
    ours = Guard(Judge(guard, Renderer(""), KNOWN, Limits.of(asked), linear=head), asked, "ours", calibrated=True)
    folder = tmp_path_factory.mktemp("export") / "guard"
    shutil.copytree(dense_base, folder)
    guard_file.write(folder, asked, Renderer(""), 16, known=KNOWN)
    linear_way.write(folder / NAME, head.head, DEPTH)
    if request.param:
        base_blocks.write(str(tiny_base), folder, DEPTH)
    return ours, folder


def test_an_export_answers_as_the_guard_does(both: tuple[Guard, Path]) -> None:
    ours, folder = both
    theirs = wizloop.load_guard(folder)
    for mine, other in zip(ours.judge(ASKED, traces=False), theirs.judge(ASKED, traces=False), strict=True):
        assert other.verdict == mine.verdict
        assert other.probability == pytest.approx(mine.probability, abs=1e-6)
        assert other.confidence == pytest.approx(mine.confidence, abs=1e-6)
    # The head decides, and not the answer at once.
    assert [one.verdict["request"] for one in ours.judge(ASKED[:2], traces=False)] == ["harmful", "unharmful"]


def test_only_the_blocks_that_are_run_are_in_an_export(tiny_base: Path, tmp_path: Path) -> None:
    base_blocks.write(str(tiny_base), tmp_path, DEPTH)
    found, whole = load_file(tmp_path / base_blocks.FILE), load_file(tiny_base / "model.safetensors")
    assert {name for name in whole if ".layers.1." in name} == set(whole) - set(found)
    assert all(np.array_equal(found[name], whole[name]) for name in found)


def test_a_head_without_its_base_is_refused(dense_base: Path, both: tuple[Guard, Path], tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(both[1], folder)
    (folder / base_blocks.FILE).unlink(missing_ok=True)
    head = linear(dense_base).head
    linear_way.write(folder / NAME, head, DEPTH)
    with pytest.raises(BadArtifact, match=base_blocks.FILE):
        wizloop.load_guard(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def not_finite(path: Path) -> None:
    arrays = load_file(path)
    save_file({**arrays, "bias.request": np.array([np.nan], np.float32)}, path)


def of_another_shape(path: Path) -> None:
    arrays = load_file(path)
    save_file({**arrays, "weights.request": arrays["weights.request"][:, 1:].copy()}, path)


def beyond_its_columns(path: Path) -> None:
    arrays = load_file(path)
    save_file({**arrays, "space.words_idf": arrays["space.words_idf"][:10].copy()}, path)


def of_other_numbers(path: Path) -> None:
    arrays = load_file(path)
    save_file({**arrays, "bias.request": arrays["bias.request"].astype(np.float64)}, path)


def with_another_name(path: Path) -> None:
    save_file({**load_file(path), "more": np.zeros(1, np.float32)}, path)


def too_long_a_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def missing(path: Path) -> None:
    path.unlink()


TAMPERED = (
    cut,
    not_finite,
    of_another_shape,
    beyond_its_columns,
    of_other_numbers,
    with_another_name,
    too_long_a_header,
    missing,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / NAME
    linear_way.write(path, linear(Path(), states=False).head, DEPTH)
    return path


@pytest.mark.parametrize("tamper", TAMPERED)
def test_a_tampered_head_is_refused(file: Path, tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    path = tmp_path / NAME
    path.write_bytes(file.read_bytes())
    linear_way.read(path, DEFAULT)
    tamper(path)
    with pytest.raises(BadArtifact, match=NAME):
        linear_way.read(path, DEFAULT)


def test_a_guard_file_that_names_no_head_cannot_read_from_it(tmp_path: Path) -> None:
    guard_file.write(tmp_path, recipe(), Renderer(""), 16, known=KNOWN)
    said = json.loads((tmp_path / guard_file.NAME).read_text())
    del said["calibration"]["linear"]
    (tmp_path / guard_file.NAME).write_text(json.dumps(said))
    with pytest.raises(ValueError, match="the file of the linear head go together"):
        guard_file.read(tmp_path)
