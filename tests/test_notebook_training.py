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
from bs4 import BeautifulSoup
from test_notebooks import ROOT, definitions, read

from lclkit import augment, losses, models, paper, training
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


def unit_rows(n, d, seed=0):
    h = np.random.default_rng(seed).normal(size=(n, d))
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def test_alignment_and_uniformity_by_a_double_loop(nb):
    h, labels = unit_rows(9, 4), np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    together, everyone = [], []
    for i in range(9):
        for k in range(9):
            if i != k:
                distance = sum((a - b) ** 2 for a, b in zip(h[i], h[k], strict=True))
                everyone.append(np.exp(-2 * distance))
                together += [distance] if labels[i] == labels[k] else []
    assert nb.alignment(h, labels) == pytest.approx(np.mean(together))
    assert nb.uniformity(h) == pytest.approx(np.log(np.mean(everyone)))
    assert np.isnan(nb.alignment(h, np.arange(9)))  # no two texts of one class
    one_spot = np.repeat(h[:1], 9, axis=0)
    assert nb.alignment(one_spot, labels) == pytest.approx(0, abs=1e-12)
    assert nb.uniformity(one_spot) == pytest.approx(0, abs=1e-12)


def test_pairs_that_are_drawn_share_no_class(nb):
    mean_w = np.eye(5)
    mean_w[0, 1], mean_w[1, 0], mean_w[1, 2], mean_w[3, 2] = 0.3, 0.5, 0.7, 0.2
    assert nb.most_confused(mean_w) == [(0, 1), (2, 3)]  # 1 is taken, 4 has none left
    assert nb.most_confused(mean_w, 1) == [(0, 1)]
    assert nb.most_confused(np.ones((2, 2))) == [(0, 1)]


def test_nearest_is_the_largest_cosine(nb):
    h, known = unit_rows(5, 3), unit_rows(7, 3, seed=1)
    expected = [max(range(7), key=lambda k: row @ known[k]) for row in h]
    assert nb.nearest(h, known).tolist() == expected


def test_verdicts_are_what_an_interval_allows(nb):
    assert nb.verdict(0.1, 2) == "higher" and nb.verdict(-2, -0.1) == "lower"
    assert nb.verdict(-1, 1) == "cannot be told"
    assert nb.verdict(np.nan, np.nan) == nb.verdict(0, 0) == "no spread, no verdict"


def test_answers_beside_each_other_by_hand(nb):
    a, b = np.array([1, 1, 1, 0] * 25, bool), np.array([1, 0, 0, 1] * 25, bool)
    row = nb.beside(a, b)
    counts = [row[name] for name in ("texts", "both right", "first alone", "second alone")]
    assert counts == [100, 25, 50, 25] and row["difference (points)"] == 25
    assert 0 < row["low"] < 25 < row["high"] and row["first is"] == "higher"


def test_counts_stand_beside_shares(nb):
    assert nb.of(8, 30) == "8 of 30 (27%)" and nb.of(0, 0) == "0 of 0 (0%)"
    table = pd.DataFrame({"a": [1.234, np.nan], "b": ["x", None], "n": [3, 4]})
    assert nb.tidy(table).to_numpy().tolist()[0] == ["1.23", "x", 3]
    assert nb.tidy(table).a[1] == "–"


@pytest.mark.parametrize("lengths", [(3.0, 0.5), (0.2, 0.3), (2.0, 5.0)])
def test_clipping_is_what_torch_does(nb, lengths):
    def clipped(*lengths):
        parameters = [torch.zeros(3, requires_grad=True) for _ in lengths]
        for p, length in zip(parameters, lengths, strict=True):
            p.grad = torch.tensor([0.0, length, 0.0])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        return [p.grad.norm().item() for p in parameters]

    apart, as_one = nb.scales(lengths)
    for length, factor in zip(lengths, apart, strict=True):
        assert clipped(length)[0] == pytest.approx(length * factor, rel=1e-4)
    assert clipped(*lengths) == pytest.approx([x * as_one for x in lengths], rel=1e-4)


def test_the_whole_push_of_the_released_form_is_below_that_of_scl():
    """The loss is the mean over anchors; the push is what it does to similarities of negatives."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        e, w = np.exp(rng.normal(size=5) * 3), rng.dirichlet(np.ones(4))
        w = np.array([w[0], w[0], *w[1:]])  # two positives of one class, three negatives
        assert w[0] * (w * e)[2:].sum() / (w * e).sum() < e[2:].sum() / e.sum()


@pytest.mark.parametrize("form", losses.FORMS)
def test_a_sure_and_right_psi_leaves_no_contrastive_loss(form):
    """Where each anchor has one positive, its view; section 6 draws this as a line at 0."""
    h, y = torch.tensor(unit_rows(6, 4)), torch.tensor([0, 1, 2]).repeat(2)
    log_w = (1000 * torch.eye(3, dtype=h.dtype)[y]).log_softmax(1)
    assert losses.lcl_loss(h, y, log_w, form=form).item() == pytest.approx(0, abs=1e-9)


def test_softmax_twice_has_the_floor_that_the_symptom_prints():
    classes = 25
    p = torch.eye(classes)  # sure, and always right
    loss = torch.nn.functional.cross_entropy(p, torch.arange(classes))
    assert loss.item() == pytest.approx(np.log(1 + (classes - 1) / np.e))


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


def test_what_runs_have_in_common_and_their_pairs(nb):
    runs = [fake(70 + seed, seed) for seed in range(2)]
    runs += [fake(71, seed, detach_weights=True) for seed in range(2)]
    common = nb.in_common(runs)
    assert "detach_weights" not in common and "seed" not in common
    assert common["lr"] == 2e-4 and len(common) == len(fields(training.Config)) - 2
    pairs = nb.pairs_of(runs, "detach_weights: True")
    assert {s: [r.summary["scores"]["test_phi"] for r in two] for s, two in pairs.items()} == {
        0: [70, 71],
        1: [71, 71],
    }
    for run in runs:
        run.summary["scores"] |= dict.fromkeys(("valid_phi", "valid_psi", "test_psi"), 50.0)
    table = nb.detached_table(pairs).set_index(["network", "of"])
    assert table.loc[("Φ", "test"), "seed 0"] == "70.0 → 71.0"
    assert table.loc[("Φ", "test"), "difference"] == 0.5
    assert table.loc[("Ψ", "valid"), "verdict"] == "no spread, no verdict"
    assert table.loc[("Φ", "test"), "Holm"] == pytest.approx(0.5)  # one p: nothing to correct


def test_a_difference_without_spread_has_no_interval(nb):
    row = nb.differences([1.0, 1.0, 1.0])
    assert row["difference"] == 1 and np.isnan([row["low"], row["high"], row["p"]]).all()
    assert np.isnan(nb.differences([2.0])["low"])
    row = nb.differences([1.0, 2.0, 3.0])
    assert row["low"] < 0 < 2 - row["low"] and 0.05 < row["p"] < 0.1


def cell(id):
    (found,) = [cell for cell in NOTEBOOK.cells if cell.id == id]
    return found


def printed(id):
    return "".join(output.get("text", "") for output in cell(id).outputs)


def table(id):
    (html,) = [o.data["text/html"] for o in cell(id).outputs if "text/html" in o.get("data", {})]
    found = BeautifulSoup(html, "html.parser").find_all("tr")
    head, *rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in found]
    return pd.DataFrame([row[1:] for row in rows], [row[0] for row in rows], head[1:])


def test_words_on_the_ablation_are_those_of_its_table():
    rows = table("cell-65").set_index("setting")
    words = cell("cell-67-rows").source
    for setting in set(rows.index) - {"released"}:
        assert f"`{setting}`" in words
    told = rows.index[rows.verdict.isin(["higher", "lower"])]
    assert set(told) == {"loss: ce", "reduction: sum"}
    assert (pd.to_numeric(rows.Holm, errors="coerce").dropna() > 0.05).all()
    number = pd.to_numeric(rows.high, errors="coerce") - pd.to_numeric(rows.low, errors="coerce")
    assert number.idxmax() == "augmentation: paper"
    strong = {"loss: scl", "form: printed", "reduction: sum"}
    assert set(pd.to_numeric(rows["mean"]).nsmallest(3).index) == strong
    assert rows.verdict["detach_weights: True"] == "no spread, no verdict"
    fields = {name.split(":")[0] for name in rows.index} & paper.RECIPES["released"].keys()
    assert fields == {"form", "reduction", "logit_dropout", "augmentation"}  # "four of the eight"
    untested = {"eps_placement", "epochs", "patience", "drop_last"}
    assert fields | untested == paper.RECIPES["released"].keys()
    assert all(f"`{name}`" in cell("cell-63").source for name in untested)
    assert "here: 2 of 8" in printed("cell-67-luck") and "correction: 0" in printed("cell-67-luck")


def test_the_ablation_differs_from_section_1_in_one_setting():
    said = printed("cell-64-common")
    assert "the very texts of section 1" in said
    assert re.findall("not as in section 1: (.*)", said) == ["trainable_layers 1, there 2"]
    released = table("cell-67-detached").set_index(["network", "of"]).loc[("Φ", "test")]
    scores = [float(x.split(" → ")[0]) for name, x in released.items() if name.startswith("seed")]
    section_1 = table("cell-12").set_index(["network", "of"]).accuracy[("Φ", "test")]
    assert len(scores) == 3 and max(scores) < float(section_1)


def test_words_on_the_detached_weights_are_those_of_their_table():
    rows = table("cell-67-detached").set_index(["network", "of"])
    seeds = [name for name in rows if name.startswith("seed ")]
    arrows = rows[seeds].map(lambda text: np.subtract(*map(float, text.split(" → ")[::-1])))
    assert (arrows.loc["Ψ"] < 0).all(axis=None) and (arrows.loc[("Φ", "test")] == 0).all()
    assert (arrows.loc[("Φ", "valid")] > 0).sum() == 2
    bounds = [abs(float(rows.loc[("Φ", "valid"), name])) for name in ("low", "high")]
    assert max(bounds) < 1
    assert rows.verdict[("Ψ", "valid")] == "lower"
    assert rows.verdict[("Ψ", "test")] == "cannot be told"
    assert float(rows.Holm[("Ψ", "valid")]) > 0.05
    changes = printed("cell-67-detached").split(":")[1]
    assert all(float(change) > 0 for change in changes.split(","))


def test_marks_of_the_space_are_what_the_text_says():
    rows = table("space-table")[["alignment", "uniformity"]].apply(pd.to_numeric)
    assert rows.alignment["each class one point"] == 0
    assert rows.alignment["texts at random"] == pytest.approx(2, abs=0.05)
    assert rows.uniformity["each class one point"] > rows.uniformity["texts at random"] + 0.5
    assert len(re.findall(r"nearer than before: (yes|no)", printed("space-table"))) == 3


def test_every_difference_of_the_recipes_is_in_the_list():
    """`paper.toml` and `training` refer to the list by number."""
    text = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    listed = {int(n): row for n, row in re.findall(r"^\| (\d+) \| (.*)", text, re.MULTILINE)}
    assert list(listed) == list(range(1, len(listed) + 1))  # in order, without a gap
    sources = [
        (ROOT / "lclkit" / name).read_text(encoding="utf-8")
        for name in ("paper.toml", "training.py")
    ]
    comments = [line.partition("#")[2] for text in sources for line in text.splitlines()]
    numbered = [re.findall(r"\((\d+)\)", comment) for comment in comments]
    numbers = [int(number) for comment in numbered for number in comment]
    assert len(numbers) > 15 and set(numbers) <= set(listed)
    space = {"pd": pd, "paper": paper, "config": training.Config()}
    exec(cell("cell-62").source, space)
    assert set(space["NUMBERS"]) == set(paper.RECIPES["released"])
    for name, number in space["NUMBERS"].items():
        assert f"`{name}`" in listed[number]
        (comment,) = re.findall(rf"^{name} = .*\((\d+)\)$", sources[0], re.MULTILINE) or [number]
        assert int(comment) == number  # patience has no comment of its own


@pytest.mark.parametrize(
    "words, number",
    [
        ("decay for biases and norms", 8),
        ("way to 0", 9),
        ("each apart", 10),
        ("authors' transformers", 7),
        ("the first", 11),
    ],
)
def test_comments_in_training_name_the_row_they_mean(words, number):
    source = (ROOT / "lclkit" / "training.py").read_text(encoding="utf-8")
    assert re.search(rf"{words} \({number}\)", source)


def test_what_section_14_says_of_psi():
    """Right less often than a guess where w* < 1/C, and nowhere else; the prediction came out."""
    rows = pd.read_csv(ROOT / "figures" / "04_caps.csv")
    below_a_guess = rows["Ψ right"] < 100 * rows["1/C"]
    assert len(rows) == 35 and (below_a_guess == (rows["w*"] < rows["1/C"])).all()
    usual = rows[(rows.kind == "mean") & ~below_a_guess]
    assert (usual["median w"] <= usual["w*"] + 0.005).all()
    assert (below_a_guess & (rows.kind != "another α")).sum() == 5
    (text,) = [cell.source for cell in NOTEBOOK.cells if cell.id == "cap-so"]
    for texts in ("sst2", "4-easy"):
        (right,) = rows["Ψ right"][(rows.kind == "another α") & (rows.texts == texts)]
        assert f"{right:.1f} %" in text
