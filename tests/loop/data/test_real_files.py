"""The real files where they are: each gives the counts that were published with it, and refuses no row."""

import pytest

from tests.loop.data.whole_files import label_counts, read_file
from tests.where import SHARED_DATA

U, H = "unharmful", "harmful"


@pytest.mark.parametrize(
    ("name", "fmt", "labels"),
    [
        ("wizard101/benchmark_toxicchat_test.json.gz", "columns", {"request": {H: 252, U: 3944}}),
        ("wizard101/benchmark_jailbreakbench.json", "columns", {"request": {H: 90, U: 100}}),
        ("wizard101/evaluation_guardreasoner_test_5k.json.gz", "columns", {"request": {H: 2500, U: 2500}}),
        ("wizard101/evaluation_combined_test.json", "columns", {"request": {H: 100, U: 100}}),
        ("wizard101/evaluation_xstest.json", "xstest prompts", {"request": {H: 138, U: 172}}),
        ("wizard101/training_mega_train.json", "columns", {"request": {H: 974, U: 1103}}),
        ("wizard101/benchmark_sgbench.json", "columns", {"request": {H: 1442}}),
        ("xstest/xstest_prompts.csv", "xstest prompts", {"request": {H: 138, U: 172}}),
        ("guardreasoner_benchmark/0_1_AegisSafetyTest.json", "guardreasoner benchmark", {"request": {H: 232, U: 127}}),
        (
            "guardreasoner_benchmark/0_5_harmbench_response.json.gz",
            "guardreasoner benchmark",
            {"response": {H: 195, U: 216}},
        ),
        (
            "guardreasoner_benchmark/0_7_xstest_response_refusal.json",
            "guardreasoner benchmark",
            {"completion": {"compliance": 190, "refusal": 119}},
        ),
        (
            "guardreasoner_benchmark/0_A_beaver_tails.json.gz",
            "guardreasoner benchmark",
            {"response": {H: 1733, U: 1288}},
        ),
        ("toxicchat/toxic_chat_train.json.gz", "toxicchat judged", {"request": {H: 351, U: 2383}}),
        ("toxicchat/toxic_chat_test.json.gz", "toxicchat judged", {"request": {H: 252, U: 1745}}),
        ("openai_moderation/samples-1680.jsonl", "openai moderation", {"request": {H: 301, U: 809}}),
        (
            "xstest/xstest_v2_completions_gpt4.csv",
            "xstest completions",
            {"request": {H: 138, U: 172}, "completion": {"compliance": 157, "refusal": 147}},
        ),
        (
            "wildguardtest/wildguardtest.csv.gz",
            "wildguardmix",
            {
                "request": {H: 530, U: 661},
                "completion": {"compliance": 813, "refusal": 392},
                "response": {H: 198, U: 1000},
            },
        ),
    ],
)
def test_the_real_files_give_their_published_counts(name: str, fmt: str, labels: dict[str, dict[str, int]]) -> None:
    if not (SHARED_DATA / name).exists():
        pytest.skip(f"{name} of the real data is not here")
    got = read_file(SHARED_DATA / name, split="pool")
    assert got.refused == []
    assert got.format == fmt
    assert label_counts(got) == labels


def test_a_real_file_of_prompts_without_labels() -> None:
    path = SHARED_DATA / "safety_tuned_llamas" / "I-Controversial.json"
    if not path.exists():
        pytest.skip("safety_tuned_llamas of the real data is not here")
    got = read_file(path, split="pool")
    assert (len(got.rows), got.refused, label_counts(got)) == (40, [], {})
