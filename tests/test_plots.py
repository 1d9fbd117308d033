"""The figures: numbers are drawn as given, labels stay apart, files say where they are from."""

import base64
import io
import json
import warnings
from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from nbconvert import HTMLExporter
from nbformat import v4
from test_notebooks import ROOT, definitions, read

from lclkit import analysis, plots

matplotlib.use("agg")
QUICKSTART = definitions(read(ROOT / "notebooks" / "00_quickstart.ipynb"))


@pytest.fixture(autouse=True)
def strict_and_closed():
    plots.use_style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def texts(labels):
    return [label.get_text() for label in labels]


def test_save_figure(tmp_path):
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    numbers = pd.DataFrame({"loss": ["ce", "lcl"], "mean": [1 / 3, 2]})
    folder = tmp_path / "figures"
    plots.save_figure(figure, "made", "A line.", numbers, folder, notebook="00", runs=["a", "b"])
    assert {file.suffix for file in folder.iterdir()} == {".png", ".svg", ".csv", ".json"}
    assert "<svg" in (folder / "made.svg").read_text()
    pixels = plt.imread(folder / "made.png")
    assert pixels.shape[0] > 100 and np.ptp(pixels[..., :3]) > 0.5
    assert (folder / "made.csv").read_text().split() == ["loss,mean", "ce,0.333333", "lcl,2"]
    origin = json.loads((folder / "made.json").read_text())
    made_by = {name: origin[name] for name in ("figure", "alt", "notebook", "runs")}
    assert made_by == {"figure": "made", "alt": "A line.", "notebook": "00", "runs": ["a", "b"]}
    assert {"versions", "git_commit", "finished"} < set(origin) and "torch" in origin["versions"]


def test_save_figure_writes_over_an_older_one(tmp_path):
    for value in (1, 2):
        plots.save_figure(plt.figure(), "made", "", pd.DataFrame({"value": [value]}), tmp_path)
    assert (tmp_path / "made.csv").read_text().split() == ["value", "2"]
    assert len(list(tmp_path.iterdir())) == 4


def test_save_figure_shows_it_once_with_its_words_and_sharp(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", shown.append)
    figure = plt.figure(figsize=(4, 3))
    plots.save_figure(figure, "made", "Nothing.", pd.DataFrame(), tmp_path)
    (image,) = shown
    metadata = image._repr_mimebundle_()[1][
        "image/png"
    ]  # no argument alt: Colab's IPython has none
    assert metadata["alt"] == "Nothing."
    assert metadata["width"] == pytest.approx(plt.imread(tmp_path / "made.png").shape[1] / 2, abs=1)
    assert not plt.get_fignums()


@pytest.mark.parametrize("seeds", [1, 3])
def test_scores_of_notebook_00(seeds):
    bases = {"ce": 60, "scl": 62, "lcl": 65}
    runs = pd.DataFrame(
        [
            {"loss": loss, "seed": seed, "accuracy": base + seed**2}
            for seed in range(seeds)
            for loss, base in bases.items()
        ]
    )
    figure, numbers = QUICKSTART["draw_scores"](runs)
    figure.canvas.draw()
    axis = figure.axes[0]
    assert texts(axis.get_xticklabels()) == ["CE", "SCL", "LCL"]
    dots = [dots.get_offsets() for dots in axis.collections]
    drawn = [np.sort(part[:, 1]).tolist() for part in dots if len(part)]
    ends = [line.get_ydata() for line in axis.lines]
    heights = {float(end) for line in ends for end in line if np.isfinite(end)}
    for (loss, base), row, heard in zip(
        bases.items(), numbers.to_dict("records"), drawn, strict=True
    ):
        accuracy = [base + seed**2 for seed in range(seeds)]
        assert heard == accuracy
        expected = {"loss": loss, **analysis.summarise(accuracy)}
        assert row == pytest.approx(expected, nan_ok=True)
        bars = [row["mean"]] if seeds == 1 else [row["mean"], row["low"], row["high"]]
        assert all(min(abs(height - bar) for height in heights) < 1e-9 for bar in bars)


@pytest.mark.parametrize("classes, losses", [(2, ["lcl"]), (13, ["ce", "scl", "lcl"])])
def test_confusions(classes, losses):
    rng = np.random.default_rng(0)
    counts = {loss: rng.integers(0, 20, (classes, classes)) for loss in losses}
    counts[losses[0]][1] = 0  # a class without texts
    names = tuple(f"class {i}" for i in range(classes))
    figure, numbers = plots.confusions(counts, names)
    figure.canvas.draw()
    assert len(numbers) == len(losses) * classes**2
    assert list(numbers) == ["loss", "true", "predicted", "percent"]
    panels = figure.axes[: len(losses)]
    shown = texts(panels[0].get_yticklabels())
    assert sorted(shown) == sorted(names)
    for panel, (loss, some) in zip(panels, counts.items(), strict=True):
        assert panel.get_title() == loss.upper() and texts(panel.get_xticklabels()) == shown
        table = numbers[numbers.loss == loss]
        table = table.pivot(index="true", columns="predicted", values="percent")
        expected = 100 * some / np.maximum(1, some.sum(1, keepdims=True))
        np.testing.assert_allclose(table.loc[list(names), list(names)], expected)
        squares = panel.collections[0].get_array().reshape(classes, classes)
        np.testing.assert_allclose(squares, table.loc[shown, shown])


ODD = [
    "$0-$50",
    "$100^$200_x",
    "cost_$^$",
    "\\frac{",
    "a_b^c",
    "\\$5",
    "100 %",
    "Straße",
    "a\nb",
    "%s {0}",
]


@pytest.mark.parametrize("classes", [ODD, ["$", "$$"], ["x" * 10_000, "wört " * 500]])
def test_names_of_classes_are_drawn_as_they_are(tmp_path, classes):
    """A dollar is no mathematics, and a name that is too long for a figure is cut in it alone."""
    figure, numbers = plots.confusions({"lcl": np.eye(len(classes))}, tuple(classes))
    plots.save_figure(figure, "made", "", numbers, tmp_path)
    assert max(plt.imread(tmp_path / "made.png").shape) < 2000
    table = pd.read_csv(tmp_path / "made.csv", keep_default_na=False)
    assert set(table.true) == set(table.predicted) == set(classes)
    shown = figure.axes[0].get_xticklabels() + figure.axes[0].get_yticklabels()
    assert all(len(label.get_text()) <= 41 for label in shown)


@pytest.mark.parametrize("name", ODD)
def test_a_label_looks_like_its_name(name):
    def pixels(text, **options):
        figure = plt.figure()
        figure.text(0.1, 0.5, text, **options)
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())

    np.testing.assert_array_equal(pixels(plots.label(name)), pixels(name, parse_math=False))


@pytest.mark.parametrize("classes, n_losses", [(2, 3), (12, 3), (13, 1), (32, 3)])
def test_labels_of_confusions_stay_apart(classes, n_losses):
    counts = dict.fromkeys(["ce", "scl", "lcl"][:n_losses], np.eye(classes, dtype=int))
    figure, _ = plots.confusions(counts, tuple(f"disappointment {i}" for i in range(classes)))
    figure.canvas.draw()
    for panel in figure.axes[:n_losses]:
        boxes = [label.get_window_extent() for label in panel.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        boxes = [label.get_window_extent() for label in panel.get_yticklabels()]
        assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


def test_confusions_put_confused_classes_together():
    counts = np.array([[6, 0, 4, 0], [0, 7, 0, 3], [4, 0, 6, 0], [0, 3, 1, 6]])
    figure, _ = plots.confusions({"lcl": counts}, tuple("abcd"))
    shown = "".join(texts(figure.axes[0].get_xticklabels()))
    assert {frozenset(shown[:2]), frozenset(shown[2:])} == {frozenset("ac"), frozenset("bd")}


@pytest.mark.parametrize("classes, seeds, panels", [(2, 1, ""), (25, 3, "predictions")])
def test_entropy_curves(classes, seeds, panels):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % classes if panels else None
    ks = list(range(1, classes + 1))
    curves = []
    for loss in ("scl", "lcl"):
        p = rng.dirichlet(np.ones(classes), (seeds, 40))
        curves.append(analysis.entropy_curve(p, ks, labels).assign(loss=loss))
    curves = pd.concat(curves)
    figure = plots.entropy_curves(curves, panels)
    for kind in ("png", "svg"):  # these two draw a band's edge in ways of their own
        figure.savefig(io.BytesIO(), format=kind)
    titles = ["all", "right", "wrong"] if panels else [""]
    assert [axis.get_title() for axis in figure.axes] == titles
    assert texts(figure.legends[0].get_texts()) == ["SCL", "LCL"]
    for axis in figure.axes:
        part = curves[curves.predictions == (axis.get_title() or "all")]
        by_loss = part.groupby("loss", sort=False)
        drawn = axis.get_lines()
        of_loss = [drawn[i : i + 3] for i in range(0, len(drawn), 3)]
        for lines, (loss, rows) in zip(of_loss, by_loss, strict=True):
            for line, column in zip(lines, ("mean", "low", "high"), strict=True):
                look = plots.STYLES[loss]
                assert (line.get_color(), line.get_linestyle()) == (
                    look["color"],
                    look["linestyle"],
                )
                assert list(line.get_xdata()) == ks
                assert list(line.get_ydata()) == pytest.approx(list(rows[column]), nan_ok=True)
        bands = [band.get_paths() for band in axis.collections]
        tops = [paths[0].vertices[:, 1].max() for paths in bands if paths]
        assert tops == pytest.approx([] if seeds == 1 else list(by_loss.high.max()))


def test_the_legend_of_entropy_curves_names_a_loss_that_one_panel_lacks():
    curve = pd.DataFrame({"k": [1, 2], "mean": [0, 1.0], "low": [0, 0.9], "high": [0, 1.1]})
    parts = [("a", "ce"), ("a", "lcl"), ("b", "scl")]
    curves = pd.concat([curve.assign(place=place, loss=loss) for place, loss in parts])
    figure = plots.entropy_curves(curves, "place")
    assert texts(figure.legends[0].get_texts()) == ["CE", "LCL", "SCL"]


def test_a_page_has_the_words_of_a_picture_and_folds_the_checks(tmp_path):
    """By the template and nbconvert alone."""
    png = base64.b64encode(b"a picture").decode()
    shown = v4.new_output(
        "display_data", {"image/png": png}, metadata={"image/png": {"alt": '"a" < b'}}
    )
    cells = [v4.new_code_cell("1", outputs=[shown]), v4.new_code_cell("secret = 1")]
    cells[1].metadata["jupyter"] = {"source_hidden": True}
    template = ROOT / "lclkit" / "page.html.j2"
    page, _ = HTMLExporter(template_file=str(template)).from_notebook_node(
        v4.new_notebook(cells=cells)
    )
    assert 'alt="&#34;a&#34; &lt; b"' in page or "alt='\"a\" &lt; b'" in page
    before, folded = page.split("<details>")
    assert "secret" in folded.split("</details>")[0] and "secret" not in before.split("<body")[1]
