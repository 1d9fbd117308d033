import json
import math
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lclkit import analysis, plots

matplotlib.use("agg")

@pytest.fixture(autouse=True)
def strict_and_closed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def rows(*some):
    return np.array(some, dtype=float)


def test_scores_by_hand():
    # class 0: precision 1/2, recall 1; class 1: 1, 2/3; class 2 is never predicted
    assert analysis.scores([0, 1, 1, 1, 2], [0, 1, 1, 0, 0]) == {
        "accuracy": 60, "f1": round(100 * (.5 + 3 * .8) / 5, 4), "macro_f1": round(100 * (.5 + .8) / 3, 4)}


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
    np.testing.assert_allclose(analysis.topk_entropy(rows([.25, .5, .25]), 2), expected, rtol=1e-12)
    np.testing.assert_allclose(analysis.topk_entropy(rows([.25, .5, .25]), 3), 1.5, rtol=1e-12)


def test_entropy_of_one_hot_is_0():
    np.testing.assert_array_equal(analysis.topk_entropy(rows([0, 1, 0], [1, 0, 0]), 3), 0)


def test_entropy_is_of_each_row_and_ignores_the_order_of_classes():
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=7)
    found = analysis.topk_entropy(p, 3)
    np.testing.assert_allclose(analysis.topk_entropy(p[:, [4, 2, 0, 1, 3]], 3), found, rtol=1e-12)
    np.testing.assert_allclose(analysis.topk_entropy(p[2:3], 3), found[2:3], rtol=1e-12)
    assert np.ptp(found) > .05


@pytest.mark.parametrize("p, k, message", [
    (rows([.5, .5]), 0, "k: expected 1"),
    (rows([.5, .5]), 3, "found 3"),
    (np.array([.5, .5]), 1, r"\(N, C\) rows"),
    (rows([.5, .6]), 1, "sum to 1"),
    (rows([.5, .5], [1.5, -.5]), 1, "sum to 1"),
    (rows([.5, float("nan")]), 1, "sum to 1"),
])
def test_entropy_refuses(p, k, message):
    with pytest.raises(ValueError, match=message):
        analysis.topk_entropy(p, k)


def test_summarise_by_hand():
    found = analysis.summarise([70, 72, 77])
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(73) and found["sd"] == pytest.approx(math.sqrt(13))
    half = 4.302652729749464 * math.sqrt(13 / 3)            # t of 2 degrees of freedom, 97.5 %
    assert (found["low"], found["high"]) == pytest.approx((73 - half, 73 + half))


@pytest.mark.parametrize("level", [.5, .95])
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
@pytest.mark.parametrize("printed, t, expected", [
    ((60.1, .3, 5, 58.5, .7, 5), 4.20, (4.70, 4.05, 5.46, .0043, .0015, .0054, .0090)),
    ((65.5, .2, 5, 64.3, .4, 5), 5.70, (6.00, 4.78, 7.63, .0010, .0003, .0006, .0025)),
    ((65.5, .2, 5, 64.8, .3, 5), 4.32, (4.34, 3.12, 6.14, .0034, .0025, .0025, .0063)),
    ((86.6, .3, 5, 85.5, .9, 5), 2.25, (2.59, 2.21, 3.03, .0498, .0320, .0706, .0800)),
    ((78.7, .4, 10, 78.0, .6, 10), 3.16, (3.07, 2.40, 3.88, .0075, .0066, .0056, .0071)),
])
def test_from_summary_of_the_paper(printed, t, expected):
    found = analysis.from_summary(*printed, t=t)
    names = ("t", "t_low", "t_high", "p", "student_p", "p_at_t_low", "p_at_t_high")
    assert [round(found[name], 2 if name[0] == "t" else 4) for name in names] == list(expected)
    assert found["student_df"] == printed[2] + printed[5] - 2 >= found["df"]
    assert found["student_p_at_t"] == pytest.approx(2 * stats.t.sf(t, found["student_df"]))
    for prefix, equal in (("", False), ("student_", True)):
        whole = stats.ttest_ind_from_stats(*printed, equal_var=equal)
        assert (found[prefix + "t"], found[prefix + "p"]) == pytest.approx((whole.statistic, whole.pvalue))


@pytest.mark.parametrize("decimals, printed", [(1, (65.5, .2, 5, 65.4, .3, 7)), (2, (.31, .02, 4, .28, .05, 3))])
def test_from_summary_bounds_all_that_round_alike(decimals, printed):
    found = analysis.from_summary(*printed, decimals=decimals)
    half = .5 / 10 ** decimals
    means = np.random.default_rng(0).uniform(-half, half, (4, 50_000)) + np.array(printed)[[0, 1, 3, 4], None]
    near = stats.ttest_ind_from_stats(means[0], means[1], printed[2], means[2], means[3], printed[5], equal_var=False)
    for name, values, slack in (("t", near[0], .5), ("p", near[1], .02)):
        assert found[f"{name}_low"] <= values.min() < found[f"{name}_low"] + slack
        assert found[f"{name}_high"] - slack < values.max() <= found[f"{name}_high"]
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_from_summary_of_one_sample():
    x = np.array([58.2, 58.7, 58.4, 58.5])
    whole = stats.ttest_1samp(x, 58.6)
    found = analysis.from_summary(x.mean(), x.std(ddof=1), 4, 58.6)
    assert (found["t"], found["p"], found["df"]) == pytest.approx((whole.statistic, whole.pvalue, 3))
    assert not [name for name in found if "student" in name or "at_t" in name]
    paper = analysis.from_summary(58.5, .2, 5, 58.6)
    assert paper["p_low"] == pytest.approx(.0407, abs=1e-4) and paper["p_high"] == pytest.approx(1)
    assert paper["t_high"] == pytest.approx(0, abs=1e-12)


def test_from_summary_without_spread():
    found = analysis.from_summary(2, 0, 5, 1, 0, 5)
    assert found["t"] == found["t_high"] == math.inf and found["p"] == 0 < found["p_high"] < 1e-4


@pytest.mark.parametrize("printed, message", [
    ((1, -.1, 5, 1, .1, 5), "sd_a, n_a: expected an SD from 0 and n from 2, found -0.1 and 5"),
    ((1, .1, 1, 1, .1, 5), "sd_a, n_a: .* found 0.1 and 1"),
    ((1, None, 5, 1, .1, 5), "sd_a, n_a: .* found None"),
    ((1, .1, 5, 1, .1), "sd_b, n_b: .* found 0.1 and None"),
    ((1, .1, 5, 1, float("nan"), 5), "sd_b, .* found nan"),
])
def test_from_summary_refuses(printed, message):
    with pytest.raises(ValueError, match=message):
        analysis.from_summary(*printed)


def test_save_figure(tmp_path):
    plots.use_style()
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    numbers = pd.DataFrame({"loss": ["ce", "lcl"], "mean": [1 / 3, 2]})
    plots.save_figure(figure, "made", numbers, tmp_path / "figures", notebook="00", runs=["a", "b"])
    folder = tmp_path / "figures"
    assert {file.name for file in folder.iterdir()} == {"made.png", "made.csv", "made.json"}
    pixels = plt.imread(folder / "made.png")
    assert pixels.shape[0] > 100 and np.ptp(pixels[..., :3]) > .5
    assert (folder / "made.csv").read_text().split() == ["loss,mean", "ce,0.333333", "lcl,2"]
    origin = json.loads((folder / "made.json").read_text())
    assert origin["figure"] == "made" and origin["notebook"] == "00" and origin["runs"] == ["a", "b"]
    assert {"versions", "git_commit", "finished"} < set(origin) and "torch" in origin["versions"]


def test_save_figure_writes_over_an_older_one(tmp_path):
    for value in (1, 2):
        plots.save_figure(plt.figure(), "made", pd.DataFrame({"value": [value]}), tmp_path)
    assert (tmp_path / "made.csv").read_text().split() == ["value", "2"]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("seeds", [1, 3])
def test_scores(seeds):
    plots.use_style()
    runs = pd.DataFrame([{"loss": loss, "seed": seed, "accuracy": base + seed ** 2}
                         for loss, base in (("ce", 60), ("scl", 62), ("lcl", 65)) for seed in range(seeds)])
    figure, numbers = plots.scores(runs)
    figure.canvas.draw()
    assert list(numbers.loss) == ["ce", "scl", "lcl"]
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["CE", "SCL", "LCL"]
    marks = [c.get_offsets() for c in axis.collections if len(c.get_offsets()) == seeds and "Path" in type(c).__name__]
    for place, (row, dots) in enumerate(zip(numbers.to_dict("records"), marks, strict=True)):
        accuracy = list(runs.accuracy[runs.loss == row["loss"]])
        assert {name: row[name] for name in ("mean", "sd", "n", "low", "high")} == pytest.approx(
            analysis.summarise(accuracy), nan_ok=True)
        assert list(dots[:, 1]) == accuracy and abs(dots[:, 0] - place).max() < .2
    means = [container.lines[0].get_ydata()[0] for container in axis.containers]
    assert means == pytest.approx(list(numbers["mean"]))
    bars = [container.lines[2][0].get_segments()[0][:, 1] for container in axis.containers]
    half = 0 if seeds == 1 else numbers.high - numbers["mean"]
    assert [np.ptp(bar) / 2 for bar in bars] == pytest.approx(list(half + np.zeros(3)))


@pytest.mark.parametrize("classes", [2, 4, 25])
@pytest.mark.parametrize("losses", [("lcl",), ("ce", "scl", "lcl")])
def test_confusions(classes, losses):
    plots.use_style()
    rng = np.random.default_rng(0)
    counts = {loss: rng.integers(0, 20, (classes, classes)) for loss in losses}
    counts[losses[0]][1] = 0                        # a class without texts
    names = tuple(f"class {i}" for i in range(classes))
    figure, numbers = plots.confusions(counts, names)
    figure.canvas.draw()
    assert len(numbers) == len(losses) * classes ** 2 and list(numbers) == ["loss", "true", "predicted", "percent"]
    panels = figure.axes[:len(losses)]
    shown = [label.get_text() for label in panels[0].get_xticklabels()]
    assert sorted(shown) == sorted(names) and [label.get_text() for label in panels[0].get_yticklabels()] == shown
    for panel, (loss, some) in zip(panels, counts.items(), strict=True):
        assert panel.get_title() == loss.upper()
        table = numbers[numbers.loss == loss].pivot(index="true", columns="predicted", values="percent")
        expected = 100 * some / np.maximum(1, some.sum(1, keepdims=True))
        np.testing.assert_allclose(table.loc[list(names), list(names)], expected)
        np.testing.assert_allclose(panel.images[0].get_array(), table.loc[shown, shown])


def test_confusions_put_confused_classes_together():
    counts = np.array([[6, 0, 4, 0], [0, 7, 0, 3], [4, 0, 6, 0], [0, 3, 1, 6]])
    figure, _ = plots.confusions({"lcl": counts}, tuple("abcd"))
    shown = "".join(label.get_text() for label in figure.axes[0].get_xticklabels())
    assert {frozenset(shown[:2]), frozenset(shown[2:])} == {frozenset("ac"), frozenset("bd")}


@pytest.mark.parametrize("classes", [2, 25])
@pytest.mark.parametrize("seeds", [1, 3])
def test_entropy_curves(classes, seeds):
    plots.use_style()
    runs = pd.DataFrame([{"loss": loss, "seed": seed, "k": k, "entropy": math.log2(k) / (2 + seed + (loss == "lcl"))}
                         for loss in ("scl", "lcl") for seed in range(seeds) for k in range(1, classes + 1)])
    figure, numbers = plots.entropy_curves(runs)
    figure.canvas.draw()
    assert list(numbers.loss) == ["scl"] * classes + ["lcl"] * classes
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert set(lines) == {"SCL", "LCL"}
    for (loss, k), some in runs.groupby(["loss", "k"]).entropy:
        row = numbers[(numbers.loss == loss) & (numbers.k == k)].iloc[0]
        assert (row["mean"], row["min"], row["max"]) == pytest.approx((some.mean(), some.min(), some.max()))
        line = lines[loss.upper()]
        assert line.get_ydata()[list(line.get_xdata()).index(k)] == pytest.approx(some.mean())
