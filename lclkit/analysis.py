"""What to compute from probabilities and scores: entropy (Eq. 7), spread over seeds, confusable classes."""

import numpy as np
from scipy import stats
from sklearn import metrics


def scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, weighted F1 (Eq. 8) and macro F1 in percent, to 4 digits.

    labels, predicted: ``(N,)`` classes. Macro F1 is over the classes that occur in either; one that is never
    predicted, or only predicted, has F1 = 0. Raises ValueError where there are no texts or the lengths differ.
    """
    if not 0 < len(labels) == len(predicted):
        raise ValueError(f"labels, predicted: expected one of each per text, found {len(labels)} and {len(predicted)}")
    found = {"accuracy": metrics.accuracy_score(labels, predicted)}
    for name, average in (("f1", "weighted"), ("macro_f1", "macro")):
        found[name] = metrics.f1_score(labels, predicted, average=average, zero_division=0)
    return {name: round(100 * float(value), 4) for name, value in found.items()}


def topk_entropy(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Entropy of the k largest probabilities, renormalised to sum to 1 (Eq. 7), in bits.

    probabilities: ``(N, C)``, rows that sum to 1. Returns ``(N,)``: 0 for k = 1, at most log2(k).
    Raises ValueError for k outside 1 to C, or rows that are no probabilities.
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 2 or (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("probabilities: expected (N, C) rows of numbers from 0 that sum to 1")
    if not 1 <= k <= p.shape[1]:
        raise ValueError(f"k: expected 1 to {p.shape[1]}, the number of classes; found {k}")
    top = np.sort(p, axis=1)[:, -k:]
    return stats.entropy(top, base=2, axis=1)       # renormalises


def summarise(scores: list[float], level: float = 0.95) -> dict[str, float]:
    """Mean, standard deviation, n and a t interval of the mean over runs; NaN where n = 1 leaves no spread."""
    x = np.asarray(scores, dtype=float)
    half = sd = float("nan")
    if len(x) > 1:
        sd = float(x.std(ddof=1))
        half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * sd / np.sqrt(len(x)))
    mean = float(x.mean())
    return {"mean": mean, "sd": sd, "n": len(x), "low": mean - half, "high": mean + half}


def confusable_pairs(counts: np.ndarray) -> list[tuple[int, int, float]]:
    """Class pairs (i, j, share) by the share of the pair's texts given the other's label, largest first.

    counts: confusion matrix ``(C, C)``, rows true and columns predicted classes.
    """
    totals = counts.sum(1)
    pairs = [(i, j, (counts[i, j] + counts[j, i]) / max(1, totals[i] + totals[j]))
             for i in range(len(counts)) for j in range(i + 1, len(counts))]
    return sorted(pairs, key=lambda pair: -pair[2])
