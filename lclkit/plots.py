"""The figures of more than one notebook; `save_figure` keeps picture, data and origin."""

import json
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image, display
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.cluster import hierarchy

from lclkit import files

_LOOKS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
STYLES = _LOOKS["losses"]  # colour, marker and line of each


def use_style() -> None:
    """The kit's look, for all figures that follow."""
    sns.set_theme(style="ticks", rc=_LOOKS["figures"])


def save_figure(figure: Figure, name: str, alt: str, numbers: pd.DataFrame, folder: Path, **origin):
    """Show a figure; write `name`.png and .svg, its data .csv, its origin .json, each whole.

    alt: what it shows, for who cannot see it: what is drawn, and what comes out. origin: what made
    it (notebook, parameters, runs); versions, commit, time are added. Closes the figure.
    """
    about = {"figure": name, "alt": alt, **origin, **files.provenance()}
    for kind, metadata in {"png": {}, "svg": {"Date": None}}.items():
        with files.whole(folder / f"{name}.{kind}") as file:
            figure.savefig(file, format=kind, metadata=metadata)
    with files.whole(folder / f"{name}.csv") as file:
        numbers.to_csv(file, index=False, float_format="%.6g")
    with files.whole(folder / f"{name}.json") as file:
        file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    plt.close(figure)  # else Jupyter shows it once more, without alt
    display(Image(filename=folder / f"{name}.png", retina=True, metadata={"alt": alt}))


def label(name: str) -> str:
    """A name as a figure can show it: a dollar is no mathematics, and what is long is cut."""
    return (name if len(name) <= 40 else f"{name[:39]}…").replace("$", r"\$")


def confusions(counts: dict, classes: tuple[str, ...]) -> tuple[Figure, pd.DataFrame]:
    """Confusion matrices side by side; rows in percent of the true class.

    counts: loss -> matrix ``(C, C)``. Classes that the first matrix confuses stand together.
    Returns the figure and its numbers: loss, true, predicted, percent.
    """
    shares = {loss: 100 * c / np.maximum(1, c.sum(1, keepdims=True)) for loss, c in counts.items()}
    first = next(iter(shares.values()))
    apart = 100 - (first + first.T)[np.triu_indices(len(first), 1)] / 2  # each two classes
    order = hierarchy.leaves_list(hierarchy.linkage(apart, "average", optimal_ordering=True))
    labels = [label(classes[index]) for index in order]
    size = 2.4 + 0.2 * len(classes) + 0.1 * max(0, *(len(name) - 16 for name in labels))  # inches
    figure, axes = plt.subplots(1, len(shares), figsize=(size * len(shares), size), squeeze=False)
    look = {"norm": PowerNorm(0.5, 0, 100), "xticklabels": labels, **_LOOKS["confusions"]}
    tables = {}
    for axis, (loss, share) in zip(axes[0], shares.items(), strict=True):
        tables[loss] = pd.DataFrame(share, classes, classes).iloc[order, order]
        left = labels if axis is axes[0, 0] else False
        sns.heatmap(tables[loss], ax=axis, yticklabels=left, **look)
        axis.set(title=loss.upper(), xlabel="predicted")
        for side, rotation in (("x", 90), ("y", 0)):
            axis.tick_params(side, rotation=rotation, labelsize=10)
    axes[0, 0].set_ylabel("true")
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label="% of the true class", shrink=0.7)
    rows = pd.concat(tables, names=["loss", "true"])
    rows = rows.melt(var_name="predicted", value_name="percent", ignore_index=False)
    return figure, rows.reset_index()


def entropy_curves(curves: pd.DataFrame, panels: str = "") -> Figure:
    """Mean top-k entropy against k (Figure 2 of the paper), with its interval over seeds.

    curves: `loss` and what `analysis.entropy_curve` gives. panels: a column, a panel a value.
    """
    parts = list(curves.groupby(panels, sort=False)) if panels else [("", curves)]
    width = 2.5 + 4.5 * len(parts)
    figure, axes = plt.subplots(1, len(parts), figsize=(width, 3.8), sharey=True, squeeze=False)
    lines = {}
    for axis, (title, part) in zip(axes[0], parts, strict=True):
        for loss, rows in part.groupby("loss", sort=False):
            (lines[loss.upper()],) = axis.plot(rows.k, rows["mean"], markersize=5, **STYLES[loss])
            look = {name: STYLES[loss][name] for name in ("color", "linestyle")}
            axis.plot(rows.k, rows[["low", "high"]], linewidth=0.8, **look)  # for grey print
            axis.fill_between(rows.k, rows.low, rows.high, color=look["color"], **_LOOKS["band"])
        axis.set(title=title, xlabel="k, the number of classes looked at")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("mean entropy (bits)")
    figure.legend(lines.values(), lines, **_LOOKS["legend"])
    return figure
