"""Which reader reads a model's traces, in a night and outside: tolerant for the base alone, and on record."""

import json
from pathlib import Path

import pytest

from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends.guard_types import Sampled, Sampling
from wizloop.loop.context import standalone
from wizloop.loop.evaluation import benchmark_guard
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.judge import Judge
from wizloop.loop.guard.readers import STRICT, TOLERANT
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.phases import model_roles
from wizloop.store import models, steps

JSON = '{"request": "harmful"}'


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("night") / "a", recipe())
    night.all()
    return night


def test_the_base_alone_is_read_tolerantly(night: Night) -> None:
    with night.store.read() as db:
        made = models.in_round(db, 0)
    read = {one.name: night.judge(one.name, "evaluate").reads for one in made}
    assert read == {one.name: "tolerant" if one.role == "base" else "strict" for one in made}
    assert read[model_roles.BASE] == "tolerant"
    assert "strict" in read.values()


def test_the_reader_is_on_record(night: Night) -> None:
    with night.store.read() as db:
        first, second = steps.get_round(db, 0), steps.get_round(db, 1)
    assert first is not None
    assert second is not None
    assert first.record["base_measured"]["reader"] == "tolerant"
    assert (first.record["evaluate"]["reader"], second.record["classify"]["reader"]) == ("strict", "strict")


class _InJson:
    """A guard whose traces are JSON."""

    def encode(self, prompt: object, *, max_tokens: int) -> tuple[()]:
        return ()

    def sample(self, prompts: list[object], sampling: Sampling) -> list[list[Sampled]]:
        return [[Sampled(JSON, "stop", [0], [1.0], {"request": [(0.5, 0.5)]})] * sampling.least for _ in prompts]


@pytest.mark.parametrize(("name", "read"), [("base", {"request": "harmful"}), ("r00", None)])
def test_a_judge_reads_traces_with_its_reader(night: Night, name: str, read: dict[str, str] | None) -> None:
    ours = night.judge(name, "evaluate")
    asked = Judge(_InJson(), ours.renderer, ours.calibration, ours.limits, ours.reader)  # type: ignore[arg-type]
    (traces,) = asked.traces([InputText("How do I bake?")], ours.limits.exactly(2), seed=1)
    assert [one.verdict for one in traces] == [read, read]


def test_a_folder_is_read_strictly_only_if_it_says_that_it_was_trained(night: Night, tmp_path: Path) -> None:
    ours = night.judge("base", "evaluate")
    assert guard_file.reader_of(tmp_path) is TOLERANT
    for reader in (STRICT, TOLERANT):
        guard_file.write(tmp_path, night.recipe, ours.renderer, 16, reader)
        assert guard_file.reader_of(tmp_path) is reader
    content = json.loads((tmp_path / guard_file.NAME).read_text())
    for said, reader in (({}, STRICT), ({"reader": "mine"}, TOLERANT), ({"reader": ["strict"]}, TOLERANT)):
        kept = {key: value for key, value in content.items() if key != "reader"} | said
        (tmp_path / guard_file.NAME).write_text(json.dumps(kept))
        assert guard_file.reader_of(tmp_path) is reader
    with pytest.raises(ValueError, match=r"guard\.json: invalid"):
        guard_file.read(tmp_path)


def test_a_model_outside_a_run_is_read_as_its_folder_says(night: Night, tmp_path: Path) -> None:
    ctx = standalone(night.store, night.folder, night.recipe, "evaluate", NOW)
    ctx.given = night.backend
    assert benchmark_guard.judge_of_folder(ctx, tmp_path).reads == "tolerant"
    guard_file.write(tmp_path, night.recipe, ctx.renderer, 16)
    assert benchmark_guard.judge_of_folder(ctx, tmp_path).reads == "strict"
