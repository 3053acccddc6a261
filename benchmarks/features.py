"""Measure what a guard that reads few tokens in few dimensions can know at most, with linear models on the same labels.

    python benchmarks/features.py WORKSPACE

WORKSPACE is that of a finished acceptance night (acceptance.py --keep). Logistic regression on TF-IDF of words, and of
tokens of vocabularies learned on the night's pool, whole prompts or their first tokens, in all dimensions and in 128
(LSA on the pool). Trained on the verdicts of the last round; AUROC on the request task of all test rows.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize
from sqlalchemy import select
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from wizloop.store import reviews, samples, steps, tables
from wizloop.store.db import Store
from wizloop.store.models import in_round

DIMENSIONS = 128


class Rows:
    """Texts of the pool, texts and labels of the last round, and those of test."""

    def __init__(self, workspace: Path) -> None:
        with Store.open(workspace, readonly=True) as store, store.read() as db:
            last = max(each.number for each in steps.rounds(db) if each.passed is not None)
            taught = next(one for one in in_round(db, last) if one.role == "sft")
            verdicts = {one.sample_id: one.verdict["request"] for one in reviews.approved(db, last)}
            used = select(tables.uses.c.sample_id).where(tables.uses.c.model_id == taught.id)
            learned = samples.get(db, list(db.scalars(used)))
            test = [one for one in samples.get(db, samples.ids(db, "test")) if one.request and not one.excluded]
            self.pool = [one.prompt for one in samples.get(db, samples.ids(db, "pool"))]
        self.learned, self.labels = [one.prompt for one in learned], [verdicts[one.id] == "harmful" for one in learned]
        self.test, self.truth = [one.prompt for one in test], [one.request == "harmful" for one in test]


def auroc(rows: Rows, tokens: Callable[[str], Sequence[str]] | None) -> tuple[float, float]:
    """Return AUROC in all dimensions, and in 128."""
    words = TfidfVectorizer(sublinear_tf=True, **({"analyzer": tokens} if tokens else {})).fit(rows.pool)
    few = TruncatedSVD(DIMENSIONS, random_state=0).fit(words.transform(rows.pool))
    whole = _auroc(rows, words.transform)
    return whole, _auroc(rows, lambda texts: normalize(few.transform(words.transform(texts))))


def _auroc(rows: Rows, features: Callable[[list[str]], np.ndarray]) -> float:
    model = LogisticRegression(C=10, max_iter=2000).fit(features(rows.learned), rows.labels)
    return float(roc_auc_score(rows.truth, model.predict_proba(features(rows.test))[:, 1]))


def vocabulary(pool: Sequence[str], size: int) -> Tokenizer:
    """Learn a byte-pair vocabulary on the pool and return its tokenizer."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(pool, BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    return made


def main() -> None:
    """Print AUROC by features as a table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("workspace", type=Path)
    rows = Rows(ask.parse_args().workspace)
    print(f"{len(rows.learned)} labels, {len(rows.test)} test prompts\n")
    print(f"| features of the logistic regression | all dimensions | {DIMENSIONS} of them |\n|---|---|---|")
    print("| words of the whole prompt | {:.3f} | {:.3f} |".format(*auroc(rows, None)))
    for size in (4096, 16_384):
        tokenizer = vocabulary(rows.pool, size)
        for most in (64, 128, None):
            found = auroc(rows, lambda text, made=tokenizer, upto=most: made.encode(text).tokens[:upto])
            part = "the whole prompt" if most is None else f"the first {most}"
            print("| tokens of a vocabulary of {:,}, {} | {:.3f} | {:.3f} |".format(size, part, *found))


if __name__ == "__main__":
    main()
