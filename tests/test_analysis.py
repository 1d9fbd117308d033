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
