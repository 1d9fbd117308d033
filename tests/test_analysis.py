import math
import time
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lclkit import analysis


@pytest.fixture(autouse=True)
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def rows(*some):
    return np.array(some, dtype=float)


def test_scores_by_hand():
    # class 0: precision 1/2, recall 1; class 1: 1, 2/3; class 2 is never predicted
    assert analysis.scores([0, 1, 1, 1, 2], [0, 1, 1, 0, 0]) == {
        "accuracy": 60,
        "f1": round(100 * (0.5 + 3 * 0.8) / 5, 4),
        "macro_f1": round(100 * (0.5 + 0.8) / 3, 4),
    }


@pytest.mark.parametrize("labels, predicted", [([], []), ([0, 1], [0])])
def test_scores_refuses(labels, predicted):
    with pytest.raises(ValueError, match="expected one of each per text"):
        analysis.scores(labels, predicted)


@pytest.mark.parametrize("classes, k", [(2, 2), (4, 3), (25, 1), (25, 10), (32, 32)])
def test_entropy_of_a_uniform_row_is_log_k(classes, k):
    found = analysis.topk_entropy(np.full((3, classes), 1 / classes), k)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, math.log2(k), atol=1e-12)


def test_entropy_of_the_first_alone_is_0():
    p = np.random.default_rng(0).dirichlet(np.ones(6), size=20)
    np.testing.assert_array_equal(analysis.topk_entropy(p, 1), 0)


def test_entropy_renormalises():
    expected = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    np.testing.assert_allclose(
        analysis.topk_entropy(rows([0.25, 0.5, 0.25]), 2), expected, rtol=1e-12
    )
    np.testing.assert_allclose(analysis.topk_entropy(rows([0.25, 0.5, 0.25]), 3), 1.5, rtol=1e-12)


def test_entropy_of_one_hot_is_0():
    np.testing.assert_array_equal(analysis.topk_entropy(rows([0, 1, 0], [1, 0, 0]), 3), 0)


def test_entropy_is_of_each_row_and_ignores_the_order_of_classes():
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=7)
    found = analysis.topk_entropy(p, 3)
    np.testing.assert_allclose(analysis.topk_entropy(p[:, [4, 2, 0, 1, 3]], 3), found, rtol=1e-12)
    np.testing.assert_allclose(analysis.topk_entropy(p[2:3], 3), found[2:3], rtol=1e-12)
    assert np.ptp(found) > 0.05


@pytest.mark.parametrize(
    "p, k, message",
    [
        (rows([0.5, 0.5]), 0, "k: expected 1"),
        (rows([0.5, 0.5]), 3, "found 3"),
        (np.array([0.5, 0.5]), 1, r"\(N, C\) rows"),
        (rows([0.5, 0.6]), 1, "sum to 1"),
        (rows([0.5, 0.5], [1.5, -0.5]), 1, "sum to 1"),
        (rows([0.5, float("nan")]), 1, "sum to 1"),
    ],
)
def test_entropy_refuses(p, k, message):
    with pytest.raises(ValueError, match=message):
        analysis.topk_entropy(p, k)


def test_summarise_by_hand():
    found = analysis.summarise([70, 72, 77])
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(73) and found["sd"] == pytest.approx(math.sqrt(13))
    half = 4.302652729749464 * math.sqrt(13 / 3)  # t of 2 degrees of freedom, 97.5 %
    assert (found["low"], found["high"]) == pytest.approx((73 - half, 73 + half))


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_summarise_agrees_with_scipy(level):
    scores = np.random.default_rng(0).normal(60, 5, size=10)
    found = analysis.summarise(list(scores), level)
    expected = stats.t.interval(level, 9, scores.mean(), stats.sem(scores))
    assert (found["low"], found["high"]) == pytest.approx(expected)


def test_summarise_of_one_run_has_no_spread():
    found = analysis.summarise([71.5])
    assert (found["mean"], found["n"]) == (71.5, 1)
    assert all(math.isnan(found[name]) for name in ("sd", "low", "high"))


def test_confusable_pairs_by_hand():
    counts = np.array([[6, 3, 1], [1, 9, 0], [4, 0, 16]])
    assert analysis.confusable_pairs(counts) == [(0, 1, 4 / 20), (0, 2, 5 / 30), (1, 2, 0)]


def test_confusable_pairs_of_absent_classes():
    counts = np.zeros((3, 3), dtype=int)
    counts[0, 2] = 2
    assert analysis.confusable_pairs(counts) == [(0, 2, 1), (0, 1, 0), (1, 2, 0)]


# The paper's Table 1 and 3 with the t of its sections 5.1 and 5.3; expected: t, its range, Welch's and Student's p,
# and the range of Welch's p at the t it reports.
@pytest.mark.parametrize(
    "printed, t, expected",
    [
        ((60.1, 0.3, 5, 58.5, 0.7, 5), 4.20, (4.70, 4.05, 5.46, 0.0043, 0.0015, 0.0054, 0.0090)),
        ((65.5, 0.2, 5, 64.3, 0.4, 5), 5.70, (6.00, 4.78, 7.63, 0.0010, 0.0003, 0.0006, 0.0025)),
        ((65.5, 0.2, 5, 64.8, 0.3, 5), 4.32, (4.34, 3.12, 6.14, 0.0034, 0.0025, 0.0025, 0.0063)),
        ((86.6, 0.3, 5, 85.5, 0.9, 5), 2.25, (2.59, 2.21, 3.03, 0.0498, 0.0320, 0.0706, 0.0800)),
        ((78.7, 0.4, 10, 78.0, 0.6, 10), 3.16, (3.07, 2.40, 3.88, 0.0075, 0.0066, 0.0056, 0.0071)),
    ],
)
def test_from_summary_of_the_paper(printed, t, expected):
    found = analysis.from_summary(*printed, t=t)
    names = ("t", "t_low", "t_high", "p", "student_p", "p_at_t_low", "p_at_t_high")
    assert [round(found[name], 2 if name[0] == "t" else 4) for name in names] == list(expected)
    assert found["student_df"] == printed[2] + printed[5] - 2 >= found["df"]
    assert found["student_p_at_t"] == pytest.approx(2 * stats.t.sf(t, found["student_df"]))
    for prefix, equal in (("", False), ("student_", True)):
        whole = stats.ttest_ind_from_stats(*printed, equal_var=equal)
        assert (found[prefix + "t"], found[prefix + "p"]) == pytest.approx(
            (whole.statistic, whole.pvalue)
        )


@pytest.mark.parametrize(
    "decimals, printed", [(1, (65.5, 0.2, 5, 65.4, 0.3, 7)), (2, (0.31, 0.02, 4, 0.28, 0.05, 3))]
)
def test_from_summary_bounds_all_that_round_alike(decimals, printed):
    found = analysis.from_summary(*printed, decimals=decimals)
    half = 0.5 / 10**decimals
    means = (
        np.random.default_rng(0).uniform(-half, half, (4, 50_000))
        + np.array(printed)[[0, 1, 3, 4], None]
    )
    near = stats.ttest_ind_from_stats(
        means[0], means[1], printed[2], means[2], means[3], printed[5], equal_var=False
    )
    for name, values, slack in (("t", near[0], 0.5), ("p", near[1], 0.02)):
        assert found[f"{name}_low"] <= values.min() < found[f"{name}_low"] + slack
        assert found[f"{name}_high"] - slack < values.max() <= found[f"{name}_high"]
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_from_summary_of_one_sample():
    x = np.array([58.2, 58.7, 58.4, 58.5])
    whole = stats.ttest_1samp(x, 58.6)
    found = analysis.from_summary(x.mean(), x.std(ddof=1), 4, 58.6)
    assert (found["t"], found["p"], found["df"]) == pytest.approx(
        (whole.statistic, whole.pvalue, 3)
    )
    assert not [name for name in found if "student" in name or "at_t" in name]
    paper = analysis.from_summary(58.5, 0.2, 5, 58.6)
    assert paper["p_low"] == pytest.approx(0.0407, abs=1e-4) and paper["p_high"] == pytest.approx(1)
    assert paper["t_high"] == pytest.approx(0, abs=1e-12)


def test_from_summary_without_spread():
    found = analysis.from_summary(2, 0, 5, 1, 0, 5)
    assert found["t"] == found["t_high"] == math.inf and found["p"] == 0 < found["p_high"] < 1e-4
    assert (
        analysis.from_summary(2, 0.0333, 5, 1)["t_high"]
        == math.inf
        > analysis.from_summary(2, 0.0533, 5, 1)["t_high"]
    )


@pytest.mark.parametrize(
    "printed, message",
    [
        (
            (1, -0.1, 5, 1, 0.1, 5),
            "sd_a, n_a: expected an SD from 0 and n from 2, found -0.1 and 5",
        ),
        ((1, 0.1, 1, 1, 0.1, 5), "sd_a, n_a: .* found 0.1 and 1"),
        ((1, None, 5, 1, 0.1, 5), "sd_a, n_a: .* found None"),
        ((1, 0.1, 5, 1, 0.1), "sd_b, n_b: .* found 0.1 and None"),
        ((1, 0.1, 5, 1, float("nan"), 5), "sd_b, .* found nan"),
    ],
)
def test_from_summary_refuses(printed, message):
    with pytest.raises(ValueError, match=message):
        analysis.from_summary(*printed)


def test_entropy_curve_of_uniform_rows():
    found = analysis.entropy_curve(np.full((2, 5, 8), 1 / 8), (1, 2, 8))
    assert list(found) == ["k", "predictions", "mean", "sd", "n", "low", "high"]
    assert list(found.k) == [1, 2, 8] and set(found.predictions) == {"all"} and set(found.n) == {2}
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(found[name], [0, 1, 3], atol=1e-12)


def test_entropy_curve_over_texts_and_over_seeds():
    p = np.random.default_rng(0).dirichlet(np.ones(4), (3, 40))
    p[0] = np.eye(4)[1] * 0.7 + 0.075  # the first seed is never wrong
    labels = pd.Series(np.ones(40, dtype=int), index=np.arange(40) + 7)
    entropy, right = (
        [analysis.topk_entropy(some, 3) for some in p],
        [some.argmax(1) == 1 for some in p],
    )
    seeds = analysis.entropy_curve(p, [3], labels).set_index("predictions")
    texts = analysis.entropy_curve(p[1], [3], labels).set_index("predictions")
    every = [np.ones(40, dtype=bool)] * 3
    for name, chosen in (("all", every), ("right", right), ("wrong", [~some for some in right])):
        means = [
            some[here].mean() for some, here in zip(entropy, chosen, strict=True) if here.any()
        ]
        assert len(means) == (2 if name == "wrong" else 3)
        for row, expected in ((seeds, means), (texts, entropy[1][chosen[1]])):
            assert row.loc[name].drop("k").to_dict() == pytest.approx(analysis.summarise(expected))
    assert list(analysis.entropy_curve(p[0], [3], labels).predictions) == ["all", "right"]


def test_reliability_by_hand():
    p = rows(
        [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.7, 0.2], [0, 0.75, 0.25], [0.9, 0.1, 0], [0, 0, 1]
    )
    found = analysis.reliability(p, pd.Series([0, 0, 1, 1, 0, 2], index=range(6, 0, -1)), bins=4)
    assert list(found.low) == [0, 0.25, 0.5, 0.75] and list(found.high) == [0.25, 0.5, 0.75, 1]
    assert list(found.texts) == [0, 1, 3, 2]  # an edge counts below it
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 2.05 / 3, 0.95])
    np.testing.assert_allclose(found.accuracy, [np.nan, 1, 2 / 3, 1])
    error = analysis.expected_calibration_error(p, [0, 0, 1, 1, 0, 2], bins=4)
    assert error == pytest.approx((0.5 + 0.05 + 0.1) / 6)


@pytest.mark.parametrize("right, bins, expected", [(3, 15, 0), (4, 15, 0.25), (0, 1, 0.75)])
def test_calibration_error_of_equal_rows(right, bins, expected):
    labels = [0] * right + [1] * (4 - right)
    assert analysis.expected_calibration_error(
        rows(*[[0.75, 0.25]] * 4), labels, bins
    ) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 5, 32])
def test_proper_scores_of_uniform_rows(classes):
    p, labels = np.full((3, classes), 1 / classes), [0, 1, classes - 1]
    assert analysis.brier_score(p, labels) == pytest.approx(1 - 1 / classes)
    assert analysis.negative_log_likelihood(p, labels) == pytest.approx(math.log(classes))


def test_proper_scores_by_hand():
    p = rows([0.7, 0.2, 0.1], [0, 1, 0])
    assert analysis.brier_score(p, [1, 0]) == pytest.approx((0.49 + 0.64 + 0.01 + 2) / 2)
    assert analysis.negative_log_likelihood(p, [1, 1]) == pytest.approx(-math.log(0.2) / 2)
    assert analysis.negative_log_likelihood(p, [0, 0]) == pytest.approx(
        -(math.log(0.7) + math.log(1e-8)) / 2
    )


def test_risk_coverage_by_hand():
    p = rows(
        [0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]
    )  # wrong, right, right, right, wrong
    found = analysis.risk_coverage(p, pd.Series([1, 0, 1, 1, 0], index=range(5, 0, -1)))
    np.testing.assert_allclose(found.confidence, [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(found.coverage, [0.2, 0.4, 0.6, 1])
    np.testing.assert_allclose(found.risk, [0, 0, 1 / 3, 2 / 5])
    assert analysis.risk_coverage_area(p, [1, 0, 1, 1, 0]) == pytest.approx(0.2 / 3 + 0.4 * 0.4)


def test_risk_coverage_of_confidence_that_says_nothing():
    assert analysis.risk_coverage_area(rows(*[[0.6, 0.4]] * 5), [0, 1, 1, 0, 0]) == pytest.approx(
        0.4
    )


def test_temperature_by_hand():
    # odds of 9 and three of four right: the likelihood wants odds of 3, the square root
    p = rows(*[[0.9, 0.1]] * 4)
    assert analysis.fit_temperature(p, [0, 0, 1, 0]) == pytest.approx(2, rel=1e-4)
    np.testing.assert_allclose(analysis.apply_temperature(p, 2), rows(*[[0.75, 0.25]] * 4))


@pytest.mark.parametrize("t", [0.4, 1, 3])
def test_temperature_is_found_again(t):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 2), 4000)
    labels = (p.cumsum(1) < rng.random((4000, 1))).sum(1)  # drawn from p: calibrated
    spoiled = analysis.apply_temperature(p, 1 / t)
    assert analysis.fit_temperature(spoiled, labels) == pytest.approx(t, rel=0.06)
    np.testing.assert_array_equal(spoiled.argsort(1), p.argsort(1))
    np.testing.assert_allclose(analysis.apply_temperature(spoiled, t), p, atol=2e-3)  # the floor
    fitted = analysis.apply_temperature(spoiled, analysis.fit_temperature(spoiled, labels))
    assert analysis.negative_log_likelihood(fitted, labels) <= analysis.negative_log_likelihood(
        spoiled, labels
    )
    assert analysis.expected_calibration_error(fitted, labels) < 0.03


@pytest.mark.parametrize("labels, t", [([0, 1], 1 / 20), ([1, 0], 20)])
def test_temperature_stays_within_its_bounds(labels, t):
    assert analysis.fit_temperature(rows([0.8, 0.2], [0.1, 0.9]), labels) == pytest.approx(
        t, rel=1e-3
    )


def test_16_bits_are_enough():
    p = np.random.default_rng(0).dirichlet(np.full(32, 0.2), 500)
    labels = p.argmax(1)
    assert analysis.negative_log_likelihood(p * 0.9995, labels) == pytest.approx(
        analysis.negative_log_likelihood(p, labels), rel=1e-9
    )
    for measure in (
        analysis.negative_log_likelihood,
        analysis.brier_score,
        analysis.risk_coverage_area,
    ):
        assert measure(p.astype(np.float16), labels) == pytest.approx(
            measure(p, labels), rel=1e-3, abs=1e-9
        )


@pytest.mark.parametrize(
    "labels, found",
    [
        ([0], r"here 2; found int64 \(1,\)"),
        ([0, 2], "from 0 to 1 for"),
        ([-1, 0], "class number"),
        (["joy", "fear"], "found <U4"),
        ([0.0, 1.0], "found float64"),
        ([True, False], "found bool"),
    ],
)
@pytest.mark.parametrize(
    "measure",
    [
        analysis.reliability,
        analysis.brier_score,
        analysis.negative_log_likelihood,
        analysis.risk_coverage,
        analysis.fit_temperature,
        lambda p, labels: analysis.entropy_curve(p, [1], labels),
    ],
)
def test_labels_are_checked(measure, labels, found):
    with pytest.raises(ValueError, match=f"labels: .*{found}"):
        measure(rows([0.5, 0.5], [0.2, 0.8]), labels)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: analysis.brier_score(np.empty((0, 2)), np.empty(0, dtype=int)),
            "labels: .* of 1 or more, here 0",
        ),
        (lambda: analysis.brier_score(rows([0.5, 0.6]), [0]), "probabilities: expected"),
        (
            lambda: analysis.reliability(rows([0.5, 0.5]), [0], bins=0),
            "bins: expected at least 1, found 0",
        ),
        (
            lambda: analysis.apply_temperature(rows([0.5, 0.5]), 0),
            "t: expected a number above 0, found 0",
        ),
    ],
)
def test_calibration_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


COUNTS = np.array(
    [[9, 4, 0, 1, 0], [5, 9, 1, 0, 2], [0, 0, 9, 3, 3], [1, 0, 3, 9, 3], [0, 0, 2, 3, 9]]
)


@pytest.mark.parametrize(
    "score, of",
    [
        ("off_diagonal", sum),
        ("minimum_edge", min),
        ("mean_edge", lambda edges: sum(edges) / len(edges)),
    ],
)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_subset_scores_by_loops(score, of, size):
    subsets, scores = analysis.subset_scores(COUNTS, size, score)
    assert [tuple(some) for some in subsets] == list(combinations(range(5), size))
    np.testing.assert_allclose(
        scores,
        [of([COUNTS[i, j] + COUNTS[j, i] for i, j in combinations(some, 2)]) for some in subsets],
    )
    inner = COUNTS[np.ix_(subsets[-1], subsets[-1])]
    assert score != "off_diagonal" or scores[-1] == inner.sum() - np.trace(
        inner
    )  # as the paper has it


def test_hardest_subsets_by_hand():
    assert analysis.hardest_subsets(COUNTS, 3, 2) == [((2, 3, 4), 17)]  # no three classes are left
    assert analysis.hardest_subsets(COUNTS, 3, 2, exclusive=False) == [
        ((2, 3, 4), 17),
        ((0, 1, 3), 11),
    ]  # or 0, 1, 4
    assert analysis.hardest_subsets(COUNTS, 2) == [
        ((0, 1), 9),
        ((2, 3), 6),
    ]  # (3, 4) ties and comes later
    assert analysis.hardest_subsets(COUNTS, 2, 3, exclusive=False) == [
        ((0, 1), 9),
        ((2, 3), 6),
        ((3, 4), 6),
    ]


def test_two_unrelated_pairs_beat_four_alike_in_the_sum_alone():
    counts = np.zeros((8, 8), dtype=int)
    counts[:4, :4] = 5
    counts[4, 5] = counts[7, 6] = 40
    assert analysis.hardest_subsets(counts, n=1) == [((4, 5, 6, 7), 80)]
    assert analysis.hardest_subsets(counts, n=1, score="minimum_edge") == [((0, 1, 2, 3), 10)]


def test_32_choose_4_takes_under_a_second():
    counts = np.random.default_rng(0).integers(0, 9, (32, 32))
    hard = (2, 11, 17, 30)
    counts[np.ix_(hard, hard)] += 9
    start = time.perf_counter()
    subsets, scores = analysis.subset_scores(counts)
    found = analysis.hardest_subsets(counts, n=9)
    assert time.perf_counter() - start < 1
    assert len(subsets) == len(scores) == 35_960 and found[0] == (hard, scores.max())
    assert sorted(i for some, _ in found for i in some) == list(
        range(32)
    )  # eight sets, no class twice


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.ones((2, 3)),), r"confusion: .* found shape \(2, 3\)"),
        ((-np.eye(4),), "counts from 0"),
        ((np.full((4, 4), np.nan),), "counts from 0"),
        ((np.eye(3),), "size: expected 2 to 3, .* found 4"),
        ((np.eye(3), 1), "found 1"),
        ((np.eye(3), 2, "sum"), "score: expected one of off_diagonal, .* found 'sum'"),
    ],
)
def test_subset_scores_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        analysis.subset_scores(*arguments)


def right(seed, seeds, texts=400, share=0.6):
    return np.random.default_rng(seed).random((seeds, texts)) < share


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_compare_agrees_with_scipy(seeds, level):
    a, b = right(1, seeds, share=0.64), right(2, seeds)
    found = analysis.compare(a, b, level)
    x, y = 100 * a.mean(1), 100 * b.mean(1)
    welch = stats.ttest_ind(x, y, equal_var=False)
    assert [found[name] for name in ("t", "df", "p")] == pytest.approx(
        [welch.statistic, welch.df, welch.pvalue]
    )
    assert (found["low"], found["high"]) == pytest.approx(tuple(welch.confidence_interval(level)))
    assert (found["accuracy_a"], found["accuracy_b"]) == pytest.approx((x.mean(), y.mean()))
    assert found["difference"] == pytest.approx(x.mean() - y.mean())
    assert (found["seeds"], found["texts"]) == (seeds, 400)
    pooled = math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    assert found["g"] == pytest.approx(found["difference"] / pooled * (1 - 3 / (8 * seeds - 9)))
    flips = np.array(np.meshgrid(*[(-1, 1)] * seeds)).reshape(seeds, -1).T @ (
        a.sum(1) - b.sum(1).astype(int)
    )
    assert found["permutation_p"] == pytest.approx(
        np.mean(abs(flips) >= abs((a.sum(1) - b.sum(1).astype(int)).sum()))
    )
    gains = 100 * (a.mean(0) - b.mean(0))
    normal = stats.norm.interval(level, gains.mean(), gains.std() / 20)
    assert (found["texts_low"], found["texts_high"]) == pytest.approx(normal, abs=0.25)


def test_compare_by_hand():
    # seed by seed 3, 2 and 1 texts won and 0, 1 and 0 lost: p = 2/8, 1 and 1
    a = np.array([[1, 1, 1, 1, 0, 1], [1, 1, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
    b = np.array([[1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    found = analysis.compare(a, b)
    assert found["difference"] == pytest.approx(100 * 5 / 18)
    assert found["mcnemar_p"] == 1 and analysis.compare(a[:1], b[:1])["mcnemar_p"] == 0.25
    assert found["permutation_p"] == 2 / 8  # all seeds on one side


def test_compare_the_other_way_round():
    a, b = right(1, 5, share=0.64), right(2, 5)
    there, back = analysis.compare(a, b), analysis.compare(b, a)
    assert there == analysis.compare(a.astype(float), b.tolist())
    for name in ("difference", "t", "g"):
        assert there[name] == pytest.approx(-back[name])
    for name in ("p", "df", "permutation_p", "mcnemar_p"):
        assert there[name] == pytest.approx(back[name])
    assert (there["low"], there["texts_low"]) == pytest.approx(
        (-back["high"], -back["texts_high"]), abs=0.02
    )


@pytest.mark.parametrize("seeds", [1, 3])
def test_compare_without_spread_over_seeds(seeds):
    found = analysis.compare(right(1, 1, share=0.64).repeat(seeds, 0), right(2, 1).repeat(seeds, 0))
    assert all(math.isnan(found[name]) for name in ("t", "df", "p", "low", "high", "g"))
    assert found["permutation_p"] == pytest.approx(0.25 if seeds == 3 else math.nan, nan_ok=True)
    assert (
        found["texts_low"] < found["difference"] < found["texts_high"]
        and 0 < found["mcnemar_p"] < 1
    )


def test_compare_a_run_with_itself():
    found = analysis.compare(right(1, 4), right(1, 4))
    assert found["p"] == found["permutation_p"] == found["mcnemar_p"] == 1
    assert (
        found["difference"]
        == found["t"]
        == found["g"]
        == found["texts_low"]
        == found["texts_high"]
        == 0
    )


@pytest.mark.parametrize(
    "a, b, found",
    [
        (right(1, 3), right(1, 2), r"found bool \(3, 400\) and bool \(2, 400\)"),
        (right(1, 0), right(1, 0), r"\(0, 400\)"),
        ([1, 0], [1, 0], r"int64 \(2,\)"),
        ([[1]], [[0]], r"\(1, 1\)"),
        ([[0.5, 1]], [[0, 1]], "float64"),
        ([[60, 61]], [[59, 60]], "right .1. or wrong .0."),
        ([[np.nan, 1]], [[0, 1]], "float64"),
    ],
)
def test_compare_refuses(a, b, found):
    with pytest.raises(ValueError, match=f"runs_a, runs_b: .*{found}"):
        analysis.compare(a, b)


def test_holm_by_hand():
    np.testing.assert_allclose(
        analysis.holm([0.03, 0.01, math.nan, 0.04]), [0.06, 0.03, math.nan, 0.06]
    )
    assert list(analysis.holm([0.5, 0.6])) == [1, 1] and list(analysis.holm([])) == []
    assert np.isnan(analysis.holm([math.nan])).all()


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_holm_refuses(p):
    with pytest.raises(ValueError, match=f"p_values: expected 0 to 1, found .*{p}"):
        analysis.holm([0.5, p])
