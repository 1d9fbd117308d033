"""Scores, entropy (Eq. 7), confusable classes, intervals, and tests of a gain."""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans

FLOOR = 1e-8  # what a probability of 0 counts as in a logarithm


def scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, weighted F1 (Eq. 8) and macro F1 in percent, to 4 digits, of ``(N,)`` classes.

    A class in only one of them has F1 = 0. Raises ValueError for no texts or unequal lengths.
    """
    if not 0 < len(labels) == len(predicted):
        lengths = f"{len(labels)} and {len(predicted)}"
        raise ValueError(f"labels, predicted: expected one of each per text, found {lengths}")
    shares = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "f1": metrics.f1_score(labels, predicted, average="weighted", zero_division=0),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro", zero_division=0),
    }
    return {name: round(100 * float(share), 4) for name, share in shares.items()}


def topk_entropy(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Entropy of the k largest probabilities, renormalised to sum to 1 (Eq. 7), in bits.

    probabilities: ``(N, C)`` or ``(seeds, N, C)``, rows that sum to 1. Returns ``(N,)`` or
    ``(seeds, N)``, from 0 to log2(k). Raises ValueError for other rows, or k outside 1 to C.
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim < 2 or (p < 0).any() or not np.allclose(p.sum(-1), 1, atol=1e-3):
        raise ValueError("probabilities: expected (N, C) rows of numbers from 0 that sum to 1")
    if not 1 <= k <= p.shape[-1]:
        raise ValueError(f"k: expected 1 to {p.shape[-1]}, the number of classes; found {k}")
    largest = np.sort(p, axis=-1)[..., -k:]
    return stats.entropy(largest, base=2, axis=-1)  # divides by the sum


def entropy_curve(
    probabilities: np.ndarray, ks: Iterable[int], labels: np.ndarray | None = None
) -> pd.DataFrame:
    """Mean top-k entropy for each k (Figure 2); with labels, of right and wrong ones apart too.

    probabilities: ``(N, C)``, for an interval over texts, or ``(seeds, N, C)``, for one over the
    means of the seeds. labels: ``(N,)``. Returns rows of k, predictions ("all", "right", "wrong")
    and what `summarise` returns, in bits; a seed that is never wrong does not count there. Raises
    ValueError as `topk_entropy` does, and for labels of another length.
    """
    p = np.asarray(probabilities)
    groups = {"all": np.ones(p.shape[:-1], dtype=bool)}
    if labels is not None:
        if len(labels) != p.shape[-2]:
            raise ValueError(f"labels: expected {p.shape[-2]}, one per text; found {len(labels)}")
        groups["right"] = p.argmax(-1) == np.asarray(labels)
        groups["wrong"] = ~groups["right"]
    rows = []
    for k in ks:
        entropy = topk_entropy(p, k)
        for name, members in groups.items():
            values = entropy[members]
            if p.ndim == 3:
                values = [entropy[i, members[i]].mean() for i in range(len(p)) if members[i].any()]
            if len(values):
                rows.append({"k": k, "predictions": name, **summarise(values)})
    return pd.DataFrame(rows)


def summarise(scores: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Mean, standard deviation, n and a t interval of the mean; NaN where n = 1 has no spread."""
    x = np.asarray(scores, dtype=float)
    mean = float(x.mean())
    sd = float(x.std(ddof=1)) if len(x) > 1 else float("nan")
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * sd / np.sqrt(len(x)))
    return {"mean": mean, "sd": sd, "n": len(x), "low": mean - half, "high": mean + half}


def confusable_pairs(counts: np.ndarray) -> list[tuple[int, int, float]]:
    """Class pairs (i, j, share of the pair's texts given the other's label), largest share first.

    counts: confusion matrix ``(C, C)``, rows true and columns predicted classes.
    """
    totals = counts.sum(1)
    pairs = []
    for i, j in combinations(range(len(counts)), 2):
        swapped = counts[i, j] + counts[j, i]
        pairs.append((i, j, swapped / max(1, totals[i] + totals[j])))
    return sorted(pairs, key=lambda pair: -pair[2])


def compare(
    runs_a: np.ndarray, runs_b: np.ndarray, seed: int = 0, n_resamples: int = 9999
) -> dict[str, float]:
    """How far accuracy a is above b, in points, and how sure that is; intervals are of 95 %.

    runs_a, runs_b: right (1) or wrong (0), ``(seeds, texts)``, the same seeds and texts in the same
    order. Returns accuracy_a, accuracy_b (%), difference, seeds, texts, and
    - over seeds, for these texts: Welch's t, df and p, its interval low to high, Hedges' g, and
      permutation_p, of all 2^seeds flips of the signs of their differences, n_resamples at most;
    - over texts, for these seeds: texts_low to texts_high, of n_resamples draws of the texts, each
      with all its seeds; and mcnemar_p, exact, the median over seeds.
    NaN for what needs a spread over seeds and has none. Raises ValueError for other runs.
    """
    a, b = np.asarray(runs_a), np.asarray(runs_b)
    good_shape = a.ndim == 2 and a.shape == b.shape and len(a) >= 1 and a.shape[1] >= 2
    if not good_shape or not np.isin([a, b], (0, 1)).all():
        raise ValueError(
            "runs_a, runs_b: expected right (1) or wrong (0) as (seeds, texts), the same in both, "
            f"2 texts or more; found {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    gains = a.astype(int) - b.astype(int)  # of each seed on each text
    resampling = {"n_resamples": n_resamples, "random_state": seed}
    texts = stats.bootstrap(
        (100 * gains.mean(0),), np.mean, method="percentile", batch=1000, **resampling
    ).confidence_interval
    tables = [metrics.confusion_matrix(a[i], b[i], labels=(0, 1)) for i in range(len(a))]
    return {
        "accuracy_a": 100 * a.mean(),
        "accuracy_b": 100 * b.mean(),
        "difference": 100 * gains.mean(),
        "seeds": len(a),
        "texts": a.shape[1],
        **_welch(100 * a.mean(1), 100 * b.mean(1)),
        "permutation_p": _sign_flip_p(gains.sum(1), resampling),
        "texts_low": texts.low,
        "texts_high": texts.high,
        "mcnemar_p": np.median([mcnemar(table, exact=True).pvalue for table in tables]),
    }


def _welch(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Welch's test and interval, and Hedges' g, of the accuracies of seeds, ``(seeds,)``."""
    names = ("t", "df", "p", "low", "high", "g")
    if len(a) == 1 or np.ptp(a) + np.ptp(b) == 0:
        return dict.fromkeys(names, float("nan"))
    means = CompareMeans.from_data(a, b)
    t, p, df = means.ttest_ind(usevar="unequal")
    low, high = means.tconfint_diff(usevar="unequal")
    g, _ = effectsize_smd(a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b))
    return dict(zip(names, (t, df, p, low, high, g), strict=True))


def _sign_flip_p(gains: np.ndarray, resampling: dict[str, int]) -> float:
    """gains: of seeds, ``(seeds,)``, in texts: sums of counts have no rounding."""
    if len(gains) == 1:
        return float("nan")
    return stats.permutation_test((gains,), np.sum, permutation_type="samples", **resampling).pvalue


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p values of a family of tests, each corrected for all (Holm 1979).

    NaN is no test: it stays, and does not count. Raises ValueError for a p outside 0 to 1.
    """
    p = np.array(list(p_values), dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p_values: expected 0 to 1, found {np.nanmin(p)} to {np.nanmax(p)}")
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p


def class_similarity(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean cosine between the texts of each two classes, ``(C, C)``; on the diagonal within one.

    features: unit-norm ``(N, d)``. labels: ``(N,)``. classes: C. A text is not compared with
    itself; NaN where there is nothing to compare.
    """
    members = np.eye(classes)[labels]
    counts = members.sum(0)
    sums = members.T @ features.astype(float)
    pairs = np.outer(counts, counts) - np.diag(counts)
    cosines = sums @ sums.T - np.diag(counts)  # a text's cosine with itself is 1
    return np.where(pairs > 0, cosines / np.maximum(pairs, 1), np.nan)
