"""Notebook 04's own definitions against lclkit.

Its loop is the loop of `training`, its list names every difference.
"""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_notebooks import ROOT, definitions, read

from lclkit import augment, models, paper, training
from lclkit.results import Result

NOTEBOOK = read(ROOT / "notebooks" / "04_training.ipynb")


@pytest.fixture(scope="module")
def nb():
    return SimpleNamespace(
        **{name: x for name, x in definitions(NOTEBOOK).items() if not name.startswith("__")}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"drop_last": False, "logit_dropout": False},
        {"form": "printed", "reduction": "sum", "alpha": 0.1},
        {"detach_weights": True, "temperature": 0.1},
        {"trainable_layers": 2},
        {"augmentation": "none", "pooling": "mean"},
    ],
    ids=lambda changes: ",".join(changes) or "released",
)
def test_loop_takes_the_steps_of_train(nb, tiny_electra, made_dataset, tmp_path, changes):
    settings = training.Config(encoder=tiny_electra, epochs=2, batch_size=5, lr=1e-2, seed=3)
    config = replace(settings, **changes)
    run = training.train(made_dataset, config, tmp_path)
    expected = pd.read_csv(run.folder / "history.csv")

    encoder, device = models.open_encoder(tiny_electra), torch.device("cpu")
    networks, stem = training.build(made_dataset, config, encoder)
    sides = [list(made_dataset.train.text)]
    if config.augmentation != "none":
        sides.append(augment.synonym_views(sides[0], recipe=config.augmentation))

    def read_batch(texts):
        return nb.read(texts, encoder.tokenizer, stem, device)

    labels = torch.tensor(made_dataset.train.label.to_numpy())
    torch.manual_seed(config.seed)  # dropout
    found = nb.loop(networks.phi, networks.psi, read_batch, sides, labels, config, len(expected))

    assert (
        expected.ce_encoder.max() - expected.ce_encoder.min() > 0.05
    )  # it moves: this says something
    names = {"L_f": "loss", "L_e": "ce_encoder", "L_LCL": "contrastive", "L_w": "ce_weighting"}
    for own, theirs in (names | {"lr": "lr"}).items():
        np.testing.assert_allclose(found[own], expected[theirs], rtol=1e-4, atol=1e-5, err_msg=own)


@pytest.mark.slow
def test_watched_texts_are_noted_by_both_networks(nb, tiny_electra, made_dataset, tmp_path):
    config = training.Config(encoder=tiny_electra, epochs=1, batch_size=1, lr=5e-3)
    plain = training.train(made_dataset, config, tmp_path / "plain")
    watch = nb.Watch([3, 8])
    run = training.train(made_dataset, config, tmp_path / "watched", callbacks=[watch])
    pd.testing.assert_frame_equal(run.predictions, plain.predictions, check_exact=True)
    state = json.loads((run.folder / "trainer_state.json").read_text(encoding="utf-8"))
    notes = pd.DataFrame([note for note in state["log_history"] if "watched" in note])
    assert set(notes.watched) == {3, 8} and set(notes.network) == {"phi", "psi"}
    assert notes.step.nunique() == 16 and notes.step.max() == 32  # every second
    best = notes[notes.step == 32]
    for network in ("phi", "psi"):
        p = np.array(best[best.network == network].p.tolist())
        np.testing.assert_allclose(p, run.probabilities(network, "valid")[[3, 8]], atol=1e-5)


def test_undecided_texts_have_the_right_class_second(nb):
    p = np.array(
        [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.45, 0.1, 0.45], [0.4, 0.35, 0.25], [0.6, 0.3, 0.1]]
    )
    assert nb.undecided(p, np.array([1, 1, 0, 1, 2]), n=2).tolist() == [3, 0]


def fake(accuracy, seed, **changes):
    config = (
        {f.name: f.default for f in fields(training.Config)} | {"lr": 2e-4, "seed": seed} | changes
    )
    summary = {"config": config, "scores": {"test_phi": accuracy}}
    return Result(Path("x"), summary, pd.DataFrame(), pd.DataFrame())


def test_ablation_pairs_the_seeds(nb):
    runs = [
        fake(70, 0),
        fake(74, 1),
        fake(72, 0, form="printed"),
        fake(75, 1, form="printed"),
        *(fake(60 + seed, seed, **paper.RECIPES["paper"]) for seed in range(3)),
    ]
    table = nb.ablation_table(runs).set_index("setting")
    printed = table.loc["form: printed"]
    assert (printed["mean"], printed.n, printed.difference) == (73.5, 2, 1.5)
    assert printed.high - printed.difference == pytest.approx(
        12.706 * 0.5, abs=1e-2
    )  # t, one degree of freedom
    assert table.loc["released", "difference"] == 0
    together = table.loc["recipe paper, all at once"]
    assert (
        together.difference == -11.5 and together.n == 3
    )  # of two seeds: the third has no partner


def test_every_difference_of_the_recipes_is_in_the_list():
    """`paper.toml` and `training` refer to the list by number."""
    text = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    listed = {number for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    sources = [
        (ROOT / "lclkit" / name).read_text(encoding="utf-8")
        for name in ("paper.toml", "training.py")
    ]
    comments = re.findall(r"#.*?\((\d+)\)", "\n".join(sources))
    assert comments and set(comments) <= listed
    for name in paper.RECIPES["released"]:
        assert f"`{name}`" in text
