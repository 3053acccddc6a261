"""How fast the torch backend classifies, against transformers' own `generate`, on the same prompts in one process.

    python benchmarks/torch_speed.py [--prompts 64] [--tokens 250] [--repeats 3] [--device cpu] [--processor-time]

The model has random weights and Qwen3's architecture, about 30 M parameters; the prompts are real ones from
../shared/data behind the real instruction. Three things are measured, each as generate does it one prompt at a time and
16 at a time, and as we do it:

- label: generate writes the answer block, and its label is the likelier word of the first verdict; ours is one forward
  pass behind the shared instruction;
- traces: greedy ones of `tokens` tokens, 250 as GuardReasoner's on average; the label is the likelier word at the last
  one;
- triage: what a night does: the label of every prompt, and 2 traces for the share of the least certain that the recipe
  names, against 2 traces for every prompt.

The ratio is of the best times; with --processor-time, of the processor's, for a CPU that has other work to do.
`same_labels` is the share of prompts on which ours has generate's label.
"""

import argparse
import csv
import gzip
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from wizloop.backends import torch_guard, torch_load
from wizloop.backends.guard_types import Choice, Encoded, Part, Prompt, Sampled, Sampling
from wizloop.backends.tiny_tokenizer import train_tokenizer, write_tokenizer
from wizloop.recipes import policies
from wizloop.recipes.sections import Classify

DATA = Path(__file__).parents[2] / "shared" / "data"
HARM = Choice((" harmful", " unharmful"))
BLOCK = " harmful\nCompletion: None\nResponse: None"
TRACES = 2
LOOP = 8
"""Prompts that are also read one at a time."""
SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1152,
    "num_hidden_layers": 14,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "eos_token_id": 0,
}


def real_texts() -> list[str]:
    """Prompts of two real sets, one harmful and one of everyday traffic, in turn."""
    with (DATA / "advbench" / "harmful_behaviors.csv").open(encoding="utf-8") as file:
        harmful = [row["goal"] for row in csv.DictReader(file)]
    with gzip.open(DATA / "toxicchat" / "toxic_chat_test.json.gz", "rt", encoding="utf-8") as file:
        traffic = [str(row["instance"]) for row in json.load(file)["instances"]]
    return [text for both in zip(harmful, traffic, strict=False) for text in both]


def make_model(folder: Path, texts: list[str]) -> int:
    """Write the random model and a tokenizer learned from the texts; its parameters."""
    # The instruction is no fixed text here, which would be one token a sentence: a published model has no such tokens.
    fixed = [f"Answers:\nRequest:{word}" for word in HARM.words]
    tokenizer = train_tokenizer(texts, fixed, 16_384)
    write_tokenizer(folder, tokenizer, 4096)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", vocab_size=16_384, **SHAPE))
    model.save_pretrained(folder)
    return int(sum(each.numel() for each in model.parameters()))


def rendered(guard: torch_guard.Guard, texts: list[str], opening: str) -> list[Encoded]:
    shared = policies.instruction() + "\n\n"
    before, after = Part("Human user:\n"), Part("\n\nAI assistant:\nNone\n\n")
    return [
        guard.encode(Prompt(shared, (before, Part(text, data=True), after), opening), max_tokens=640) for text in texts
    ]


class Generate:
    """transformers' generate on left-padded prompts, `rows` at a time."""

    def __init__(self, guard: torch_guard.Guard, rows: int) -> None:
        self._model, self._device, self._rows = guard._loaded.model, guard._loaded.device, rows
        self._words = guard.tokens.deciding(HARM)[1]

    def __call__(self, prompts: list[Encoded], tokens: int, at: int, traces: int = 1) -> NDArray[np.int64]:
        """[prompts]: the likelier word after `at` of the `tokens` tokens; several traces vote by the mean."""
        found = np.empty(len(prompts), np.int64)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].body))
        for start in range(0, len(order), self._rows):
            group = order[start : start + self._rows]
            found[group] = self._some([prompts[i] for i in group], tokens, at, traces)
        return found

    def _some(self, prompts: list[Encoded], tokens: int, at: int, traces: int) -> NDArray[np.int64]:
        rows = [[*one.shared, *one.body] for one in prompts]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self._device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self._device)
        drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "num_return_sequences": traces}
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                # No end before the last token, so that both sides write the same number.
                min_new_tokens=tokens,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
                **(drawn if traces > 1 else {"do_sample": False}),
            )
        p = torch.softmax(made.logits[at][:, self._words].float(), dim=-1)
        return p.reshape(len(prompts), traces, -1).mean(dim=1).argmax(dim=-1).cpu().numpy()


def ours_label(guard: torch_guard.Guard, prompts: list[Encoded]) -> NDArray[np.int64]:
    return guard.score(prompts, HARM).argmax(axis=1)


def drawn_label(traces: list[Sampled]) -> int:
    return int(np.mean([trace.watched["harm"][-1] for trace in traces], axis=0).argmax())


def ours_traces(guard: torch_guard.Guard, prompts: list[Encoded], tokens: int) -> NDArray[np.int64]:
    sampling = Sampling(1, 1, 0.0, 1.0, tokens, seed=1, watch={"harm": HARM})
    return np.array([drawn_label(traces) for traces in guard.sample(prompts, sampling)])


def ours_triage(
    guard: torch_guard.Guard, direct: list[Encoded], traced: list[Encoded], tokens: int
) -> NDArray[np.int64]:
    """The direct label, and the traces' for the recipe's share of the least certain."""
    p = guard.score(direct, HARM)
    unsure = np.argsort(np.abs(p[:, 0] - 0.5))[: round(Classify().share * len(p))]
    sampling = Sampling(TRACES, TRACES, 0.7, 0.95, tokens, seed=1, watch={"harm": HARM})
    labels = p.argmax(axis=1)
    labels[unsure] = [drawn_label(each) for each in guard.sample([traced[i] for i in unsure], sampling)]
    return labels


def measure(
    repeats: int,
    clock: Callable[[], float],
    few: list[int],
    contenders: dict[str, Callable[[list[int]], NDArray[np.int64]]],
    count: int,
) -> dict[str, Any]:
    """Best seconds a prompt of each contender, run in turn; the loop reads only `few` of the prompts."""
    best: dict[str, float] = dict.fromkeys(contenders, float("inf"))
    labels: dict[str, NDArray[np.int64]] = {}
    for _ in range(repeats):
        for name, run in contenders.items():
            which = few if name == "generate 1" else list(range(count))
            began = clock()
            labels[name] = run(which)
            best[name] = min(best[name], (clock() - began) / len(which))
    return {
        "ms_per_prompt": {name: round(1000 * seconds, 2) for name, seconds in best.items()},
        "ours_vs_generate_1": round(best["generate 1"] / best["ours"], 1),
        "ours_vs_generate_16": round(best["generate 16"] / best["ours"], 1),
        "same_labels": {
            "generate 1": round(float((labels["ours"][few] == labels["generate 1"]).mean()), 4),
            "generate 16": round(float((labels["ours"] == labels["generate 16"]).mean()), 4),
        },
    }


def compare(
    guard: torch_guard.Guard, texts: list[str], tokens: int, repeats: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """All three, on the same prompts."""
    direct, traced = rendered(guard, texts, "Answers:\nRequest:"), rendered(guard, texts, "Reasoning:\n")
    one, many, answer = Generate(guard, 1), Generate(guard, 16), guard.count(BLOCK)
    count, few = len(texts), list(range(0, len(texts), max(1, len(texts) // LOOP)))

    def some(prompts: list[Encoded], which: list[int]) -> list[Encoded]:
        return [prompts[i] for i in which]

    label = {
        "generate 1": lambda which: one(some(direct, which), answer, 0),
        "generate 16": lambda which: many(some(direct, which), answer, 0),
        "ours": lambda which: ours_label(guard, some(direct, which)),
    }
    traces = {
        "generate 1": lambda which: one(some(traced, which), tokens, tokens - 1),
        "generate 16": lambda which: many(some(traced, which), tokens, tokens - 1),
        "ours": lambda which: ours_traces(guard, some(traced, which), tokens),
    }
    triage = {
        "generate 1": lambda which: one(some(traced, which), tokens, tokens - 1, TRACES),
        "generate 16": lambda which: many(some(traced, which), tokens, tokens - 1, TRACES),
        "ours": lambda which: ours_triage(guard, some(direct, which), some(traced, which), tokens),
    }
    return {
        "instruction_tokens": len(direct[0].shared),
        "answer_tokens": answer,
        "trace_tokens": tokens,
        "mean_prompt_tokens": round(float(np.mean([len(each.body) for each in direct])), 1),
        "label": measure(repeats, clock, few, label, count),
        "traces": measure(repeats, clock, few, traces, count),
        "triage": {"share": Classify().share, **measure(repeats, clock, few, triage, count)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    clock = time.process_time if given.processor_time else time.perf_counter
    device, _ = torch_load.choose_device(given.device)
    texts = real_texts()
    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(Path(folder), texts)
        guard = torch_guard.load(folder, device=device)
        result = {
            "parameters_millions": round(parameters / 1e6, 1),
            "device": device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "prompts": given.prompts,
            "clock": clock.__name__,
            **compare(guard, texts[: given.prompts], given.tokens, given.repeats, clock),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
