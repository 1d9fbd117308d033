import math
import warnings

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


def test_scores_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        analysis.scores([0, 1], [0])


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


def test_entropy_of_seeds_is_that_of_each_seed():
    p = np.random.default_rng(0).dirichlet(np.ones(5), (3, 7))
    expected = [analysis.topk_entropy(p[seed], 3) for seed in range(3)]
    np.testing.assert_array_equal(analysis.topk_entropy(p, 3), expected)


def test_entropy_is_of_each_row_and_ignores_the_order_of_classes():
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=7)
    found = analysis.topk_entropy(p, 3)
    np.testing.assert_allclose(analysis.topk_entropy(p[:, [4, 2, 0, 1, 3]], 3), found, rtol=1e-12)
    np.testing.assert_allclose(analysis.topk_entropy(p[2:3], 3), found[2:3], rtol=1e-12)
    assert np.ptp(found) > 0.05


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(value):
    """As of a run that diverged."""
    p = np.full((2, 4, 3), 1 / 3)
    p[1, 2, 0] = value
    with pytest.raises(ValueError, match="probabilities: .* numbers from 0 that sum to 1"):
        analysis.entropy_curve(p, [2])
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="NaN|infinity"):
        analysis.scores([0, 1], [value, 1])
    with pytest.raises(ValueError, match="runs_a, runs_b: expected 0 and 1"):
        analysis.compare([[value, 1]], [[0, 1]])


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


def test_summarise_agrees_with_scipy():
    scores = np.random.default_rng(0).normal(60, 5, size=10)
    found = analysis.summarise(list(scores))
    expected = stats.t.interval(0.95, 9, scores.mean(), stats.sem(scores))
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


def test_entropy_curve_of_uniform_rows():
    found = analysis.entropy_curve(np.full((2, 5, 8), 1 / 8), (1, 2, 8))
    assert list(found) == ["k", "predictions", "mean", "sd", "n", "low", "high"]
    assert list(found.k) == [1, 2, 8] and set(found.predictions) == {"all"} and set(found.n) == {2}
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(found[name], [0, 1, 3], atol=1e-12)


def test_entropy_curve_of_right_and_wrong_predictions():
    p = np.random.default_rng(0).dirichlet(np.ones(4), (3, 40))
    p[0] = np.eye(4)[1] * 0.7 + 0.075  # the first seed is never wrong
    labels = pd.Series(np.ones(40, dtype=int), index=np.arange(40) + 7)
    means = {"all": [], "right": [], "wrong": []}
    for of_seed in p:
        bits = analysis.topk_entropy(of_seed, 3)
        is_right = of_seed.argmax(1) == 1
        for name, members in (("all", is_right | True), ("right", is_right), ("wrong", ~is_right)):
            if members.any():
                means[name].append(bits[members].mean())
    assert len(means["wrong"]) == 2
    found = analysis.entropy_curve(p, [3], labels).set_index("predictions")
    for name, expected in means.items():
        assert found.loc[name].drop("k").to_dict() == pytest.approx(analysis.summarise(expected))
    assert list(analysis.entropy_curve(p[:1], [3], labels).predictions) == ["all", "right"]


def right(seed, seeds, texts=400, share=0.6):
    return np.random.default_rng(seed).random((seeds, texts)) < share


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_compare_agrees_with_scipy(seeds):
    a, b = right(1, seeds, share=0.64), right(2, seeds)
    found = analysis.compare(a, b, n_resamples=1024)  # all 2^10 flips of ten signs
    x, y = 100 * a.mean(1), 100 * b.mean(1)
    welch = stats.ttest_ind(x, y, equal_var=False)
    assert [found[name] for name in ("t", "df", "p")] == pytest.approx(
        [welch.statistic, welch.df, welch.pvalue]
    )
    assert (found["low"], found["high"]) == pytest.approx(tuple(welch.confidence_interval(0.95)))
    assert found["difference"] == pytest.approx(x.mean() - y.mean())
    gains = a.sum(1) - b.sum(1).astype(int)
    signs = np.array(np.meshgrid(*[(-1, 1)] * seeds)).reshape(seeds, -1)
    as_large = abs(signs.T @ gains) >= abs(gains.sum())
    assert found["permutation_p"] == pytest.approx(as_large.mean())
    gains_of_texts = 100 * (a.mean(0) - b.mean(0))
    normal = stats.norm.interval(0.95, gains_of_texts.mean(), gains_of_texts.std() / 20)
    assert (found["texts_low"], found["texts_high"]) == pytest.approx(normal, abs=0.4)


def test_compare_draws_as_many_resamples_as_asked():
    a, b = right(1, 10, share=0.64), right(2, 10)
    many, few = (analysis.compare(a, b, n_resamples=n) for n in (999, 99))
    assert few == analysis.compare(a, b, n_resamples=99)
    drawn = {"permutation_p", "texts_low", "texts_high"}
    assert {name for name in many if many[name] != few[name]} == drawn
    assert few["permutation_p"] * 100 == pytest.approx(round(few["permutation_p"] * 100))


def test_compare_by_hand():
    # seed by seed 3, 2 and 1 texts won and 0, 1 and 0 lost
    a = np.array([[1, 1, 1, 1, 0, 1], [1, 1, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
    b = np.array([[1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    found = analysis.compare(a, b, n_resamples=99)
    assert found["difference"] == pytest.approx(100 * 5 / 18)
    assert found["permutation_p"] == 2 / 8  # all seeds on one side


def test_compare_the_other_way_round():
    a, b = right(1, 5, share=0.64), right(2, 5)
    there = analysis.compare(a, b, n_resamples=99)
    back = analysis.compare(b, a, n_resamples=99)
    assert there == analysis.compare(a.astype(float), b.tolist(), n_resamples=99)
    for name in ("difference", "t"):
        assert there[name] == pytest.approx(-back[name])
    for name in ("p", "df", "permutation_p"):
        assert there[name] == pytest.approx(back[name])
    assert (there["low"], there["texts_low"]) == pytest.approx((-back["high"], -back["texts_high"]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_compare_without_spread_over_seeds(seeds):
    a, b = right(1, 1, share=0.64).repeat(seeds, 0), right(2, 1).repeat(seeds, 0)
    found = analysis.compare(a, b, n_resamples=99)
    assert all(math.isnan(found[name]) for name in ("t", "df", "p", "low", "high"))
    assert found["permutation_p"] == pytest.approx(0.25 if seeds == 3 else math.nan, nan_ok=True)
    assert found["texts_low"] < found["difference"] < found["texts_high"]


def test_compare_a_run_with_itself():
    found = analysis.compare(right(1, 4), right(1, 4), n_resamples=99)
    assert found["p"] == found["permutation_p"] == 1
    for name in ("difference", "t", "texts_low", "texts_high"):
        assert found[name] == 0


@pytest.mark.parametrize(
    "a, b, found",
    [
        (right(1, 3), right(1, 2), r"found bool \(3, 400\) and bool \(2, 400\)"),
        ([1, 0], [1, 0], r"int64 \(2,\)"),
        ([[0.5, 1]], [[0, 1]], "float64"),
        ([[60, 61]], [[59, 60]], "expected 0 and 1"),
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
