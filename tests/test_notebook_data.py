"""Notebook 01: what its text says, beside what it printed and what the paper prints."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_notebooks import ROOT, code, read

from lclkit import paper

NOTEBOOK = read(ROOT / "notebooks" / "01_data.ipynb")
PROSE = " ".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
PRINTED = " ".join(
    str(output.get("text") or output.get("data", {}).get("text/plain", ""))
    for cell in code(NOTEBOOK)
    for output in cell.outputs
)


@pytest.mark.parametrize(
    "said, printed",
    [
        ("Nearly all.", "96 of 3,142 test tweets are in training, 91 of them"),
        ("loses far more", "accuracy 99.9, weighted F1 99.9, macro F1 96.3"),
        ("Two test texts.", "texts of grief in train, valid, test: [39, 6, 2]"),
        ("three texts in four are others", "77.6%"),
        ("where LCL has 19,533", "there are 19,533; swallowed: 1,689"),
    ],
)
def test_what_the_text_says_was_printed(said, printed):
    assert said in PROSE and printed in PRINTED


def test_the_gain_of_the_paper_on_emoint_is_as_the_text_says():
    """Welch's interval, of the printed means and deviations of five runs."""
    of = {
        row.model: row
        for row in paper.RESULTS
        if (row.dataset, row.metric, row.split) == ("emoint", "accuracy", "test")
    }
    runs = paper.profile("paper").seeds
    parts = np.array([of[loss].sd ** 2 / runs for loss in ("lcl", "ce")])
    df = parts.sum() ** 2 / (parts**2 / (runs - 1)).sum()
    half = stats.t.ppf(0.975, df) * np.sqrt(parts.sum())
    gain = of["lcl"].mean - of["ce"].mean
    said = f"{gain:.1f} points (95 % interval over seeds: {gain - half:.1f} to {gain + half:.1f})"
    assert f"The paper's gain over cross-entropy there is {said}" in PROSE


def test_another_sample_puts_other_pairs_first():
    """The committed lists of confused pairs, of notebook 00 and of this one."""
    assert "another sample, as in notebook 00, may put others first" in PROSE
    quickstart = read(ROOT / "notebooks" / "00_quickstart.ipynb")
    (cell,) = [cell for cell in code(quickstart) if cell.source.endswith("by_words")]
    table = cell.outputs[-1]["data"]["text/plain"]
    there = [tuple(line.split()[1:3]) for line in table.splitlines()[1:]]
    here = re.findall(r"(\w+) / (\w+): \d+ of", PRINTED)
    assert len(there) == 6 and len(here) == 3
    assert not set(there) & set(here)


def test_sizes_of_emoint_in_the_text_are_those_of_the_paper():
    theirs = paper.SIZES["emoint"]
    for sizes in (theirs, [size + 1 for size in theirs]):
        assert " / ".join(f"{size:,}" for size in sizes) in PROSE


def errors_by_chance(confused):
    """The notebook's own lines, run on another matrix; its table as rows of text."""
    cell = next(cell for cell in code(NOTEBOOK) if "def unevenness" in cell.source)
    space = {"np": np, "pd": pd, "names": range(len(confused)), "confused": confused}
    body, table = cell.source.rsplit("pd.DataFrame(", 1)
    exec(f"{body}result = pd.DataFrame({table}", space)
    return space["result"], space["spread"]


def test_errors_that_fell_anywhere_are_not_called_uneven():
    rng = np.random.default_rng(3)
    anywhere = rng.multinomial(20, (1 - np.eye(12)) / 11) + 30 * np.eye(12, dtype=int)
    (table, spread), never = (
        errors_by_chance(anywhere),
        (anywhere + anywhere.T)[np.triu_indices(12, 1)],
    )
    assert spread[0, 0] <= (never == 0).sum() <= spread[1, 0]
    assert table.here.iloc[0].startswith(f"{(never == 0).sum()} of 66 (")


def test_errors_of_neighbours_are_uneven_and_no_error_is_no_fault():
    neighbours = np.kron(np.eye(6, dtype=int), np.array([[9, 6], [6, 9]]))
    _, spread = errors_by_chance(neighbours)
    assert spread[1, 0] < 60  # of 66 pairs, which are never confused
    for classes in (2, 5):
        table, _ = errors_by_chance(9 * np.eye(classes, dtype=int))
        assert table.here.iloc[1] == "0 of 1 (0 %)"
