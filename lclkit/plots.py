"""The figures of more than one notebook, with the numbers in them; `save_figure` keeps picture, data and origin."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from lclkit import analysis, files

# Okabe and Ito's colours; marker and line tell the losses apart without any colour.
STYLES = {
    "ce": {"color": "#444444", "marker": "o", "linestyle": ":"},
    "scl": {"color": "#56B4E9", "marker": "s", "linestyle": "--"},
    "lcl": {"color": "#D55E00", "marker": "^", "linestyle": "-"},
}


def use_style() -> None:
    """The kit's look, for all figures that follow."""
    sns.set_theme(
        style="ticks",
        rc={
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "legend.frameon": False,
        },
    )


def save_figure(
    figure: Figure, name: str, numbers: pd.DataFrame, folder: str | Path, **origin
) -> None:
    """Write `name`.png, its data `name`.csv and its origin `name`.json, each whole or not at all.

    origin: what made the figure (notebook, parameters, runs); versions, git commit and time are added.
    """
    with files.whole(Path(folder, f"{name}.png")) as file:
        figure.savefig(file, format="png")
    with files.whole(Path(folder, f"{name}.csv")) as file:
        numbers.to_csv(file, index=False, float_format="%.6g")
    with files.whole(Path(folder, f"{name}.json")) as file:
        file.write_text(
            json.dumps({"figure": name, **origin, **files.provenance()}, indent=1) + "\n",
            encoding="utf-8",
        )


def scores(runs: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Test accuracy of every run, with mean and 95 % interval over seeds. runs: `loss`, `seed`, `accuracy` (%)."""
    figure, axis = plt.subplots(figsize=(7, 3.6))
    rows = []
    for place, (loss, some) in enumerate(runs.groupby("loss", sort=False)):
        spread = analysis.summarise(some.accuracy)
        offsets = np.linspace(-0.15, 0.15, len(some)) if len(some) > 1 else 0
        axis.scatter(
            place + offsets,
            some.accuracy,
            s=45,
            alpha=0.8,
            color=STYLES[loss]["color"],
            marker=STYLES[loss]["marker"],
        )
        axis.errorbar(
            place + 0.3,
            spread["mean"],
            yerr=np.nan_to_num(spread["high"] - spread["mean"]),
            color="black",
            marker="_",
            markersize=14,
            capsize=4,
            label=None if place else "mean and its 95 % interval",
        )
        rows.append({"loss": loss, **spread})
    axis.set(
        xticks=range(len(rows)),
        xticklabels=[row["loss"].upper() for row in rows],
        xlim=(-0.5, len(rows) - 0.4),
        ylabel="test accuracy (%)",
        title="One mark, one run",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure, pd.DataFrame(rows)


def confusions(
    counts: dict[str, np.ndarray], classes: tuple[str, ...]
) -> tuple[Figure, pd.DataFrame]:
    """Confusion matrices side by side, each row in percent of its true class. counts: loss -> ``(C, C)``.

    Classes are ordered so that those that the first matrix confuses stand together.
    """
    shares = {loss: 100 * c / np.maximum(1, c.sum(1, keepdims=True)) for loss, c in counts.items()}
    first = next(iter(shares.values()))
    distance = 100 - (first + first.T) / 2
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    order = hierarchy.leaves_list(tree)
    names, size = [classes[i] for i in order], 2.4 + 0.2 * len(classes)
    figure, panels = plt.subplots(
        1, len(shares), figsize=(len(shares) * size, size), sharey=True, squeeze=False
    )
    for panel, (loss, share) in zip(panels[0], shares.items(), strict=True):
        image = panel.imshow(
            share[np.ix_(order, order)], cmap="Greys", norm=PowerNorm(0.5, 0, 100)
        )  # for small shares
        panel.set(
            title=loss.upper(),
            xlabel="predicted",
            xticks=range(len(names)),
            yticks=range(len(names)),
        )
        panel.set_xticklabels(names, rotation=90)
        panel.set_yticklabels(names)
        panel.tick_params(labelsize=8 if len(names) > 12 else 10)
    panels[0, 0].set_ylabel("true")
    figure.colorbar(image, ax=panels, label="% of the true class", shrink=0.7)
    return figure, pd.DataFrame(
        [
            {"loss": loss, "true": classes[i], "predicted": classes[j], "percent": share[i, j]}
            for loss, share in shares.items()
            for i in order
            for j in order
        ]
    )


def entropy_curves(curves: pd.DataFrame, panels: str = "") -> Figure:
    """Mean top-k entropy against k (Figure 2 of the paper). curves: `loss` and what `analysis.entropy_curve` gives.

    panels: a column of it; each of its values gets a panel, under its name.
    """
    parts = list(curves.groupby(panels, sort=False)) if panels else [("", curves)]
    figure, axes = plt.subplots(
        1, len(parts), figsize=(2.5 + 4.5 * len(parts), 3.8), sharey=True, squeeze=False
    )
    for axis, (title, part) in zip(axes[0], parts, strict=True):
        for loss, rows in part.groupby("loss", sort=False):
            axis.plot(rows.k, rows["mean"], label=loss.upper(), markersize=5, **STYLES[loss])
            axis.fill_between(
                rows.k, rows.low, rows.high, color=STYLES[loss]["color"], alpha=0.2, linewidth=0
            )
        axis.set(title=title, xlabel="k, the number of classes looked at")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("mean entropy (bits)")
    shown = {
        label: line
        for axis in axes[0]
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    axes[0, -1].legend(
        shown.values(),
        shown,
        title="line: mean of the seeds\nband: its 95 % interval",
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    return figure
