"""benchmarks/linear_ways.py: its table pairs a way with TF-IDF by seed. tests/real measures a cell."""

from tests.benchmarks.running import module


def test_the_table_pairs_the_seeds() -> None:
    def one(seed: int, ours: float, theirs: float) -> dict[str, object]:
        figures = [{"both": {"macro_f1": value, "auroc": value / 100}} for value in (ours, theirs)]
        return {"way": "linear", "labels": 100, "seed": seed, "ours": figures[0], "tfidf": figures[1]}

    *_, line = module("linear_ways.py").table([one(1, 70.0, 60.0), one(2, 71.0, 61.0)]).splitlines()
    assert line == (
        "| linear | 100 | both | 2 | 70.5 | 60.5 | +10.0 (+10.0 to +10.0) | 0.705 | 0.605 | +0.100 (+0.100 to +0.100) |"
    )
