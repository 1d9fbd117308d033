"""Notebook 05's own definitions: its search for hard sets, and the paper's tests computed again."""

import time
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_notebooks import ROOT, definitions, read

from lclkit import paper

NOTEBOOK = read(ROOT / "notebooks" / "05_case_study.ipynb")


@pytest.fixture(scope="module")
def nb():
    space = definitions(NOTEBOOK)
    return SimpleNamespace(**{name: x for name, x in space.items() if not name.startswith("__")})


COUNTS = np.array(
    [[9, 4, 0, 1, 0], [5, 9, 1, 0, 2], [0, 0, 9, 3, 3], [1, 0, 3, 9, 3], [0, 0, 2, 3, 9]]
)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_subset_scores_by_loops(nb, size):
    subsets, scores = nb.subset_scores(COUNTS, size)
    assert [tuple(subset) for subset in subsets] == list(combinations(range(5), size))
    for subset, score in zip(subsets, scores, strict=True):
        assert score == sum(COUNTS[i, j] for i in subset for j in subset if i != j)


def test_hardest_subsets_by_hand(nb):
    assert nb.hardest_subsets(COUNTS, 2, size=3) == [((2, 3, 4), 17)]  # no three classes are left
    assert nb.hardest_subsets(COUNTS, 1, size=2) == [((0, 1), 9)]
    expected = [((0, 1), 9), ((2, 3), 6)]  # (3, 4) ties and comes later
    assert nb.hardest_subsets(COUNTS, 4, size=2) == expected


def test_two_unrelated_pairs_beat_four_alike(nb):
    counts = np.zeros((8, 8), dtype=int)
    counts[:4, :4] = 5
    counts[4, 5] = counts[7, 6] = 40
    assert nb.hardest_subsets(counts, 1) == [((4, 5, 6, 7), 80)]


def test_32_choose_4_takes_under_a_second(nb):
    counts = np.random.default_rng(0).integers(0, 9, (32, 32))
    hard = (2, 11, 17, 30)
    counts[np.ix_(hard, hard)] += 9
    start = time.perf_counter()
    subsets, scores = nb.subset_scores(counts)
    hardest = nb.hardest_subsets(counts, 9)
    assert time.perf_counter() - start < 1
    assert len(subsets) == len(scores) == 35_960
    assert hardest[0] == (hard, scores.max())
    chosen = [i for subset, _ in hardest for i in subset]
    assert sorted(chosen) == list(range(32))  # eight sets, no class twice


def test_mean_edge_by_hand(nb):
    # 0 and 1 swap 9 of 14 + 17 texts, 0 and 2 none of 14 + 15, 1 and 2 one of 17 + 15
    assert nb.mean_edge(COUNTS, (0, 1, 2)) == pytest.approx(100 * (9 / 31 + 0 + 1 / 32) / 3)


# The paper's Table 1 and 3 with the t of its sections 5.1 and 5.3; expected: t, its range, Welch's
# and Student's p, and the range of Welch's p at the t it reports.
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
def test_from_summary_of_the_paper(nb, printed, t, expected):
    welch = nb.from_summary(*printed, t=t)
    student = nb.from_summary(*printed, t=t, equal_var=True)
    at_t = (welch["p_at_t_low"], welch["p_at_t_high"])
    found = (welch["t"], welch["t_low"], welch["t_high"], welch["p"], student["p"], *at_t)
    assert [round(x, 2 if i < 3 else 4) for i, x in enumerate(found)] == list(expected)
    assert student["df"] == printed[2] + printed[5] - 2 >= welch["df"]
    assert student["p_at_t"] == pytest.approx(2 * stats.t.sf(t, student["df"]))
    for numbers, equal_var in ((welch, False), (student, True)):
        test = stats.ttest_ind_from_stats(*printed, equal_var=equal_var)
        assert (numbers["t"], numbers["p"]) == pytest.approx((test.statistic, test.pvalue))


@pytest.mark.parametrize("equal_var", [False, True])
@pytest.mark.parametrize(
    "printed",
    [(65.5, 0.2, 5, 65.4, 0.3, 7), (94.5, 0.1, 5, 94.3, 0.2, 5), (58.5, 0.7, 5, 60.1, 0.3, 5)],
)
def test_from_summary_bounds_all_that_round_alike(nb, printed, equal_var):
    numbers = nb.from_summary(*printed, equal_var=equal_var)
    drawn = np.random.default_rng(0).uniform(-0.05, 0.05, (4, 50_000))
    mean_a, sd_a, mean_b, sd_b = drawn + np.array(printed)[[0, 1, 3, 4], None]
    tests = stats.ttest_ind_from_stats(
        mean_a, sd_a, printed[2], mean_b, sd_b, printed[5], equal_var=equal_var
    )
    for name, values, slack in (("t", tests.statistic, 0.6), ("p", tests.pvalue, 0.04)):
        low, high = numbers[f"{name}_low"], numbers[f"{name}_high"]
        assert low <= values.min() < low + slack
        assert high - slack < values.max() <= high
        assert low < numbers[name] < high


def test_from_summary_of_one_sample(nb):
    x = np.array([58.2, 58.7, 58.4, 58.5])
    test = stats.ttest_1samp(x, 58.6)
    numbers = nb.from_summary(x.mean(), x.std(ddof=1), 4, 58.6, 0, 2)
    assert (numbers["t"], numbers["p"], numbers["df"]) == pytest.approx(
        (test.statistic, test.pvalue, 3)
    )
    printed = nb.from_summary(58.5, 0.2, 5, 58.6, 0, 2)
    assert printed["p_low"] == pytest.approx(0.0407, abs=1e-4)
    assert printed["p_high"] == pytest.approx(1)
    assert printed["t_high"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "printed, half", [("= 0.007", 0.0005), (0.007, 0.0005), (0.32, 0.005), (60.1, 0.05)]
)
def test_half_unit(nb, printed, half):
    assert nb.half_unit(printed) == pytest.approx(half)


# Computed with other code from the same printed numbers: t and its range, p of Welch's and of
# Student's test; verdict.
GOLDEN = """
empatheticdialogues lcl>scl  4.70 4.05 5.46  .0043 .0015
empatheticdialogues lcl>ce   6.90 5.83 8.25  .0003 .
empatheticdialogues scl>ce   .52  .    .     .62   .
goemotions lcl>scl           6.00 4.78 7.63  .0010 .0003  only at a corner
goemotions lcl>ce            4.34 3.12 6.14  .0034 .0025  cannot be
goemotions ce>scl            2.24 .    .     .058  .
isear lcl>scl                7.89 6.66 9.43  .0004 .
isear lcl>ce                 7.91 5.69 11.6  <.0001 .
isear ce>scl                 3.74 2.96 4.71  .012  .006
emoint lcl>scl               5.58 4.16 7.67  .0008 .      only at a corner
emoint lcl>ce                2.59 2.21 3.03  .0498 .032
emoint scl>ce                .49  .    .     .65   .
sst5 lcl>scl                 3.89 3.21 4.71  .012  .005
sst5 lcl>ce                  2.57 2.28 2.89  .059  .033
sst5 sentilare>lcl          -1.12 .    .     .33   .
sst2 lcl>scl                 2.00 .77  4.24  .093  .
sst2 lcl>ce                  .71  0    1.75  .51   .
sst2 skep>lcl                -49  .    .     .000001 .
16 lcl>scl                   6.88 5.94 8.01  <.0001 .
16 lcl>ce                    3.95 3.11 4.99  .0010 .
8 lcl>scl                    6.01 5.26 6.88  <.0001 .
8 lcl>ce                     3.07 2.40 3.88  .0075 .
4-easy lcl>scl               0    .    .     1.0   .
4-easy ce>lcl                1.89 .    .     .08   .      only at a corner
4-easy ce>scl                2.17 .    .     .047  .      only at a corner
4-hard-a lcl>scl             7.72 .    .     <.001 .
4-hard-a lcl>ce              5.15 .    .     .0001 .
4-hard-b lcl>scl             1.21 .    .     .24   .
4-hard-b lcl>ce              2.77 .    .     .013  .
4-hard-c lcl>scl             7.27 .    .     <.001 .
4-hard-c lcl>ce              3.53 .    .     .003  .
4-hard-d lcl>scl             5.15 .    .     .0001 .
4-hard-d lcl>ce              8.50 .    .     <.0001 .
"""


def same(value, typed):
    """Whether a value rounds to the typed one, or is below it (<); "." says nothing."""
    if typed[0] == "<":
        return value < float(typed[1:])
    return typed == "." or abs(value - float(typed)) <= 0.5001 / 10 ** len(typed.partition(".")[2])


@pytest.mark.parametrize(
    "line, test", list(zip(GOLDEN.strip().splitlines(), paper.TESTS, strict=True))
)
def test_printed_statistics(nb, line, test):
    where, pair, *numbers = line.split(maxsplit=7)
    assert (where, pair) == (test.classes or test.dataset, f"{test.better}>{test.worse}")
    verdict = numbers.pop() if len(numbers) > 5 else "consistent"
    row = nb.printed_test(test)
    for name, typed in zip(("t", "t_low", "t_high", "p", "student_p"), numbers, strict=True):
        assert same(row.get(name), typed), (name, row[name], typed)
    assert (row["verdict"], row["n"]) == (verdict, 10 if test.classes else 5)
    assert (row["reported_t"], row["reported_p"]) == (test.t, f"{test.relation} {test.p}")
    quoted = test.better in ("sentilare", "skep")
    assert (row["t"] >= 0) != quoted
    assert ("student_p" in row) != quoted


def test_28_are_consistent_4_only_at_a_corner_1_cannot_be(nb):
    verdicts = pd.Series([nb.printed_test(test)["verdict"] for test in paper.TESTS])
    assert verdicts.value_counts().to_dict() == {
        "consistent": 28,
        "only at a corner": 4,
        "cannot be": 1,
    }


@pytest.mark.parametrize(
    "changes, verdict",
    [
        ({"p": 0.004}, "cannot be"),
        ({"p": 0.006}, "consistent"),
        ({"p": 0.009}, "consistent"),
        ({"p": 0.01}, "consistent"),
        ({"p": 0.02}, "cannot be"),
        ({"p": 0.005, "relation": "<"}, "cannot be"),
        ({"p": 0.006, "relation": "<"}, "only at a corner"),
        ({"p": 0.008, "relation": "<"}, "consistent"),
        ({"p": 0.006, "relation": ">"}, "consistent"),
        ({"p": 0.008, "relation": ">"}, "only at a corner"),
        ({"p": 0.02, "relation": ">"}, "cannot be"),
        ({"t": 5.5, "p": 0.003}, "cannot be"),
        ({"t": None, "p": 0.002}, "consistent"),
        ({"t": None, "p": 0.001}, "cannot be"),
    ],
)
def test_verdict(nb, changes, verdict):
    # t = 4.20, where p is .0071, or .0054 to .0090; t is 4.05 to 5.46 and p .0020 to .0086
    test = paper.TESTS[0]
    assert nb.printed_test(test._replace(**changes))["verdict"] == verdict
