"""The linear baseline: TF-IDF of words and characters with logistic regression, in scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LinearModel:
    """A fitted TF-IDF with logistic regression."""

    pipeline: Any

    def p(self, texts: Sequence[str]) -> list[float]:
        """Return P(positive) of each text."""
        return [float(row[1]) for row in self.pipeline.predict_proba(list(texts))] if texts else []


def fit(texts: Sequence[str], positive: Sequence[bool], *, balanced: bool = False) -> LinearModel | None:
    """Fit on labeled texts; None where a class is missing or no text has a word. `balanced` weights the classes."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    if len(set(positive)) < 2:
        return None
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    regression = LogisticRegression(C=10, max_iter=2000, class_weight="balanced" if balanced else None)
    model = make_pipeline(make_union(words, characters), regression)
    try:
        model.fit(list(texts), list(positive))
    except ValueError as error:
        # No text has a word, whatever its script.
        if "empty vocabulary" not in str(error):
            raise
        return None
    return LinearModel(model)
