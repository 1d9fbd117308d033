"""What to compute from probabilities and scores: entropy (Eq. 7), calibration, tests of a gain, confusable classes."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans

from lclkit import paper

FLOOR = 1e-8  # what a probability of 0 counts as in a logarithm; packed runs keep 16 bits, at least 6e-8


def scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, weighted F1 (Eq. 8) and macro F1 in percent, to 4 digits.

    labels, predicted: ``(N,)`` classes. Macro F1 is over the classes that occur in either; one that is never
    predicted, or only predicted, has F1 = 0. Raises ValueError where there are no texts or the lengths differ.
    """
    if not 0 < len(labels) == len(predicted):
        raise ValueError(
            f"labels, predicted: expected one of each per text, found {len(labels)} and {len(predicted)}"
        )
    found = {"accuracy": metrics.accuracy_score(labels, predicted)}
    for name, average in (("f1", "weighted"), ("macro_f1", "macro")):
        found[name] = metrics.f1_score(labels, predicted, average=average, zero_division=0)
    return {name: round(100 * float(value), 4) for name, value in found.items()}


def _checked(
    probabilities: np.ndarray, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, the rows made to sum to 1 beyond what 16 bits hold. Raises ValueError for bad ones."""
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if p.ndim != 2 or (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("probabilities: expected (N, C) rows of numbers from 0 that sum to 1")
    if labels is not None and not (
        len(p)
        and y.shape == p.shape[:1]
        and y.dtype.kind in "iu"
        and 0 <= y.min() <= y.max() < p.shape[1]
    ):
        raise ValueError(
            f"labels: expected a class number from 0 to {p.shape[1] - 1} for each text of 1 or more, here "
            f"{len(p)}; found {y.dtype} {y.shape}"
        )
    return p / p.sum(1, keepdims=True), y


def topk_entropy(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Entropy of the k largest probabilities, renormalised to sum to 1 (Eq. 7), in bits.

    probabilities: ``(N, C)``, rows that sum to 1. Returns ``(N,)``: 0 for k = 1, at most log2(k).
    Raises ValueError for k outside 1 to C, or rows that are no probabilities.
    """
    p, _ = _checked(probabilities)
    if not 1 <= k <= p.shape[1]:
        raise ValueError(f"k: expected 1 to {p.shape[1]}, the number of classes; found {k}")
    top = np.sort(p, axis=1)[:, -k:]
    return stats.entropy(top, base=2, axis=1)  # renormalises


def entropy_curve(
    probabilities: np.ndarray, ks: Iterable[int], labels: np.ndarray | None = None
) -> pd.DataFrame:
    """Mean top-k entropy (bits) for each k, of all predictions and, given labels, of the right and the wrong ones.

    probabilities: ``(N, C)``, and the interval is that of the mean over texts; or ``(seeds, N, C)``, and it is that of
    the seeds' means. labels: ``(N,)``. Returns rows k, predictions ("all", "right", "wrong") and what `summarise`
    returns; seeds without a wrong prediction do not count there. Raises ValueError as `topk_entropy` does.
    """
    p = np.asarray(probabilities)
    seeds = p if p.ndim == 3 else p[None]
    groups = {"all": np.ones(seeds.shape[:2], dtype=bool)}
    if labels is not None:
        groups["right"] = np.stack(
            [p.argmax(1) == y for p, y in (_checked(some, labels) for some in seeds)]
        )
        groups["wrong"] = ~groups["right"]
    rows = []
    for k in ks:
        entropy = np.stack([topk_entropy(some, k) for some in seeds])
        for name, chosen in groups.items():
            means = [
                some[here].mean() for some, here in zip(entropy, chosen, strict=True) if here.any()
            ]
            if means:
                rows.append(
                    {
                        "k": k,
                        "predictions": name,
                        **summarise(means if p.ndim == 3 else entropy[chosen]),
                    }
                )
    return pd.DataFrame(rows)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """Confidence (largest probability) beside accuracy, both as shares, in bins of equal width.

    probabilities: ``(N, C)``; labels: ``(N,)`` class numbers. Returns a row a bin, from low (outside) to high (inside):
    low, high, texts, confidence, accuracy; NaN in an empty bin. Raises ValueError for bad rows or labels, or no bin.
    """
    p, y = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, found {bins}")
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(p.max(1), edges[1:-1], right=True)
    texts, confidence, right = (
        np.bincount(place, some, bins) for some in (None, p.max(1), p.argmax(1) == y)
    )
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "texts": texts,
                "confidence": confidence / texts,
                "accuracy": right / texts,
            }
        )


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
    """Distance of confidence from accuracy in the bins of `reliability`, mean over texts: 0 to 1 (Guo et al. 2017)."""
    table = reliability(probabilities, labels, bins)
    return float(
        (table.texts * (table.accuracy - table.confidence).abs()).sum() / table.texts.sum()
    )


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Squared distance of the row from the label's one-hot row, mean over texts: 0 to 2 (Brier 1950)."""
    p, y = _checked(probabilities, labels)
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean())


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log of the label's probability, which counts as `FLOOR` at least, in nats: the cross-entropy."""
    p, y = _checked(probabilities, labels)
    return float(-np.log(np.maximum(p[np.arange(len(p)), y], FLOOR)).mean())


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """The share of errors (risk) among the texts at least so confident, and their share of all texts (coverage).

    Returns a row for each confidence that occurs, largest first: confidence, coverage, risk. Ties come in together.
    """
    p, y = _checked(probabilities, labels)
    levels, place, texts = np.unique(-p.max(1), return_inverse=True, return_counts=True)
    errors, texts = np.bincount(place, p.argmax(1) != y).cumsum(), texts.cumsum()
    return pd.DataFrame({"confidence": -levels, "coverage": texts / len(p), "risk": errors / texts})


def risk_coverage_area(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Area under `risk_coverage`, 0 to 1, less is better: the error rate where confidence says nothing."""
    curve = risk_coverage(probabilities, labels)
    return float((curve.risk * np.diff(curve.coverage, prepend=0)).sum())


def apply_temperature(probabilities: np.ndarray, t: float) -> np.ndarray:
    """Probabilities ``(N, C)`` of the logits divided by t > 0: flatter for t > 1, and the same order of classes."""
    if not t > 0:
        raise ValueError(f"t: expected a number above 0, found {t}")
    return special.softmax(np.log(np.maximum(_checked(probabilities)[0], FLOOR)) / t, axis=1)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, from 1/20 to 20, of the least negative log-likelihood (Guo et al. 2017).

    probabilities: ``(N, C)``, of *validation*; their logarithms are the logits less a constant of the row.
    """
    p, y = _checked(probabilities, labels)
    logs = np.log(np.maximum(p, FLOOR))
    inverse = optimize.minimize_scalar(
        lambda x: -special.log_softmax(logs * x, axis=1)[np.arange(len(y)), y].mean(),
        bounds=(1 / 20, 20),
        method="bounded",
        options={"xatol": 1e-6},
    ).x  # convex
    return float(1 / inverse)


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
    pairs = [
        (i, j, (counts[i, j] + counts[j, i]) / max(1, totals[i] + totals[j]))
        for i in range(len(counts))
        for j in range(i + 1, len(counts))
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def subset_scores(
    confusion: np.ndarray, size: int = 4, score: str = "off_diagonal"
) -> tuple[np.ndarray, np.ndarray]:
    """All subsets of `size` classes and how confusable each is (section 5.3).

    confusion: counts ``(C, C)``, on *validation*; an edge is what they hold of two classes, both ways together.
    score: "off_diagonal", the sum of all edges, as in the paper: two unrelated pairs can make it large;
    "minimum_edge", the least: large only where each pair is confused; "mean_edge": the sum, comparable between sizes.
    Returns class numbers ``(S, size)`` in lexicographic order and scores ``(S,)``. Raises ValueError for bad input.
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not (counts >= 0).all():
        raise ValueError(f"confusion: expected (C, C) counts from 0, found shape {counts.shape}")
    if not 2 <= size <= len(counts):
        raise ValueError(f"size: expected 2 to {len(counts)}, the number of classes; found {size}")
    how = {"off_diagonal": np.sum, "minimum_edge": np.min, "mean_edge": np.mean}
    if score not in how:
        raise ValueError(f"score: expected one of {', '.join(how)}; found {score!r}")
    subsets = np.array(list(combinations(range(len(counts)), size)))
    i, j = np.triu_indices(size, 1)
    return subsets, how[score]((counts + counts.T)[subsets[:, i], subsets[:, j]], axis=1)


def hardest_subsets(
    confusion: np.ndarray,
    size: int = 4,
    n: int = 4,
    score: str = "off_diagonal",
    exclusive: bool = True,
) -> list[tuple[tuple[int, ...], float]]:
    """The n most confusable subsets and their scores (`subset_scores`), highest first; of equal ones the first.

    exclusive: classes of a chosen subset are out for those after it, the strict reading of section 5.3 ("after
    excluding these emotions"); then there may be fewer than n.
    """
    subsets, scores = subset_scores(confusion, size, score)
    order, hardest = np.argsort(-scores, kind="stable"), []
    while len(order) and len(hardest) < n:
        best = subsets[order[0]]
        hardest.append((tuple(best.tolist()), float(scores[order[0]])))
        order = order[~np.isin(subsets[order], best).any(1)] if exclusive else order[1:]
    return hardest


def compare(
    runs_a: np.ndarray, runs_b: np.ndarray, level: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """How far accuracy a is above b, in points, and how sure that is: over seeds, and over test texts.

    runs_a, runs_b: right (1) or wrong (0), ``(seeds, texts)``, the same seeds and texts in the same order. level: of
    the intervals; seed: of what is resampled. Returns accuracy_a, accuracy_b (%), difference, seeds, texts, and
    - over seeds, for these texts: Welch's t, df and p, its interval low to high, Hedges' g, and permutation_p, of
      flipping the sign of each seed's difference (all flips up to 13 seeds; no p below 2 / 2^seeds);
    - over texts, for these seeds: texts_low to texts_high, a bootstrap of texts, each with all its seeds; and
      mcnemar_p, exact, the median over seeds, since pooling would count each text once a seed.
    NaN for what needs spread over seeds where there is none. Raises ValueError for other shapes or values.
    """
    a, b = np.asarray(runs_a), np.asarray(runs_b)
    if (
        a.ndim != 2
        or a.shape != b.shape
        or not len(a)
        or a.shape[1] < 2
        or not np.isin([a, b], (0, 1)).all()
    ):
        raise ValueError(
            "runs_a, runs_b: expected right (1) or wrong (0) as (seeds, texts), the same in both, 2 texts "
            f"or more; found {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    a, b = a.astype(int), b.astype(int)
    x, y, n = 100 * a.mean(1), 100 * b.mean(1), len(a)
    found = dict.fromkeys(("t", "df", "p", "low", "high", "g", "permutation_p"), np.nan)
    if n > 1 and np.ptp(x) + np.ptp(y) > 0:
        both = CompareMeans.from_data(x, y)
        found["t"], found["p"], found["df"] = both.ttest_ind(usevar="unequal")
        found["low"], found["high"] = both.tconfint_diff(1 - level, usevar="unequal")
        found["g"] = effectsize_smd(x.mean(), x.std(ddof=1), n, y.mean(), y.std(ddof=1), n)[0]
    if n > 1:  # of counts: no rounding between equal sums
        found["permutation_p"] = stats.permutation_test(
            (a.sum(1), b.sum(1)),
            lambda x, y, axis: (x - y).sum(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=9999,
            random_state=seed,
        ).pvalue
    gains = 100 * (a - b).mean(0)
    found["texts_low"], found["texts_high"] = stats.bootstrap(
        (gains,),
        np.mean,
        confidence_level=level,
        method="percentile",
        batch=1000,
        random_state=seed,
    ).confidence_interval
    found["mcnemar_p"] = np.median(
        [
            mcnemar(metrics.confusion_matrix(*pair, labels=(0, 1)), exact=True).pvalue
            for pair in zip(a, b, strict=True)
        ]
    )
    return {
        "accuracy_a": float(x.mean()),
        "accuracy_b": float(y.mean()),
        "difference": float(gains.mean()),
        "seeds": n,
        "texts": a.shape[1],
        **{name: float(value) for name, value in found.items()},
    }


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p values of a family of tests, each corrected for all (Holm 1979). NaN, no test, stays so and does not count."""
    p = np.array(list(p_values), dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p_values: expected 0 to 1, found {np.nanmin(p)} to {np.nanmax(p)}")
    if (known := ~np.isnan(p)).any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p


def from_summary(
    mean_a: float,
    sd_a: float,
    n_a: int,
    mean_b: float,
    sd_b: float | None = None,
    n_b: int | None = None,
    decimals: int = 1,
    t: float | None = None,
) -> dict[str, float]:
    """Welch's and Student's t test (two-sided) of one printed mean (SD) against another, and what rounding leaves open.

    decimals: of the printed numbers; each stands for all that round to it. Without sd_b and n_b, mean_b is a value
    that somebody else prints, and the test is that of one sample. t: as reported, to two decimals.

    Returns, of Welch's test, t, df and p of the numbers as printed, and t_low, t_high, p_low, p_high: the range over
    all that print the same. Given t also p_at_t, by the df as printed, and p_at_t_low, p_at_t_high, by any df and t
    that print the same: a reported p outside them does not belong to that t. The same of Student's as student_t and
    so on; one sample has no second test. Raises ValueError for an SD below 0 or n below 2.
    """
    if one_sample := sd_b is None and n_b is None:
        sd_b, n_b = 0, 2  # without spread in b, Welch's test is that of one sample
    for name, sd, n in (("a", sd_a, n_a), ("b", sd_b, n_b)):
        if sd is None or n is None or not (sd >= 0 and n >= 2):
            raise ValueError(
                f"sd_{name}, n_{name}: expected an SD from 0 and n from 2, found {sd} and {n}"
            )
    half = 0.5 / 10**decimals
    ends = mean_a - mean_b + np.array([-2 * half, 2 * half])
    gaps = np.array([mean_a - mean_b, *ends, np.clip(0, *ends)])[
        :, None, None
    ]  # the last has the largest p
    spread = np.linspace(-half, half, 101)  # 0 stands in the middle
    a = np.maximum(0, sd_a + spread)[:, None]
    b = np.maximum(0, sd_b + spread * (not one_sample))
    v, w = a**2 / n_a, b**2 / n_b
    with np.errstate(invalid="ignore"):  # no spread at all: 0 / 0
        welch = (v + w) ** 2 / (v**2 / (n_a - 1) + w**2 / (n_b - 1))
    found = {}
    for prefix, df in [("", welch), ("student_", np.full_like(welch, n_a + n_b - 2))][
        : 1 if one_sample else 2
    ]:
        ts, ps = stats.ttest_ind_from_stats(gaps, a, n_a, 0, b, n_b, equal_var=prefix != "")
        some = {
            "t": ts[0, 50, 50],
            "df": df[50, 50],
            "p": ps[0, 50, 50],
            "t_low": np.nanmin(ts),
            "t_high": np.nanmax(ts),
            "p_low": np.nanmin(ps),
            "p_high": np.nanmax(ps),
        }
        if t is not None:
            p = 2 * stats.t.sf(abs(t) + np.array([0, -0.005, 0.005])[:, None, None], df)
            some |= {
                "p_at_t": p[0, 50, 50],
                "p_at_t_low": np.nanmin(p),
                "p_at_t_high": np.nanmax(p),
            }
        found |= {prefix + name: float(value) for name, value in some.items()}
    return found


def printed_test(test: paper.PrintedTest) -> dict:
    """A test of the paper computed again from the accuracies it printed: the test, `from_summary`, and a verdict.

    Verdict: "consistent" if a bound on p (< or >) holds of the numbers as printed, or a p (=) is one that their
    rounding allows; "only at a corner" if a bound holds only of some others that round to them; else "cannot be". It
    is the p of Welch's test, at the reported t if there is one. A quoted accuracy has no SD: the other is tested
    against it, so that t < 0 where the quoted one is better.
    """
    a, b = (
        next(
            r
            for r in paper.RESULTS
            if (r.table, r.dataset, r.classes, r.model, r.metric)
            == (test.section[-1], test.dataset, test.classes, model, "accuracy")
        )
        for model in (test.better, test.worse)
    )
    if a.sd is None:
        a, b = b, a
    found = from_summary(a.mean, a.sd, a.n, b.mean, b.sd, b.n, t=test.t)
    p, low, high = (
        found[f"p{'' if test.t is None else '_at_t'}{end}"] for end in ("", "_low", "_high")
    )
    half = 0.5 / 10 ** len(str(test.p).split(".")[1])
    rounds = low < test.p + half and high >= test.p - half
    holds, possible = {
        "<": (p < test.p, low < test.p),
        ">": (p > test.p, high > test.p),
        "=": (rounds, rounds),
    }[test.relation]
    if test.t is not None:
        possible = possible and found["t_low"] <= test.t <= found["t_high"]
    verdict = "cannot be" if not possible else "consistent" if holds else "only at a corner"
    return {
        **test._asdict(),
        "reported_t": test.t,
        "reported_p": f"{test.relation} {test.p}",
        **found,
        "verdict": verdict,
    }


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
