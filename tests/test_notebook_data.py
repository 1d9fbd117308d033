"""Notebook 01: what its text says, beside what it printed and what the paper prints."""

import numpy as np
import pytest
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
        ("three texts in four are others", "77.6% of texts differ"),
        ("where LCL has 19,533", "there are 19,533; swallowed: 1,689"),
    ],
)
def test_what_the_text_says_was_printed(said, printed):
    assert said in PROSE and printed in PRINTED


def test_gains_of_the_paper_on_emoint_are_about_a_point():
    assert "The paper's gains there are about one point." in PROSE
    means = {
        row.model: row.mean
        for row in paper.RESULTS
        if (row.dataset, row.metric, row.split) == ("emoint", "accuracy", "test")
    }
    gains = [means["lcl"] - means[other] for other in ("ce", "scl")]
    np.testing.assert_allclose(gains, 1, atol=0.15)


def test_sizes_of_emoint_in_the_text_are_those_of_the_paper():
    theirs = paper.SIZES["emoint"]
    for sizes in (theirs, [size + 1 for size in theirs]):
        assert " / ".join(f"{size:,}" for size in sizes) in PROSE


def errors_by_chance(confused):
    """The notebook's own lines, run on another matrix; its table as rows of text."""
    cell = next(cell for cell in code(NOTEBOOK) if "def unevenness" in cell.source)
    import pandas as pd

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
