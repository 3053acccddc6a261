"""The counts that were published with the real files: rows, different texts, conflicts, overlaps. Exactly these."""

import pytest

from tests.loop.data.whole_files import read_file
from tests.where import SHARED_DATA
from wizloop.loop.data.compare_files import compare, count, plain
from wizloop.loop.data.sample_rows import SampleRow
from wizloop.loop.data.similarity import normalize

WIZARD = "wizard101/"


def rows_of(name: str, **asked: object) -> list[SampleRow]:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{name} of the real data is not here")
    got = read_file(path, split="pool", **asked)
    assert got.refused == [] or name.startswith("jailbreakbench")
    return got.rows


@pytest.mark.parametrize(
    ("name", "rows", "texts", "conflicts", "labeled"),
    [
        ("benchmark_beavertails_30k.json.gz", 3021, 2525, 97, 3021),
        ("benchmark_harmbench_test.json", 500, 500, 0, 500),
        ("benchmark_jailbreakbench.json", 190, 190, 0, 190),
        ("benchmark_openai_moderation.json", 1110, 1101, 1, 1110),
        ("benchmark_sgbench.json", 1442, 1427, 0, 1442),
        ("benchmark_simplesafetytests.json", 100, 100, 0, 100),
        ("benchmark_strongreject.json", 313, 313, 0, 313),
        ("benchmark_toxicchat_test.json.gz", 4196, 4107, 0, 4196),
        ("evaluation_combined_test.json", 200, 200, 0, 200),
        ("evaluation_guardreasoner_test_5k.json.gz", 5000, 4817, 4, 5000),
        ("evaluation_wildguard_full_benchmark.json", 1091, 1091, 0, 1091),
        ("evaluation_xstest.json", 310, 310, 0, 310),
        ("training_combined_train.json", 800, 800, 0, 800),
        ("training_mega_train.json", 2077, 2077, 0, 2077),
        ("raw_harmful_behaviors.json", 400, 400, 0, 0),
        ("raw_harmless_alpaca.json", 400, 400, 0, 0),
        ("quarantine_deepset_train.csv", 544, 544, 0, 544),
        ("quarantine_deepset_test.csv", 116, 116, 0, 116),
    ],
)
def test_every_file_of_wizard101_has_its_rows_texts_and_conflicts(
    name: str, rows: int, texts: int, conflicts: int, labeled: int
) -> None:
    # The plain columns are asked for: two of the files are recognized as labeled for something else.
    read = rows_of(WIZARD + name, format="columns")
    counted = count(read)
    assert (counted.rows, counted.plain, counted.conflicts) == (rows, texts, conflicts)
    assert sum("request" in row.labels for row in read) == labeled
    assert {label for row in read for label in row.labels.values()} <= {"harmful", "unharmful"}


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("training_mega_train.json", "evaluation_wildguard_full_benchmark.json", 1091),
        ("benchmark_harmbench_test.json", "raw_harmful_behaviors.json", 305),
        ("benchmark_sgbench.json", "raw_harmful_behaviors.json", 400),
        ("benchmark_sgbench.json", "benchmark_harmbench_test.json", 388),
        ("benchmark_strongreject.json", "raw_harmful_behaviors.json", 16),
        ("benchmark_harmbench_test.json", "evaluation_combined_test.json", 70),
        ("benchmark_beavertails_30k.json.gz", "evaluation_guardreasoner_test_5k.json.gz", 267),
    ],
)
def test_the_overlaps_of_wizard101(one: str, other: str, shared: int) -> None:
    texts = [{plain(row.prompt) for row in rows_of(WIZARD + name)} for name in (one, other)]
    assert len(texts[0] & texts[1]) == shared


def test_a_constant_answer_on_the_wildguard_file() -> None:
    labels = [row.labels["request"] for row in rows_of(WIZARD + "evaluation_wildguard_full_benchmark.json")]
    harmful = labels.count("harmful")
    assert (harmful, len(labels)) == (430, 1091)
    assert round(100 * (1 - harmful / len(labels)), 1) == 60.6
    assert round(100 * 2 * harmful / (len(labels) + harmful), 1) == 56.5


MODELS = ("gemma-2b-it", "llama-2-7b-chat-hf", "meta-llama-3-8b-instruct", "qwen-1_8b-chat", "yi-6b-chat")
SETS = ("harmless_actadd", "harmless_baseline", "jailbreakbench_ablation", "jailbreakbench_baseline")
INSTRUCTIONS = "safety_only_data_Instructions.json.gz"
LLAMAS = [
    INSTRUCTIONS,
    "Q-Harm.json",
    *(
        f"I-{name}.json"
        for name in (
            "Alpaca",
            "CoNa",
            "Controversial",
            "MaliciousInstructions",
            "PhysicalSafetySafe",
            "PhysicalSafetyUnsafe",
        )
    ),
]
FILES = {
    "5k": ["wizard101/evaluation_guardreasoner_test_5k.json.gz"],
    "toxicchat train": ["toxicchat/toxic_chat_train.json.gz"],
    "toxicchat test": ["toxicchat/toxic_chat_test.json.gz"],
    "aegis": ["guardreasoner_benchmark/0_1_AegisSafetyTest.json"],
    "beaver_tails": ["guardreasoner_benchmark/0_A_beaver_tails.json.gz"],
    "safe_rlhf": ["guardreasoner_benchmark/0_9_safe_rlhf.json.gz"],
    "simple": ["guardreasoner_benchmark/0_0_SimpleSafetyTests.json"],
    "strongreject": ["strongreject/strongreject.csv"],
    "hh": ["hh_rlhf/harmless-base_test.jsonl.gz"],
    "star1": ["star1/STAR-1.json.gz"],
    "llamas": [f"safety_tuned_llamas/{name}" for name in LLAMAS],
    "coconot": ["coconot/coconot_eval.jsonl", "coconot/coconot_contrast_eval.jsonl", "coconot/coconot_pref.jsonl.gz"],
    "advbench": ["advbench/harmful_behaviors.csv"],
    "refusal": [f"refusal_direction/{model}_{each}.json" for model in MODELS for each in SETS],
    "multijail": ["multijail/MultiJail.csv"],
    "harmbench": ["harmbench/harmbench_behaviors_text_all.csv"],
    "mega": ["wizard101/training_mega_train.json"],
    "xstest": ["xstest/xstest_prompts.csv"],
    "jailbreakbench": ["jailbreakbench/behaviors_harmful.csv", "wizard101/benchmark_jailbreakbench.json"],
    "wildguardtest": ["wildguardtest/wildguardtest.parquet"],
    "harmbench responses": ["guardreasoner_benchmark/0_5_harmbench_response.json.gz"],
}


@pytest.fixture(scope="module")
def texts() -> dict[str, set[str]]:
    """The different normalized prompts of every set of the overlap table."""
    asked = {f"safety_tuned_llamas/{INSTRUCTIONS}": {"map": {"prompt": "instruction"}}}
    return {
        name: {normalize(row.prompt) for file in files for row in rows_of(file, **asked.get(file, {}))}
        for name, files in FILES.items()
    }


@pytest.mark.parametrize(
    ("trains", "measures", "shared"),
    [
        ("5k", "toxicchat test", 6),
        ("5k", "aegis", 10),
        ("5k", "beaver_tails", 269),
        ("5k", "safe_rlhf", 35),
        ("toxicchat train", "toxicchat test", 77),
        ("toxicchat train", "simple", 1),
        ("toxicchat train", "strongreject", 1),
        ("toxicchat train", "beaver_tails", 1),
        ("beaver_tails", "toxicchat test", 2),
        ("beaver_tails", "aegis", 26),
        ("beaver_tails", "safe_rlhf", 98),
        ("safe_rlhf", "aegis", 11),
        ("safe_rlhf", "beaver_tails", 98),
        ("hh", "toxicchat test", 3),
        ("hh", "aegis", 10),
        ("hh", "xstest", 1),
        ("hh", "beaver_tails", 399),
        ("hh", "safe_rlhf", 78),
        ("star1", "toxicchat test", 1),
        ("star1", "aegis", 1),
        ("star1", "simple", 4),
        ("star1", "beaver_tails", 27),
        ("star1", "safe_rlhf", 10),
        ("llamas", "aegis", 1),
        ("llamas", "beaver_tails", 13),
        ("llamas", "safe_rlhf", 5),
        ("coconot", "toxicchat test", 1),
        ("advbench", "strongreject", 25),
        ("advbench", "jailbreakbench", 11),
        ("refusal", "strongreject", 3),
        ("refusal", "jailbreakbench", 90),
        ("multijail", "strongreject", 4),
        ("multijail", "beaver_tails", 33),
        ("multijail", "safe_rlhf", 4),
        ("harmbench", "harmbench responses", 4),
        ("harmbench", "jailbreakbench", 1),
        ("mega", "wildguardtest", 1091),
        ("mega", "strongreject", 16),
        ("mega", "jailbreakbench", 7),
    ],
)
def test_the_overlap_table(texts: dict[str, set[str]], trains: str, measures: str, shared: int) -> None:
    assert len(texts[trains] & texts[measures]) == shared


@pytest.mark.parametrize(
    ("name", "texts_there"), [("safe_rlhf", 549), ("beaver_tails", 2523), ("toxicchat test", 1942)]
)
def test_many_rows_share_a_prompt(texts: dict[str, set[str]], name: str, texts_there: int) -> None:
    assert len(texts[name]) == texts_there


def test_two_files_are_compared_before_either_is_imported() -> None:
    train, measure = SHARED_DATA / FILES["advbench"][0], SHARED_DATA / FILES["strongreject"][0]
    if not train.exists():
        pytest.skip("the real data is not here")
    found = compare(train, measure)
    assert (found.train.rows, found.measure.rows, found.words) == (520, 313, 25)
