"""The demo pool: deterministic, balanced, free of leaks, learnable, and mostly read rightly by the policy reasoner."""

import random
from collections import defaultdict
from functools import cache

import pytest

from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.policy.reasoner import PolicyReasoner
from wizloop.backends.teachers.policy.scoring import words_of
from wizloop.loop.teaching.teachers import plain
from wizloop.recipes import demo_text
from wizloop.recipes.demo_text import DemoSample, demo_samples
from wizloop.recipes.policies import load


@cache
def samples() -> list[DemoSample]:
    return demo_samples(random.Random(7))


def of(*splits: str) -> list[DemoSample]:
    return [sample for sample in samples() if sample.split in splits]


def is_harmful(sample: DemoSample) -> bool:
    return sample.labels["request"] == "harmful"


@pytest.mark.parametrize(
    ("split", "count", "harmful"), [("pool", 1600, 560), ("seed", 80, 28), ("dev", 300, 105), ("test", 400, 140)]
)
def test_sizes_and_balance(split: str, count: int, harmful: int) -> None:
    assert (len(of(split)), sum(map(is_harmful, of(split)))) == (count, harmful)


def test_the_same_rng_gives_the_same_samples() -> None:
    assert demo_samples(random.Random(7)) == samples()
    assert demo_samples(random.Random(8)) != samples()


def test_no_prompt_stands_twice() -> None:
    assert len({sample.prompt for sample in samples()}) == 2380


def test_prompts_have_the_length_of_prompts() -> None:
    mean = sum(len(sample.prompt.split()) for sample in of("pool")) / 1600
    assert 10 <= mean <= 20


def test_a_quarter_of_the_texts_has_an_answer() -> None:
    answered = [sample for sample in of("pool") if sample.response]
    assert 0.2 <= len(answered) / 1600 <= 0.3
    kinds = {tuple(sample.labels.values()) for sample in answered}
    assert kinds == {
        ("harmful", "refusal", "unharmful"),
        ("harmful", "compliance", "harmful"),
        ("harmful", "compliance", "unharmful"),
        ("unharmful", "compliance", "unharmful"),
        ("unharmful", "refusal", "unharmful"),
    }


def test_a_prompt_alone_is_labelled_on_the_request_only() -> None:
    alone = [sample.labels for sample in samples() if sample.response is None]
    assert {(labels["completion"], labels["response"]) for labels in alone} == {(None, None)}


def test_every_policy_has_both_kinds_and_there_is_everyday_talk() -> None:
    seen = {(sample.policy, is_harmful(sample)) for sample in of("pool")}
    assert seen == {(policy.id, harm) for policy in load() for harm in (True, False)} | {(None, False)}


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = words_of(text).split()
    return frozenset(zip(words, words[1:], words[2:], strict=False))


@pytest.mark.parametrize("with_answer", [False, True])
def test_nothing_measured_is_nearly_something_trained_on(with_answer: bool) -> None:
    def text(sample: DemoSample) -> str:
        return f"{sample.prompt} {sample.response or ''}" if with_answer else sample.prompt

    trained = [shingles(text(sample)) for sample in of("pool", "seed")]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, held in enumerate(trained):
        for shingle in held:
            holders[shingle].append(number)
    worst = 0.0
    for sample in of("dev", "test"):
        ours = shingles(text(sample))
        for number in {number for shingle in ours for number in holders.get(shingle, ())}:
            worst = max(worst, len(ours & trained[number]) / len(ours | trained[number]))
    assert 0.2 < worst < 0.8


def test_more_than_the_phrases_can_make_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_text, "TRIES", 1)
    with pytest.raises(ValueError, match="ask for fewer"):
        demo_samples(random.Random(1), pool=20_000, seed=0, dev=0, test=0)


def test_the_policy_reasoner_agrees_mostly_and_not_always() -> None:
    teacher = PolicyReasoner(list(map(plain, load())), "medium")
    agreed = 0
    for sample in of("pool"):
        trace = teacher.ask(Question("k", sample.prompt, sample.response)).trace
        assert trace is not None
        assert len(trace.explanation.split()) <= 12
        agreed += trace.request == sample.labels["request"]
    assert 0.88 <= agreed / 1600 <= 0.97


@pytest.mark.parametrize(("labels", "low", "high"), [(80, 0.70, 0.86), (600, 0.88, 0.97)])
def test_a_linear_model_learns_it_from_labels_and_only_from_enough(labels: int, low: float, high: float) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    scores = []
    for seed in range(5):
        made = demo_samples(random.Random(seed), pool=labels, seed=0, dev=0, test=400)
        prompts, truth = [sample.prompt for sample in made], [is_harmful(sample) for sample in made]
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = LogisticRegression(C=10, class_weight="balanced", max_iter=500)
        model.fit(words.fit_transform(prompts[:labels]), truth[:labels])
        scores.append(f1_score(truth[labels:], model.predict(words.transform(prompts[labels:]))))
    assert low <= sum(scores) / 5 <= high
