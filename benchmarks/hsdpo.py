"""Measure what HS-DPO adds to R-SFT: with the paper's weights, with equal ones, turned around, and against more R-SFT.

    python benchmarks/hsdpo.py cell [NAME] [--results FILE]   # the next arm without a result, such as tiny-1-up
    python benchmarks/hsdpo.py table [--results FILE]         # all results, with paired intervals over the seeds

Arms: `rsft` alone; `up`, `equal` and `down` train it further by HS-DPO with dpo.weights of that name; `longer` trains
it further by R-SFT, as many steps as fit into the time of `up`: members, mining and HS-DPO. Time is the process's
processor time, which neighbors on a busy machine do not stretch. A seed's R-SFT and pairs are made once and kept in
build/hsdpo. Lessons are right traces of GuardReasoner on short prompts (AegisSafetyTest, SimpleSafetyTests) whose
prompt's hash begins with 0 to 7. Measured are the prompts of the other half, and prompts of WildGuardTest. Run it in
the repository root, beside ../shared/data.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hsdpo_table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("hsdpo_results.jsonl")
MADE = ROOT / "build" / "hsdpo"
GUARDS: dict[str, dict[str, Any]] = {
    "tiny": {"recipe": "demo", "seeds": 10, "wildguard": 200, "batch": 64, "members": 2, "k": 8},
    "smollm2": {"recipe": "smollm2-135m", "seeds": 3, "wildguard": 100, "batch": 16, "members": 0, "k": 4},
}
"""How each guard is trained (a shipped recipe), how often, and on how many rows of WildGuardTest it is measured.

The tiny guard has members, each on two thirds of the lessons, as in the paper, and eight traces for each lesson: its
own four on lessons that it has learned are all right or unparsed, so that none is hard. SmolLM2 has four: of two, its
recipe's number, one is right and one wrong in every pair, and all weigh 1. Traces are drawn at temperature 1 (paper).
"""
PROMPT, TRACE, LESSONS = 96, 80, 100
"""The most tokens of a prompt and of a trace; lessons."""
CELLS = {
    f"{guard}-{seed}-{arm}": (guard, seed, arm)
    for guard, about in GUARDS.items()
    for seed in range(1, about["seeds"] + 1)
    for arm in hsdpo_table.ARMS
}


class School:
    """One guard and one seed: its base, lessons and measured rows, and what is trained from them."""

    def __init__(self, guard: str, seed: int, lessons: int, measured: int | None, made: Path) -> None:
        import hsdpo_rows
        from learning import Lessons
        from nights import recipe_file

        from wizloop.backends.mlx import guard as mlx_guard
        from wizloop.recipes import schema

        self.name, self.seed, self.folder = guard, seed, made / f"{guard}-{seed}"
        self.recipe = schema.load(recipe_file(GUARDS[guard]["recipe"]))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows = hsdpo_rows.rows(measured or GUARDS[guard]["wildguard"], measured)
        self.base = self._base(made)
        self.guard = mlx_guard.load(self.base)
        self.lessons = hsdpo_rows.drawn(self.rows.lessons, lessons, seed, lambda text: self.guard.count(text) < TRACE)
        self.renderer = Lessons(self.recipe, self.guard).renderer

    def examples(self) -> list[Any]:
        """Return both examples of each lesson: with its trace, and with a direct answer."""
        from wizloop.backends.guard_types import SftExample

        found = []
        for number, one in enumerate(self.lessons):
            traced, direct = self.renderer.trace_completion(one), self.renderer.direct_completion(one.verdict)
            for prompt, text in (
                (self.renderer.trace_prompt(one), traced),
                (self.renderer.direct_prompt(one), direct),
            ):
                found.append(SftExample(number, self._encode(prompt), text.text, text.strong))
        return found

    def rsft(self) -> dict[str, float]:
        """Train R-SFT unless this seed has it; return its steps and seconds."""
        return self._sft("rsft", self.examples())

    def mined(self) -> dict[str, Any]:
        """Mine the seed's pairs unless it has them; return them by miner, unweighted, and the seconds.

        Miners are the R-SFT guard and its members, whose training is part of the seconds.
        """
        file = self.folder / "mined.json"
        if not file.is_file():
            began, self_mined = time.process_time(), self._mine("rsft", range(len(self.lessons)))
            pairs, seconds = {"rsft": self_mined}, time.process_time() - began
            for number in range(1, GUARDS[self.name]["members"] + 1):
                spent = self._member(number)["seconds"]
                began, found = time.process_time(), {one["sample_id"] for each in pairs.values() for one in each}
                left = [at for at in range(len(self.lessons)) if at not in found]
                pairs[f"member-{number}"] = self._mine(f"member-{number}", left)
                seconds += spent + time.process_time() - began
            file.write_text(json.dumps({"pairs": pairs, "seconds": seconds}), encoding="utf-8")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def hsdpo(self, arm: str) -> dict[str, float]:
        """Train HS-DPO from the seed's R-SFT with weights up, equal or down; without pairs R-SFT stays as it is."""
        from wizloop.backends.guard_types import DpoPair
        from wizloop.loop.measures.mining import MinedPair, weigh

        favored: Any = arm
        gamma, by_miner = self.recipe.dpo.gamma, self.mined()["pairs"].values()
        mined = [pair for each in by_miner for pair in weigh([MinedPair(**one) for one in each], gamma, favored)]
        prompts = [self._encode(self.renderer.trace_prompt(one)) for one in self.lessons]
        pairs = [DpoPair(one.sample_id, prompts[one.sample_id], one.chosen, one.rejected, one.weight) for one in mined]
        if not pairs:
            return self.once(arm, self._as_before)
        return self.once(arm, lambda to: self._train(to, "dpo", pairs, self.recipe.dpo, epochs=self.recipe.dpo.epochs))

    def longer(self) -> dict[str, float]:
        """Train R-SFT further, for as many steps as fit into the time of mining and HS-DPO."""
        sft, up = self.rsft(), self.hsdpo("up")
        how, spent = self.recipe.train, self.mined()["seconds"] + up["seconds"]
        steps = max(1, round(spent / (sft["seconds"] / sft["steps"])))
        examples = self.examples()
        # One pass over a repeated list ends after exactly so many steps.
        repeated = [examples[at % len(examples)] for at in range(steps * how.batch)]
        return self.once("longer", lambda to: self._train(to, "sft", repeated, how, epochs=1))

    def measure(self, arm: str) -> dict[str, Any]:
        """Return an arm's figures on each set of rows, by traces and at once."""
        from wizloop.backends.mlx import guard as mlx_guard
        from wizloop.loop.guard.inference import TraceSampling, ask_direct, ask_traces

        guard, greedy = mlx_guard.load(self.base, self.folder / arm), TraceSampling(1, 1, 0.0, 1.0, TRACE, 8)
        batch, found = GUARDS[self.name]["batch"], {}
        for name, rows in self.rows.measured.items():
            direct = ask_direct(guard, self.renderer, rows, max_tokens=PROMPT, rows=batch)
            traced = ask_traces(guard, self.renderer, rows, greedy, max_tokens=PROMPT, seed=self.seed, rows=batch)
            at_once = [one.p["request"] for one in direct]
            reasoned = [one[0].p.get("request") if one[0].verdict else None for one in traced]
            truth = [row.harmful for row in rows]
            found[name] = {
                "traces": hsdpo_table.figures(truth, reasoned),
                "direct": hsdpo_table.figures(truth, at_once),
            }
        return found

    def once(self, arm: str, train: Callable[[Path], Mapping[str, float]]) -> dict[str, float]:
        """Train an arm unless its folder is whole; return its steps and seconds."""
        to, about = self.folder / arm, self.folder / f"{arm}.json"
        if not about.is_file():
            shutil.rmtree(to, ignore_errors=True)
            to.mkdir()
            about.write_text(json.dumps(train(to)), encoding="utf-8")
        found: dict[str, float] = json.loads(about.read_text(encoding="utf-8"))
        return found

    def _sft(self, name: str, examples: Sequence[Any]) -> dict[str, float]:
        how = self.recipe.train
        epochs = max(how.epochs, -(-how.least_steps // -(-len(examples) // how.batch)))
        return self.once(name, lambda to: self._train(to, "sft", examples, how, epochs=epochs))

    def _member(self, number: int) -> dict[str, float]:
        """Train a member on its share of the lessons."""
        from wizloop.loop.phases.training_examples import kept_by_member

        keep = self.recipe.members.keep
        kept = [one for one in self.examples() if kept_by_member(self.seed, number, one.id, keep)]
        return self._sft(f"member-{number}", kept)

    def _as_before(self, to: Path) -> dict[str, float]:
        shutil.copytree(self.folder / "rsft", to, dirs_exist_ok=True)
        return {"steps": 0, "seconds": 0.0}

    def _train(self, to: Path, kind: str, lessons: Sequence[Any], how: Any, *, epochs: int) -> dict[str, float]:
        from wizloop.backends.guard_types import LoraShape, TrainJob, TrainSettings
        from wizloop.backends.mlx import train as mlx_train

        of = self.recipe.train
        own: dict[str, float] = (
            {"verdict_weight": of.verdict_weight, "word_dropout": of.word_dropout, "prompt_weight": of.prompt_weight}
            if kind == "sft"
            else {"beta": how.beta, "sft_weight": how.sft_weight}
        )
        settings = TrainSettings(
            epochs=epochs, batch=how.batch, lr=how.lr, seed=self.seed, checkpoint_every=10**6,
            max_tokens=PROMPT + TRACE, warmup=of.warmup, **own,
        )  # fmt: skip
        shape = LoraShape(of.rank, of.scale, of.dropout, of.layers)
        start = self.folder / "rsft" if to.name in hsdpo_table.ARMS[1:] else None
        job = TrainJob(self.base, start, settings, shape, to, to.with_suffix(".unfinished"))
        began = time.process_time()
        train: Any = mlx_train.train_sft if kind == "sft" else mlx_train.train_dpo
        result = train(job, lessons, lambda *_: None)
        return {"steps": result.steps, "seconds": time.process_time() - began}

    def _mine(self, miner: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
        from dataclasses import asdict

        from wizloop.backends.mlx import guard as mlx_guard
        from wizloop.loop.guard.inference import TraceSampling, ask_traces
        from wizloop.loop.measures.mining import Generation, mine

        how = GUARDS[self.name]
        sampled = TraceSampling(how["k"], how["k"], 1.0, 1.0, TRACE, 8)
        guard, lessons = mlx_guard.load(self.base, self.folder / miner), [self.lessons[at] for at in numbers]
        asked: dict[str, Any] = {"max_tokens": PROMPT, "seed": self.seed, "rows": how["batch"]}
        drawn = ask_traces(guard, self.renderer, lessons, sampled, **asked)
        found = [
            mine(number, lesson.verdict, False, [Generation(one.text, one.verdict) for one in traces])
            for number, lesson, traces in zip(numbers, lessons, drawn, strict=True)
        ]
        return [asdict(one) for one in found if one is not None]

    def _encode(self, prompt: Any) -> Any:
        return self.guard.encode(prompt, max_tokens=PROMPT)

    def _base(self, made: Path) -> str:
        """Return the folder of the base; the tiny one is built once, on prompts that are not measured."""
        if self.name == "smollm2":
            from real import fetch

            from wizloop.backends import model_folder

            return str(model_folder.find(str(fetch())))
        import hsdpo_rows

        return hsdpo_rows.tiny_base(made / "tiny-base", self.recipe, self.rows)


def cell(name: str, lessons: int, measured: int | None, made: Path) -> dict[str, Any]:
    """Train and measure one arm; return its figures."""
    guard, seed, arm = CELLS[name]
    school = School(guard, seed, lessons, measured, made)
    school.rsft()
    trained = {"rsft": school.rsft, "longer": school.longer}.get(arm, lambda: school.hsdpo(arm))()
    mined = {} if arm == "rsft" else school.mined()
    return {
        "cell": name,
        "guard": guard,
        "seed": seed,
        "arm": arm,
        "lessons": len(school.lessons),
        "steps": trained["steps"],
        "cpu_seconds": round(trained["seconds"], 1),
        "pairs": {miner: len(pairs) for miner, pairs in mined.get("pairs", {}).items()},
        "mining_cpu_seconds": round(mined.get("seconds", 0.0), 1),
        "rows": {name: len(rows) for name, rows in school.rows.measured.items()},
        "measured": school.measure(arm),
    }


def main() -> None:
    """Parse the options and do what is asked."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", choices=["cell", "table"])
    ask.add_argument("name", nargs="?", choices=list(CELLS), metavar="NAME", help="the arm; none runs the next")
    ask.add_argument("--lessons", type=int, default=LESSONS)
    ask.add_argument("--measured", type=int, help="rows of each set to measure, fewer than all")
    ask.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where figures are appended")
    ask.add_argument("--made", type=Path, default=MADE, metavar="DIR", help="where trained guards are kept")
    given = ask.parse_args()
    lines = given.results.read_text(encoding="utf-8").splitlines() if given.results.is_file() else []
    results = [json.loads(line) for line in lines]
    done = {one["cell"] for one in results}
    if given.run == "table":
        print(hsdpo_table.table(results, list(CELLS)))
        return
    name = given.name or next((each for each in CELLS if each not in done), None)
    if name is None or name in done:
        print(f"{name or 'every cell'} has its result in {given.results}")
        return
    began = time.monotonic()
    found = cell(name, given.lessons, given.measured, given.made)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    print(f"{hsdpo_table.table([found], [name])}\n{name}: {(time.monotonic() - began) / 60:.1f} min")


if __name__ == "__main__":
    main()
