"""The printed numbers: copied without a slip (sums done by hand), and what the printed statistics can be."""

import pandas as pd
import pytest

from lclkit import analysis, paper

RESULTS = pd.DataFrame(paper.RESULTS)
KEY = ["table", "dataset", "classes", "model", "metric", "split"]


def test_every_number_has_its_place():
    assert not RESULTS.duplicated(KEY).any()
    assert {*RESULTS.dataset} == {*paper.MINUTES} == {*paper.SIZES}
    assert {*RESULTS.classes} == {"", *paper.SUBSETS} - {"4-hard-d-joyful"}
    assert RESULTS.groupby(["table", "split", "metric"]).size().to_dict() == {
        ("1", "test", "accuracy"): 16,
        ("1", "test", "f1"): 16,
        ("2", "test", "accuracy"): 15,
        ("3", "test", "accuracy"): 24,
        ("4", "valid", "accuracy"): 6,
        ("5", "valid", "accuracy"): 12,
        ("5", "valid", "f1"): 12,
    }
    quoted = RESULTS.sd.isna()
    assert RESULTS[quoted].groupby("table").size().to_dict() == {
        "2": 9
    } and RESULTS.n.isna().equals(quoted)
    assert RESULTS[~quoted].groupby("table").n.unique().map(list).to_dict() == {
        "1": [5],
        "2": [5],
        "3": [10],
        "4": [5],
        "5": [5],
    }
    for text, section in paper.CLAIMS.values():
        assert len(text) > 40 and section in ("5.1", "5.2", "5.3", "5.4")


@pytest.mark.parametrize(
    "table, dataset, metric, means, sds",
    [  # of a column of the printed table
        ("1", "empatheticdialogues", "accuracy", 232.7, 2.3),
        ("1", "empatheticdialogues", "f1", 227.3, 2.9),
        ("1", "goemotions", "accuracy", 258.7, 1.4),
        ("1", "goemotions", "f1", 254.7, 1.9),
        ("1", "isear", "accuracy", 283.5, 1.2),
        ("1", "isear", "f1", 283.6, 1.1),
        ("1", "emoint", "accuracy", 342.8, 2.0),
        ("1", "emoint", "f1", 342.9, 2.0),
        ("2", "sst5", "accuracy", 398.8, 2.0),
        ("2", "sst2", "accuracy", 756.3, 0.6),
        ("3", "", "accuracy", 176.8, 1.4),
        ("3", "16", "accuracy", 206.3, 1.5),
        ("3", "8", "accuracy", 233.7, 1.8),
        ("3", "4-easy", "accuracy", 266.8, 1.4),
        ("3", "4-hard-a", "accuracy", 169.0, 1.7),
        ("3", "4-hard-b", "accuracy", 191.1, 2.7),
        ("3", "4-hard-c", "accuracy", 163.2, 2.4),
        ("3", "4-hard-d", "accuracy", 205.0, 1.8),
        ("4", "sst2", "accuracy", 283.4, 0.7),
        ("4", "sst5", "accuracy", 163.2, 2.7),
        ("5", "empatheticdialogues", "accuracy", 178.2, 1.3),
        ("5", "empatheticdialogues", "f1", 175.6, 1.6),
        ("5", "goemotions", "accuracy", 197.1, 0.7),
        ("5", "goemotions", "f1", 194.3, 0.8),
        ("5", "isear", "accuracy", 216.5, 1.3),
        ("5", "isear", "f1", 216.5, 1.3),
        ("5", "emoint", "accuracy", 263.8, 2.3),
        ("5", "emoint", "f1", 263.9, 2.3),
    ],
)
def test_sums_of_columns(table, dataset, metric, means, sds):
    column = "classes" if table == "3" else "dataset"
    some = RESULTS[
        (RESULTS.table == table) & (RESULTS[column] == dataset) & (RESULTS.metric == metric)
    ]
    assert (some["mean"].sum(), some.sd.sum()) == pytest.approx((means, sds), abs=0.01)


def test_the_same_32_classes_twice():
    both = RESULTS[
        (RESULTS.dataset == "empatheticdialogues")
        & (RESULTS.classes == "")
        & (RESULTS.metric == "accuracy")
        & (RESULTS.split == "test")
    ].pivot(index="model", columns="table", values=["mean", "sd"])
    differ = (
        (both.xs("3", axis=1, level=1) - both.xs("1", axis=1, level=1))
        .loc[["ce", "scl", "lcl"]]
        .round(1)
    )
    assert differ.values.tolist() == [[-0.2, 0.2], [0.1, -0.2], [0, -0.1]]


# Computed with other code from the same printed numbers: t and its range, p of Welch's and of Student's test; verdict.
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
    "line, test", [*zip(GOLDEN.strip().splitlines(), paper.TESTS, strict=True)]
)
def test_printed_statistics(line, test):
    where, pair, *numbers = line.split(maxsplit=7)
    assert (where, pair) == (test.classes or test.dataset, f"{test.better}>{test.worse}")
    verdict = numbers.pop() if len(numbers) > 5 else "consistent"
    row = analysis.printed_test(test)
    for name, typed in zip(("t", "t_low", "t_high", "p", "student_p"), numbers, strict=True):
        assert same(row.get(name), typed), (name, row[name], typed)
    assert (row["verdict"], row["n"]) == (verdict, 10 if test.classes else 5)
    assert (row["reported_t"], row["reported_p"]) == (test.t, f"{test.relation} {test.p}")
    quoted = test.better in ("sentilare", "skep")
    assert (row["t"] >= 0) != quoted and ("student_p" in row) != quoted


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
def test_verdict(changes, verdict):
    test = paper.TESTS[
        0
    ]  # t = 4.20, where p is .0071, or .0054 to .0090; t is 4.05 to 5.46 and p .0020 to .0086
    assert analysis.printed_test(test._replace(**changes))["verdict"] == verdict
