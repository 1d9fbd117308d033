"""Notebook 00: its own definitions, and what its text says beside what it printed."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix
from test_notebooks import ROOT, code, definitions, read

from lclkit import losses, paper

NOTEBOOK = read(ROOT / "notebooks" / "00_quickstart.ipynb")
PROSE = " ".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")


@pytest.fixture(scope="module")
def nb():
    space = definitions(NOTEBOOK)
    return SimpleNamespace(**{name: x for name, x in space.items() if not name.startswith("__")})


def test_predictions_are_counted_as_sklearn_does_but_without_a_warning(nb):
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 6, (2, 50))
    expected = confusion_matrix(true, predicted, labels=range(7))
    np.testing.assert_array_equal(nb.count_predictions(pd.Series(true), predicted, 7), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nb.count_predictions(range(25), range(25), 25).trace() == 25


def test_confused_pairs_have_counts_beside_shares(nb):
    counts = np.array([[22, 8, 0], [0, 0, 0], [3, 0, 7]])
    table = nb.most_confused(counts, ("animal", "plant", "food"))
    assert table.iloc[:, 2].tolist() == ["8 of 30 (27 %)", "3 of 40 (8 %)", "0 of 10 (0 %)"]
    assert table.iloc[0, :2].tolist() == ["animal", "plant"]


def test_the_darkest_square_is_named_with_its_counts(nb):
    names = ("animal", "plant", "motive", "food")
    counts = np.array([[22, 8, 0, 0], [5, 25, 0, 0], [0, 3, 4, 0], [0, 0, 0, 0]])
    assert nb.darkest(counts, names) == "motive, taken for plant: 3 of 7"
    assert counts[0, 0] == 22  # as before


def test_the_lists_of_confused_pairs_are_as_far_apart_as_the_text_says():
    """The committed ones, of word counts (section 1) and of networks (section 5)."""
    assert "Section 1 may list other pairs" in PROSE
    shown = [str(output) for cell in code(NOTEBOOK) for output in cell.outputs]
    (said,) = [text for text in shown if "also in the list of the word counts" in text]
    assert "0 of 6 pairs" in said


DIFFERENCES = {
    "both intervals above zero": ([10, 11, 12], [1, 2, 1, 2], "yes"),
    "both below": ([-10, -11, -12], [-1, -2, -1, -2], "yes"),
    "seeds scatter": ([-9, 0, 20], [1, 2, 1, 2], "cannot be told"),
    "texts scatter": ([10, 11, 12], [-40, 60, -40, 60], "cannot be told"),
    "one seed": ([2], [1, 2, 1, 2], "cannot be told"),
    "seeds alike": ([2, 2], [1, 2, 1, 2], "cannot be told"),
    "seeds alike but for last bits": ([0.1] * 3, [1, 2, 1, 2], "cannot be told"),
    "texts alike": ([10, 11, 12], [2, 2], "cannot be told"),
    "none": ([0, 0], [0, 0], "cannot be told"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_claimed_where_seeds_and_texts_say_so(nb, name):
    of_seeds, of_texts, claim = DIFFERENCES[name]
    table = np.add.outer(of_seeds, of_texts) - (np.mean(of_seeds) + np.mean(of_texts)) / 2
    row = nb.verdict("a - b", table, "points")
    assert row["a difference?"] == claim
    assert "nan" not in str(row)
    alike = [len(set(part)) == 1 for part in (of_seeds, of_texts)]
    assert list(row.values()).count("no spread") == sum(alike)
    assert f"over texts (n = {len(of_texts)})" in row


def test_scores_of_two_seeds_stay_where_accuracy_can_be(nb):
    rows = [("ce", 0, 12), ("ce", 1, 8), ("lcl", 0, 96), ("lcl", 1, 98)]
    figure, _ = nb.draw_scores(pd.DataFrame(rows, columns=["loss", "seed", "accuracy"]))
    axis = figure.axes[0]
    low, high = axis.get_ylim()
    assert -2 <= low < 0 and 100 < high <= 102
    assert "cut off" in axis.get_legend().get_title().get_text()


def pushes(h, labels, log_weights, form="released"):
    """How hard anchor 0 is pushed from all negatives, and from each: minus the gradient of s."""
    similarity = (h @ h[0] / 0.3).requires_grad_()
    logits = similarity[1:] if log_weights is None else similarity[1:] + log_weights[labels[1:]]
    positive = labels[1:] == labels[0]
    loss = -logits.log_softmax(0)[positive].mean()
    if log_weights is not None and form == "released":
        own = log_weights[labels[0]]
        loss = own.exp() * (loss + own)
    (gradient,) = torch.autograd.grad(loss, similarity)
    return gradient[1:][~positive]


def test_the_idea_in_one_picture_is_that_of_the_losses():
    """Its shares, and how large the whole push is, of the loss's own gradient."""
    cell = next(cell for cell in code(NOTEBOOK) if cell.source.startswith("angle = "))
    space = {"np": np, "pd": pd}
    exec(cell.source, space)
    h = torch.tensor(space["h"])
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    weights = torch.tensor(space["weight"][1:], dtype=h.dtype)
    scl, lcl = pushes(h, labels, None), pushes(h, labels, weights.log())
    shares = space["push"].to_numpy().T
    np.testing.assert_allclose(shares, [scl / scl.sum(), lcl / lcl.sum()])
    ratio = space["weight"][0] * space["whole"][1] / space["whole"][0]
    assert ratio == pytest.approx(float(lcl.sum() / scl.sum()))


def test_the_gradient_above_is_that_of_the_kit():
    """With one anchor that has a positive, among rows that stand still."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    h = torch.nn.functional.normalize(draw)
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    log_w = torch.randn(6, 5, generator=generator, dtype=torch.float64).log_softmax(1)
    log_w[1, 0] = -torch.inf  # so the other anchor's loss is 0
    log_w = log_w.log_softmax(1)
    loss = losses.lcl_loss(h, labels, log_w) * 2  # a mean of two
    logits = (h @ h[0] / 0.3)[1:] + log_w[0, labels[1:]]
    by_hand = log_w[0, 0].exp() * (log_w[0, 0] - logits.log_softmax(0)[0])
    assert torch.isclose(loss, by_hand)


@pytest.mark.parametrize("seed", range(20))
def test_the_whole_push_of_lcl_as_released_is_always_smaller(seed):
    rng = torch.Generator().manual_seed(seed)
    draw = torch.randn(8, 3, generator=rng, dtype=torch.float64)
    h = torch.nn.functional.normalize(draw)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
    sharp = 0.3 * 2 ** (seed / 2)
    log_w = (sharp * torch.randn(4, generator=rng, dtype=torch.float64)).log_softmax(0)
    scl, lcl = pushes(h, labels, None).sum(), pushes(h, labels, log_w).sum()
    assert 0 < lcl < scl
    sure = torch.tensor([1 - 3e-9, 1e-9, 1e-9, 1e-9], dtype=h.dtype).log()
    assert pushes(h, labels, sure).sum() < 1e-6


def test_most_gains_of_the_paper_are_as_small_as_the_text_says():
    printed = {
        (row.dataset, row.classes, row.model, row.table): row.mean
        for row in paper.RESULTS
        if row.metric == "accuracy" and row.split == "test"
    }
    small = {}
    for (*place, model, table), mean in printed.items():
        if model == "lcl":
            gain = mean - printed[*place, "ce", table]
            small.setdefault(tuple(place), []).append(0.5 - 1e-6 < gain < 2 + 1e-6)
    assert all(len(set(both)) == 1 for both in small.values())  # of one in two tables
    few = sum(both[0] for both in small.values())
    assert f"between half a point and two points on {few} of its {len(small)} test sets" in PROSE
