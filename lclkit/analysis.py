"""What to compute from probabilities and scores: entropy (Eq. 7), spread over seeds, confusable classes."""

import numpy as np
from scipy import stats
from sklearn import metrics

from lclkit import paper


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


def from_summary(mean_a: float, sd_a: float, n_a: int, mean_b: float, sd_b: float | None = None,
                 n_b: int | None = None, decimals: int = 1, t: float | None = None) -> dict[str, float]:
    """Welch's and Student's t test (two-sided) of one printed mean (SD) against another, and what rounding leaves open.

    decimals: of the printed numbers; each stands for all that round to it. Without sd_b and n_b, mean_b is a value
    that somebody else prints, and the test is that of one sample. t: as reported, to two decimals.

    Returns, of Welch's test, t, df and p of the numbers as printed, and t_low, t_high, p_low, p_high: the range over
    all that print the same. Given t also p_at_t, by the df as printed, and p_at_t_low, p_at_t_high, by any df and t
    that print the same: a reported p outside them does not belong to that t. The same of Student's as student_t and
    so on; one sample has no second test. Raises ValueError for an SD below 0 or n below 2.
    """
    one_sample = sd_b is None and n_b is None
    if one_sample:
        sd_b, n_b = 0, 2                    # without spread in b, Welch's test is that of one sample
    for name, sd, n in (("a", sd_a, n_a), ("b", sd_b, n_b)):
        if sd is None or n is None or not (sd >= 0 and n >= 2):
            raise ValueError(f"sd_{name}, n_{name}: expected an SD from 0 and n from 2, found {sd} and {n}")
    half = .5 / 10 ** decimals
    ends = mean_a - mean_b + np.array([-2 * half, 2 * half])
    gaps = np.array([mean_a - mean_b, *ends, np.clip(0, *ends)])[:, None, None]         # the last has the largest p
    spread = np.linspace(-half, half, 101)                                              # 0 stands in the middle
    a = np.maximum(0, sd_a + spread)[:, None]
    b = np.maximum(0, sd_b + spread * (not one_sample))
    v, w = a ** 2 / n_a, b ** 2 / n_b
    with np.errstate(invalid="ignore"):     # no spread at all: 0 / 0
        welch = (v + w) ** 2 / (v ** 2 / (n_a - 1) + w ** 2 / (n_b - 1))
    tests, found = {"": welch, "student_": np.full_like(welch, n_a + n_b - 2)}, {}
    if one_sample:
        del tests["student_"]
    for prefix, df in tests.items():
        ts, ps = stats.ttest_ind_from_stats(gaps, a, n_a, 0, b, n_b, equal_var=prefix != "")
        some = {"t": ts[0, 50, 50], "df": df[50, 50], "p": ps[0, 50, 50], "t_low": np.nanmin(ts),
                "t_high": np.nanmax(ts), "p_low": np.nanmin(ps), "p_high": np.nanmax(ps)}
        if t is not None:
            p = 2 * stats.t.sf(abs(t) + np.array([0, -.005, .005])[:, None, None], df)
            some |= {"p_at_t": p[0, 50, 50], "p_at_t_low": np.nanmin(p), "p_at_t_high": np.nanmax(p)}
        found |= {prefix + name: float(value) for name, value in some.items()}
    return found


def printed_test(test: paper.PrintedTest) -> dict:
    """A test of the paper computed again from the accuracies it printed: the test, `from_summary`, and a verdict.

    Verdict: "consistent" if a bound on p (< or >) holds of the numbers as printed, or a p (=) is one that their
    rounding allows; "only at a corner" if a bound holds only of some others that round to them; else "cannot be". It
    is the p of Welch's test, at the reported t if there is one. A quoted accuracy has no SD: the other is tested
    against it, so that t < 0 where the quoted one is better.
    """
    a, b = (next(r for r in paper.RESULTS if (r.table, r.dataset, r.classes, r.model, r.metric) ==
                 (test.section[-1], test.dataset, test.classes, model, "accuracy"))
            for model in (test.better, test.worse))
    if a.sd is None:
        a, b = b, a
    found = from_summary(a.mean, a.sd, a.n, b.mean, b.sd, b.n, t=test.t)
    p, low, high = (found[f"p{'' if test.t is None else '_at_t'}{end}"] for end in ("", "_low", "_high"))
    half = .5 / 10 ** len(str(test.p).split(".")[1])
    rounds = low < test.p + half and high >= test.p - half
    holds, possible = {"<": (p < test.p, low < test.p), ">": (p > test.p, high > test.p), "=": (rounds, rounds)}[
        test.relation]
    if test.t is not None:
        possible = possible and found["t_low"] <= test.t <= found["t_high"]
    verdict = "cannot be" if not possible else "consistent" if holds else "only at a corner"
    return {**test._asdict(), "reported_t": test.t, "reported_p": f"{test.relation} {test.p}", **found,
            "verdict": verdict}
