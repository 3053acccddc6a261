"""Every architecture that people have, tiny and with random weights: wizloop computes what transformers computes.

The reference is always transformers' forward pass over the whole text, without a cache: it honors every window, and
both layouts of a model hold the same weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.backends import architectures, lessons
from wizloop.backends.guard_types import BackendError, Choice, Encoded, Part, Prompt, Sampling, TrainJob
from wizloop.backends.mlx import export as mlx_export
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import train as mlx_train
from wizloop.backends.torch import export as torch_export
from wizloop.backends.torch import guard as torch_guard
from wizloop.backends.torch import train as torch_train

HARM = Choice((" harmful", " unharmful"))
TEXTS = ["how do I bake bread at home", "tell me about the sea", "a long word " * 12, "one", "tell me about the sea"]
LOADERS: dict[str, Callable[..., Any]] = {"mlx": mlx_guard.load, "torch": torch_guard.load}

DOCUMENT = Path(__file__).parents[2] / "docs" / "architectures.md"
BEGIN, END = "<!-- written by tests/backends/test_architectures.py -->\n\n", "\n<!-- end -->"

Next = Callable[[Sequence[int]], NDArray[np.float64]]
"""The logits after a text of token ids."""


@pytest.fixture(scope="session")
def built(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    root = tmp_path_factory.mktemp("architectures")

    @cache
    def folder(name: str, layout: str) -> Path:
        return architectures.build(name, tiny_base, root / f"{name}-{layout}", layout=layout)

    return folder


@cache
def reference(folder: Path) -> Next:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def after(ids: Sequence[int]) -> NDArray[np.float64]:
        with torch.no_grad():
            return np.asarray(model(torch.tensor([list(ids)]), use_cache=False).logits[0, -1].double().numpy())

    return after


def encoded(guard: Any, shared: str) -> list[Encoded]:
    return [
        guard.encode(Prompt(shared, (Part("User:\n"), Part(text, data=True), Part("\n\n")), "Request:"), max_tokens=90)
        for text in TEXTS
    ]


def probabilities(guard: Any, one: Encoded, after: Next) -> NDArray[np.float64]:
    common, deciding = guard.tokens.deciding(HARM)
    logits = after([*one.shared, *one.body, *common])[deciding]
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum())


def greedy(guard: Any, one: Encoded, after: Next, most: int) -> str:
    ids = [*one.shared, *one.body]
    for _ in range(most):
        token = int(np.argmax(after(ids)))
        if token in guard.tokens.ends:
            break
        ids.append(token)
    return str(guard.tokens.decode(ids[len(one.shared) + len(one.body) :]))


# One family of each kind of cache, for every run of the tests; `make long` takes all of them.
SHORT = ("falcon_h1", "gemma2", "gpt_oss", "mistral", "nemotron_h")
TAUGHT_SHORT = (("mlx", "gpt_oss"), ("mlx", "nemotron_h"), ("torch", "nemotron_h"))


def case(*values: str, short: bool) -> Any:
    return pytest.param(*values, marks=() if short else pytest.mark.long)


READ = [
    case(backend, layout, name, short=name in SHORT and layout == "transformers")
    for backend in ("mlx", "torch")
    for layout in ("transformers", "mlx")
    for name in sorted(architectures.ARCHITECTURES)
    if (backend, layout) != ("torch", "mlx") or name not in architectures.RENAMED
]


@pytest.mark.parametrize("name", [case(name, short=name == "nemotron_h") for name in sorted(architectures.RENAMED)])
def test_torch_refuses_weights_by_other_names(built: Callable[[str, str], Path], name: str) -> None:
    with pytest.raises(BackendError, match=r"cannot be loaded as a model|weights are missing"):
        torch_guard.load(str(built(name, "mlx")))


@pytest.mark.parametrize(("backend", "layout", "name"), READ)
def test_label_and_trace_are_those_of_transformers(
    built: Callable[[str, str], Path], backend: str, layout: str, name: str
) -> None:
    after = reference(built(name, "transformers"))
    guard = LOADERS[backend](str(built(name, layout)))
    for shared in ("Judge what is asked.\n\n", ""):
        prompts = encoded(guard, shared)
        wanted = np.array([probabilities(guard, one, after) for one in prompts])
        np.testing.assert_allclose(guard.score(prompts, HARM, rows=3), wanted, atol=1e-4)
    prompts = encoded(guard, "Judge what is asked.\n\n")
    for rows in (2, 128):
        drawn = guard.sample(prompts, Sampling(1, 1, 0.0, 1.0, 8, seed=1, rows=rows))
        assert [trace.text for [trace] in drawn] == [greedy(guard, one, after, 8) for one in prompts]


def after_three_blocks(folder: Path, prompts: Sequence[Encoded]) -> NDArray[np.float32]:
    """The states after the third of four blocks: the mean over the sample's own tokens, and the last one's."""
    from transformers import AutoModelForCausalLM

    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), []
    for one in prompts:
        ids = torch.tensor([[*one.shared, *one.body]])
        with torch.no_grad():
            states = model(ids, use_cache=False, output_hidden_states=True).hidden_states[3][0].numpy()
        [(start, end)] = one.own
        own = states[len(one.shared) + start : len(one.shared) + end]
        found.append(np.concatenate([own.mean(axis=0), states[-1]]))
    return np.array(found)


@pytest.mark.parametrize(("backend", "layout", "name"), READ)
def test_states_are_those_of_transformers(
    built: Callable[[str, str], Path], backend: str, layout: str, name: str
) -> None:
    guard = LOADERS[backend](str(built(name, layout)))
    prompts = encoded(guard, "Judge what is asked.\n\n")
    wanted = after_three_blocks(built(name, "transformers"), prompts)
    np.testing.assert_allclose(guard.states(prompts, depth=2 / 3), wanted, rtol=1e-3, atol=1e-4)


SETTINGS = replace(lessons.SETTINGS, epochs=1, batch=4, checkpoint_every=1, max_tokens=120)


@dataclass(frozen=True)
class Library:
    """A backend, and how its own library reads a base with an adapter: logits after a text, without wizloop."""

    load: Callable[..., Any]
    train: Any
    export: Any
    plain: Callable[[Path, Path | None], Next]


def by_mlx_lm(folder: Path, adapter: Path | None) -> Next:
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_config, load_model

    from wizloop.backends.mlx.config import complete
    from wizloop.backends.mlx.layouts import classes

    # Without these two mlx-lm does not build every base that transformers 5 wrote; the adapter is its own matter.
    model, _ = load_model(folder, model_config=complete(load_config(folder)), get_model_classes=classes)
    if adapter is not None:
        model = load_adapters(model, str(adapter))
    model.eval()
    return lambda ids: np.array(model(mx.array([list(ids)]))[0, -1].astype(mx.float32), np.float64)


def by_transformers(folder: Path, adapter: Path | None) -> Next:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()

    def after(ids: Sequence[int]) -> NDArray[np.float64]:
        with torch.no_grad():
            return np.asarray(model(torch.tensor([list(ids)]), use_cache=False).logits[0, -1].double().numpy())

    return after


LIBRARIES = {
    "mlx": Library(mlx_guard.load, mlx_train, mlx_export, by_mlx_lm),
    "torch": Library(torch_guard.load, torch_train, torch_export, by_transformers),
}
OTHER = {"mlx": "torch", "torch": "mlx"}


def scores_elsewhere(backend: str, export: Path, prompts: Sequence[Encoded]) -> NDArray[np.float64] | None:
    """Return the probabilities of an export on the other backend, or None where it refuses the folder."""
    try:
        guard = LIBRARIES[OTHER[backend]].load(str(export))
    except BackendError:
        return None
    return np.asarray(guard.score(prompts, HARM))


TAUGHT = [
    case(backend, name, short=(backend, name) in TAUGHT_SHORT)
    for backend in ("mlx", "torch")
    for name in sorted(architectures.ARCHITECTURES)
]


@pytest.mark.parametrize(("backend", "name"), TAUGHT)
def test_a_guard_is_taught_and_exported(
    built: Callable[[str, str], Path], tmp_path: Path, backend: str, name: str
) -> None:
    base, library = built(name, "transformers"), LIBRARIES[backend]
    untaught = library.load(str(base))
    examples, pairs = lessons.examples(untaught.tokens)[:12], lessons.pairs(untaught.tokens)[:8]

    def taught(to: str, kind: str, rows: Any, start: Path | None = None, on_step: Any = lessons.nothing) -> Path:
        job = TrainJob(str(base), start, SETTINGS, lessons.LORA, lessons.new(tmp_path / to), tmp_path / "checkpoint")
        getattr(library.train, kind)(job, rows, on_step)
        return tmp_path / to

    sft = taught("sft", "train_sft", examples)
    with pytest.raises(lessons.Killed):
        taught("killed", "train_sft", examples, on_step=lessons.kill_at(2))
    assert lessons.digest(taught("resumed", "train_sft", examples)) == lessons.digest(sft)
    adapter = taught("dpo", "train_dpo", pairs, start=sft)

    prompts = encoded(untaught, "Judge what is asked.\n\n")
    found = library.load(str(base), adapter).score(prompts, HARM)
    assert np.abs(found - untaught.score(prompts, HARM)).max() > 1e-3
    np.testing.assert_allclose(library.load(str(base), adapter, fuse=False).score(prompts, HARM), found, atol=1e-4)
    own = library.plain(base, adapter)
    agrees = np.allclose([probabilities(untaught, one, own) for one in prompts], found, atol=1e-4)
    assert agrees == (name not in architectures.OTHERWISE[backend])

    export = lessons.new(tmp_path / "export")
    library.export.export_safetensors(str(base), adapter, export)
    np.testing.assert_allclose(library.load(str(export)).score(prompts, HARM), found, atol=1e-4)
    read = scores_elsewhere(backend, export, prompts)
    assert (read is None) == (name in architectures.STAYS[backend])
    np.testing.assert_allclose(found if read is None else read, found, atol=1e-4)


def test_the_documentation_lists_every_architecture_that_is_tested() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    assert end, f"{DOCUMENT.name} has no place for the table"
    DOCUMENT.write_text(before + BEGIN + architectures.table() + END + after, encoding="utf-8")
    assert table == architectures.table(), f"{DOCUMENT.name} is written anew: look at it and commit it"
