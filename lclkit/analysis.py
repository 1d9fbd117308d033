"""Scores, entropy (Eq. 7), confusable classes, intervals, and tests of a gain."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans

FLOOR = 1e-8  # what a probability of 0 counts as in a logarithm


def scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, weighted F1 (Eq. 8), macro F1 of ``(N,)``, in percent; ValueError if N differs."""
    shares = {"accuracy": metrics.accuracy_score(labels, predicted)}
    for name, average in (("f1", "weighted"), ("macro_f1", "macro")):
        shares[name] = metrics.f1_score(labels, predicted, average=average, zero_division=0)
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
    return stats.entropy(np.sort(p)[..., -k:], base=2, axis=-1)  # divides by the sum


def entropy_curve(
    probabilities: np.ndarray, ks: Iterable[int], labels: np.ndarray | None = None
) -> pd.DataFrame:
    """Mean top-k entropy for each k (Figure 2); with labels, of right and wrong ones apart too.

    probabilities: ``(seeds, N, C)``. labels: ``(N,)``. Returns rows of k, predictions ("all",
    "right", "wrong") and `summarise` of the means in bits of seeds that have any. Raises as above.
    """
    groups = {"all": np.ones(probabilities.shape[:2], dtype=bool)}
    if labels is not None:
        groups["right"] = probabilities.argmax(-1) == np.asarray(labels)
        groups["wrong"] = ~groups["right"]
    rows = []
    for k in ks:
        entropy = topk_entropy(probabilities, k)
        for name, members in groups.items():
            of_seeds = zip(entropy, members, strict=True)
            means = [bits[chosen].mean() for bits, chosen in of_seeds if chosen.any()]
            if means:
                rows.append({"k": k, "predictions": name, **summarise(means)})
    return pd.DataFrame(rows)


def summarise(scores: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, n and the mean's 95 % t interval; NaN where n = 1 has no spread."""
    n, mean = len(scores), float(np.mean(scores))
    sd = float(np.std(scores, ddof=1)) if n > 1 else float("nan")
    half = float(stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n))
    return {"mean": mean, "sd": sd, "n": n, "low": mean - half, "high": mean + half}


def confusable_pairs(counts: np.ndarray) -> list[tuple[int, int, float]]:
    """Class pairs (i, j, share of the pair's texts given the other's label), largest share first.

    counts: confusion matrix ``(C, C)``, rows true and columns predicted classes.
    """
    texts = np.add.outer(counts.sum(1), counts.sum(1))
    shares = (counts + counts.T) / np.maximum(1, texts)
    pairs = [(i, j, share) for (i, j), share in np.ndenumerate(shares) if i < j]
    return sorted(pairs, key=lambda pair: -pair[2])


def compare(runs_a: np.ndarray, runs_b: np.ndarray, n_resamples: int = 9999) -> dict[str, float]:
    """How far accuracy a is above b, in points, and how sure that is; intervals are of 95 %.

    runs_a, runs_b: right (1) or wrong (0), ``(seeds, texts)``, both in the same order. Returns
    difference; over seeds, for these texts: Welch's t, df and p, its interval low to high, and
    permutation_p, of all 2^seeds flips of their differences' signs, n_resamples at most; over
    texts, for these seeds: texts_low to texts_high, of n_resamples draws of them. NaN for what
    needs a spread over seeds and has none. Raises ValueError for other runs.
    """
    a, b = np.asarray(runs_a), np.asarray(runs_b)
    if a.ndim != 2 or a.shape != b.shape or not np.isin([a, b], (0, 1)).all():
        found = f"{a.dtype} {a.shape} and {b.dtype} {b.shape}"
        raise ValueError(f"runs_a, runs_b: expected 0 and 1 as (seeds, texts); found {found}")
    gains = a.astype(int) - b.astype(int)  # of each seed on each text
    resampling = {"n_resamples": n_resamples, "random_state": 0}
    draws = {"method": "percentile", "batch": 1000, **resampling}
    texts = stats.bootstrap((100 * gains.mean(0),), np.mean, **draws).confidence_interval
    t = df = p = low = high = permutation_p = np.nan
    if len(a) > 1:  # the gains are counts of texts, whose sums have no rounding
        flips = {"permutation_type": "samples", **resampling}
        permutation_p = stats.permutation_test((gains.sum(1),), np.sum, **flips).pvalue
    if np.ptp(a.mean(1)) + np.ptp(b.mean(1)) > 0:
        means = CompareMeans.from_data(100 * a.mean(1), 100 * b.mean(1))
        t, p, df = means.ttest_ind(usevar="unequal")
        low, high = means.tconfint_diff(usevar="unequal")
    row = {"difference": 100 * gains.mean(), "t": t, "df": df, "p": p, "low": low, "high": high}
    return row | {"permutation_p": permutation_p, "texts_low": texts.low, "texts_high": texts.high}


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p values of a family of tests, each corrected for all (Holm 1979); NaN, no test, stays."""
    p = np.array(list(p_values), dtype=float)
    tested = ~np.isnan(p)
    p[tested] = multipletests(p[tested], method="holm")[1]
    return p


def class_similarity(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean cosine between the texts of each two classes, ``(C, C)``; on the diagonal within one.

    features: unit-norm ``(N, d)``. labels: ``(N,)``. classes: C. NaN: there is none to compare.
    """
    members = np.eye(classes)[labels]
    counts = members.sum(0)
    sums = members.T @ features.astype(float)
    pairs = np.outer(counts, counts) - np.diag(counts)
    cosines = sums @ sums.T - np.diag(counts)  # less each text's with itself
    return np.where(pairs > 0, cosines / np.maximum(pairs, 1), np.nan)
