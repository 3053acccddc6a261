"""Compare the torch backend's classification speed with transformers' `generate`, on the same prompts in one process.

    python benchmarks/torch_speed.py [--prompts 64] [--tokens 250] [--layers 14] [--repeats 1] [--device cpu]
                                     [--processor-time]

The model has random weights and Qwen3's architecture, about 30 M parameters with 14 layers; the prompts are real ones
from ../shared/data after the real instruction. generate reads one prompt at a time, and 16 at a time. Each part prints
a line when it is measured:

- label: generate writes the answer block, and P(harmful) is read at its first verdict; ours is one forward pass after
  the shared instruction;
- traces: a greedy trace of `tokens` tokens for every prompt, 250 as GuardReasoner's average; P(harmful) is read at the
  last one;
- triage: what a night does, against generate's trace for every prompt: P(harmful) of every prompt directly, and a trace
  for the recipe's share of the least certain;
- night: the same with as many traces as the recipe draws for each of these, two, against generate's one.

A ratio is of the best times per prompt; with --processor-time, of processor times, for a CPU with other work. A label
is P(harmful) above generate's median of its kind: random weights prefer one word, and all labels would be equal.
`same_labels` is the share of prompts with the same label from both: directly, or at the end of the trace.
`as_if_all_traced` is the effect of triage itself: the share of prompts whose label is that of their trace, traced by us
or not. For random weights that is chance; a night measures it on its guard (`traces_agree` in the record of classify).
"""

import argparse
import csv
import gzip
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from wizloop.backends import devices
from wizloop.backends.guard_types import Choice, Encoded, Part, Prompt, Sampling
from wizloop.backends.tiny.tokenizer import train_tokenizer, write_tokenizer
from wizloop.backends.torch import guard as torch_guard
from wizloop.recipes import policies
from wizloop.recipes.sections import Classify

DATA = Path(__file__).parents[2] / "shared" / "data"
HARM = Choice((" harmful", " unharmful"))
BLOCK = " harmful\nCompletion: None\nResponse: None"
LOOP = 8
"""Prompts for which generate writes traces one at a time; lengths are spread like those of all."""
SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1152,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "eos_token_id": 0,
}
LAYERS = 14


def real_texts() -> list[str]:
    """Return prompts of two real sets, harmful and everyday, alternately."""
    with (DATA / "advbench" / "harmful_behaviors.csv").open(encoding="utf-8") as file:
        harmful = [row["goal"] for row in csv.DictReader(file)]
    with gzip.open(DATA / "toxicchat" / "toxic_chat_test.json.gz", "rt", encoding="utf-8") as file:
        traffic = [str(row["instance"]) for row in json.load(file)["instances"]]
    return [text for both in zip(harmful, traffic, strict=False) for text in both]


def make_model(folder: Path, texts: list[str], layers: int) -> int:
    """Write the random model and a tokenizer learned from the texts; return its parameter count."""
    # The instruction is not a fixed text here, since a published model has no single tokens for its sentences.
    fixed = [f"Answers:\nRequest:{word}" for word in HARM.words]
    tokenizer = train_tokenizer(texts, fixed, 16_384)
    write_tokenizer(folder, tokenizer, 4096)
    torch.manual_seed(1)
    shape = AutoConfig.for_model("qwen3", vocab_size=16_384, num_hidden_layers=layers, **SHAPE)
    model = AutoModelForCausalLM.from_config(shape)
    model.save_pretrained(folder)
    return int(sum(each.numel() for each in model.parameters()))


def spread(prompts: list[Encoded], count: int) -> list[int]:
    """Return `count` prompts, the middle one of each of as many parts by length."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].body))
    count = min(count, len(order))
    return [order[(2 * part + 1) * len(order) // (2 * count)] for part in range(count)]


def rendered(guard: torch_guard.Guard, texts: list[str], opening: str) -> list[Encoded]:
    """Encode texts behind the real instruction."""
    shared = policies.instruction() + "\n\n"
    before, after = Part("Human user:\n"), Part("\n\nAI assistant:\nNone\n\n")
    return [
        guard.encode(Prompt(shared, (before, Part(text, data=True), after), opening), max_tokens=640) for text in texts
    ]


Harm = NDArray[np.float64]
"""P(harmful) of each prompt."""
Reader = Callable[[list[int]], Harm]
"""Reads the prompts of these numbers."""


class Generate:
    """transformers' greedy generate on left-padded prompts, `rows` at a time."""

    def __init__(self, guard: torch_guard.Guard, rows: int) -> None:
        self._model, self._device, self._rows = guard._loaded.model, guard._loaded.device, rows
        self._words = guard.tokens.deciding(HARM)[1]

    def __call__(self, prompts: list[Encoded], tokens: int, at: int) -> Harm:
        """Return P(harmful) after `at` of the `tokens` tokens."""
        found = np.empty(len(prompts))
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].body))
        for start in range(0, len(order), self._rows):
            group = order[start : start + self._rows]
            found[group] = self._some([prompts[i] for i in group], tokens, at)
        return found

    def _some(self, prompts: list[Encoded], tokens: int, at: int) -> Harm:
        rows = [[*one.shared, *one.body] for one in prompts]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self._device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self._device)
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                # No early end, so that both sides write the same number of tokens.
                min_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        return torch.softmax(made.logits[at][:, self._words].double(), dim=-1)[:, 0].cpu().numpy()


def ours_label(guard: torch_guard.Guard, prompts: list[Encoded]) -> Harm:
    """Return P(harmful) by one forward pass."""
    return guard.score(prompts, HARM)[:, 0]


def ours_traces(
    guard: torch_guard.Guard, prompts: list[Encoded], tokens: int, traces: int = 1, temperature: float = 0.0
) -> Harm:
    """Return P(harmful) at the end of traces, the mean of several."""
    sampling = Sampling(traces, traces, temperature, Classify().top_p, tokens, seed=1, watch={"harm": HARM})
    drawn = guard.sample(prompts, sampling)
    return np.array([np.mean([one.watched["harm"][-1][0] for one in each]) for each in drawn])


def least_certain(p: Harm, middle: float) -> list[int]:
    """Return the recipe's share of the least certain prompts."""
    return [int(i) for i in np.argsort(np.abs(p - middle))[: round(Classify().share * len(p))]]


def ours_triage(
    guard: torch_guard.Guard, direct: list[Encoded], traced: list[Encoded], middle: float, tokens: int, *how: Any
) -> Harm:
    """Return direct answers, and the answers of traces for the least certain."""
    p = ours_label(guard, direct)
    unsure = least_certain(p, middle)
    p[unsure] = ours_traces(guard, [traced[i] for i in unsure], tokens, *how)
    return p


class Compared:
    """Best seconds per prompt and the answers of contenders, each with its own prompts."""

    def __init__(self, repeats: int, clock: Callable[[], float]) -> None:
        self._repeats, self._clock = repeats, clock
        self.best: dict[str, float] = {}
        self.harm: dict[str, Harm] = {}

    def run(self, contenders: dict[str, tuple[Reader, list[int]]]) -> None:
        """Run contenders in turn, so that a busy moment affects all."""
        for _ in range(self._repeats):
            for name, (read, which) in contenders.items():
                began = self._clock()
                self.harm[name] = read(which)
                seconds = (self._clock() - began) / len(which)
                self.best[name] = min(self.best.get(name, seconds), seconds)

    def against(self, ours: str, one: str, many: str) -> dict[str, float]:
        """Return the ratios of generate's times to ours."""
        return {
            "ms_per_prompt": round(1000 * self.best[ours], 2),
            "generate_1": round(self.best[one] / self.best[ours], 1),
            "generate_16": round(self.best[many] / self.best[ours], 1),
        }


def same(ours: Harm, theirs: Harm, middle: float | Harm) -> float:
    """Return the share of prompts with the same label from both."""
    return round(float(((ours > middle) == (theirs > middle)).mean()), 4)


@dataclass(frozen=True)
class Task:
    """Prompts to answer directly and after reasoning, and their measurement."""

    guard: torch_guard.Guard
    direct: list[Encoded]
    traced: list[Encoded]
    tokens: int
    found: Compared

    def every(self) -> list[int]:
        """Numbers of all prompts."""
        return list(range(len(self.direct)))

    def few(self) -> list[int]:
        """Numbers of the prompts for which generate writes traces one at a time."""
        return spread(self.traced, LOOP)


def some(prompts: list[Encoded], which: list[int]) -> list[Encoded]:
    """Return the prompts of these numbers."""
    return [prompts[i] for i in which]


def labels(task: Task, one: Generate, many: Generate, answer: int) -> float:
    """Compare direct answers; return generate's median P(harmful)."""
    found, every = task.found, task.every()
    found.run(
        {
            "label 1": (lambda which: one(some(task.direct, which), answer, 0), every),
            "label 16": (lambda which: many(some(task.direct, which), answer, 0), every),
            "label": (lambda which: ours_label(task.guard, some(task.direct, which)), every),
        }
    )
    middle = float(np.median(found.harm["label 16"]))
    agreed = {f"generate_{n}": same(found.harm["label"], found.harm[f"label {n}"], middle) for n in (1, 16)}
    tell("label", found.against("label", "label 1", "label 16") | {"same_labels": agreed})
    return middle


def traces(task: Task, one: Generate, many: Generate) -> float:
    """Compare a trace for every prompt; return generate's median P(harmful) at their ends."""
    found, last = task.found, task.tokens - 1
    found.run(
        {
            "traces 1": (lambda which: one(some(task.traced, which), task.tokens, last), task.few()),
            "traces 16": (lambda which: many(some(task.traced, which), task.tokens, last), task.every()),
            "traces": (lambda which: ours_traces(task.guard, some(task.traced, which), task.tokens), task.every()),
        }
    )
    middle = float(np.median(found.harm["traces 16"]))
    agreed = {
        "generate_1": same(found.harm["traces"][task.few()], found.harm["traces 1"], middle),
        "generate_16": same(found.harm["traces"], found.harm["traces 16"], middle),
    }
    tell("traces", found.against("traces", "traces 1", "traces 16") | {"same_labels": agreed})
    return middle


def triage(task: Task, direct_middle: float, traced_middle: float) -> None:
    """Compare direct answers for all and traces for some with generate's trace for each."""
    found, how, every = task.found, Classify(), task.every()
    read = partial(ours_triage, task.guard, task.direct, task.traced, direct_middle, task.tokens)
    found.run({"triage": (lambda _: read(), every), "night": (lambda _: read(how.least, how.temperature), every)})
    unsure = least_certain(found.harm["label"], direct_middle)
    expected, middle = found.harm["label 1"].copy(), np.full(len(every), direct_middle)
    expected[unsure], middle[unsure] = found.harm["traces 16"][unsure], traced_middle
    told: dict[str, Any] = found.against("triage", "traces 1", "traces 16") | {"share": how.share}
    told["same_labels"] = same(found.harm["triage"], expected, middle)
    all_traced = found.harm["traces 16"] > traced_middle
    told["as_if_all_traced"] = round(float(((found.harm["triage"] > middle) == all_traced).mean()), 4)
    tell("triage", told)
    tell("night", found.against("night", "traces 1", "traces 16") | {"traces": how.least})


def compare(task: Task) -> None:
    """Compare all parts, printing each when it is done."""
    guard, lengths = task.guard, [len(each.body) for each in task.direct]
    answer = guard.count(BLOCK)
    shape = {"instruction": len(task.direct[0].shared), "answer": answer, "trace": task.tokens}
    shape |= {"mean_prompt": round(float(np.mean(lengths)), 1), "read_by_the_loop": [lengths[i] for i in task.few()]}
    tell("tokens", shape)
    one, many = Generate(guard, 1), Generate(guard, 16)
    direct_middle = labels(task, one, many, answer)
    triage(task, direct_middle, traces(task, one, many))


def tell(part: str, said: dict[str, Any]) -> None:
    """Print a part as a line of JSON."""
    print(json.dumps({part: said}), flush=True)


def main() -> None:
    """Build the model and compare all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    clock = time.process_time if given.processor_time else time.perf_counter
    device, _ = devices.choose_device(given.device)
    texts = real_texts()
    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(Path(folder), texts, given.layers)
        guard = torch_guard.load(folder, device=device)
        about = {
            "parameters_millions": round(parameters / 1e6, 1),
            "device": device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "prompts": given.prompts,
            "clock": clock.__name__,
        }
        tell("model", about)
        texts = texts[: given.prompts]
        direct, traced = rendered(guard, texts, "Answers:\nRequest:"), rendered(guard, texts, "Reasoning:\n")
        compare(Task(guard, direct, traced, given.tokens, Compared(given.repeats, clock)))


if __name__ == "__main__":
    main()
