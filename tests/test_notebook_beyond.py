"""Notebook 09: matrices from knowledge, their controls, the rule; the plan and its tables."""

import re
import shlex
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from scipy import stats
from test_notebooks import ROOT, definitions, read, tagged
from typer.testing import CliRunner

from lclkit import analysis, losses, paper, plans, sources
from lclkit.__main__ import app
from lclkit.config import class_weights
from lclkit.results import find

NOTEBOOK = read(ROOT / "notebooks" / "09_beyond.ipynb")
nb = SimpleNamespace(**definitions(NOTEBOOK))
WEIGHTS = plans.PLANS / "weights"
TABLES = sorted(WEIGHTS.glob("*.csv"))
RESULTS = ROOT / "notebooks" / "results"
K = np.array([[0, 3.0, 1, 1], [1, 0, 4, 2], [2, 8, 0, 1], [5, 1, 1, 0]])


def off_diagonal(S):
    return S[~np.eye(len(S), dtype=bool)].reshape(len(S), -1)


@pytest.mark.parametrize("form, expected", [("printed", 1), ("released", 0.2)])
def test_without_knowledge_the_loss_is_scl(form, expected):
    """The identity of section 1, and of the gradients."""
    torch.manual_seed(1)
    raw = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 4] * 2)
    h = torch.nn.functional.normalize(raw)
    nothing = torch.full((10, 5), 0.2, dtype=torch.float64).log()
    (by_lcl,) = torch.autograd.grad(losses.lcl_loss(h, labels, nothing, form=form), raw)
    h = torch.nn.functional.normalize(raw)
    (by_scl,) = torch.autograd.grad(losses.scl_loss(h, labels), raw)
    assert torch.allclose(by_lcl, expected * by_scl)


def test_rivals_by_hand():
    weights = [[0.4, 0.3, 0.3], [0.1, 0.5, 0.4], [1, 0, 0]]
    two, between = 2, 2 ** stats.entropy([0.2, 0.8], base=2)
    assert nb.rivals(weights[:1], [0]) == pytest.approx(two)
    assert nb.rivals(weights, [0, 1, 0]) == pytest.approx((two + between) / 2)  # the last has none


def test_class_matrix():
    S = nb.class_matrix(K)
    assert np.allclose(S.sum(axis=1), 1) and np.allclose(S.diagonal(), 0.5) and (S > 0).all()
    assert nb.rivals(S, range(4)) == pytest.approx(2)  # two thirds of three
    for row, known in zip(off_diagonal(S), off_diagonal(K), strict=True):
        assert stats.spearmanr(row, known)[0] == pytest.approx(1)
    assert np.allclose(off_diagonal(nb.class_matrix(K, 0.2)), 1.6 * off_diagonal(S))


def test_units_and_scales_are_no_knowledge():
    known = K + np.eye(4)
    for same in (7 * known, known**3, known * [[1], [2], [3], [9]]):
        assert np.allclose(nb.class_matrix(same), nb.class_matrix(known))


def test_the_diagonal_says_nothing():
    assert np.allclose(nb.class_matrix(K + 9 * np.eye(4)), nb.class_matrix(K))
    assert np.allclose(nb.class_matrix(np.where(np.eye(4), np.nan, K)), nb.class_matrix(K))


def test_equal_stays_equal_and_few_differences_make_no_error():
    assert np.allclose(off_diagonal(nb.class_matrix(np.ones((5, 5)))), 0.125)
    one_error = np.ones((5, 5))
    one_error[0, 1] = 2
    S = nb.class_matrix(one_error)
    assert S[0, 1] > 0.4 and np.allclose(off_diagonal(S)[1:], 0.125)


@pytest.mark.parametrize(
    "wrong, own, message",
    [
        (K[:3], 0.5, r"K: expected \(C, C\), a row a class; found \(3, 4\)"),
        (K - 1, 0.5, "K: expected numbers above 0; found 0.0 to 7.0"),
        (np.where(K == 8, np.nan, K), 0.5, "K: expected numbers above 0; found nan to nan"),
        (K, 1, "own: expected a number between 0 and 1; found 1"),
        (K, 0.0, "own: expected a number between 0 and 1; found 0.0"),
    ],
)
def test_wrong_knowledge_is_refused(wrong, own, message):
    with pytest.raises(ValueError, match=message):
        nb.class_matrix(wrong, own)


def test_a_table_is_what_training_takes():
    S, names = nb.class_matrix(K), ("a", "b", "c", "d e")
    assert np.allclose(class_weights(nb.as_table(S, names).to_csv(), names), S, atol=1e-4)
    with pytest.raises(ValueError, match="the data set has .a. where .d e. stands"):
        class_weights(nb.as_table(S, names[::-1]).to_csv(), names)


def test_controls_keep_all_but_the_content():
    S = nb.class_matrix(np.random.default_rng(1).random((9, 9)) + 0.1)
    wrong = nb.shuffled(S)
    assert (np.sort(wrong, axis=1) == np.sort(S, axis=1)).all()
    assert (wrong.diagonal() == S.diagonal()).all() and not (wrong == S).all()
    assert (nb.shuffled(S) == wrong).all() and not (nb.shuffled(S, 1) == wrong).all()
    assert abs(nb.agreement(S, wrong)) < 0.4


@pytest.mark.parametrize("n", [5, 6, 9, 32])
def test_permuted_keeps_no_neighbours(n):
    places = nb.permuted(n)
    assert sorted(places) == [*range(n)]
    assert (abs(np.diff(places)) > 1).all()


def test_nearness_falls_with_distance():
    S = nb.class_matrix(nb.nearness(range(5)))
    assert (np.diff(S[0, 1:]) < 0).all() and np.allclose(S, S[::-1, ::-1])
    assert np.allclose(nb.nearness(nb.permuted(5))[0, [2, 4, 1, 3]], np.exp(-np.arange(1, 5)))


def test_agreement_is_within_rows():
    assert nb.agreement(K, K * [[1], [5], [9], [2]]) == pytest.approx(1)
    assert nb.agreement(K, 1 / (K + 1)) == pytest.approx(-1)
    holed = np.where(np.arange(4)[:, None] == 2, np.nan, K)
    assert nb.agreement(K, holed) == pytest.approx(1)  # of the other rows


def run(labels, predicted, classes=3):
    rows = pd.DataFrame({"label": labels, "predicted": predicted})
    return SimpleNamespace(
        rows=lambda split="test": rows, summary={"classes": "abcdefgh"[:classes]}
    )


def test_confusions_are_counted_over_runs_by_row():
    runs = [run([0, 0, 1], [0, 1, 2]), run([0, 0, 1], [1, 1, 1])]
    assert nb.confusion_counts(runs).tolist() == [[1, 3, 0], [0, 1, 1], [0, 0, 0]]


def test_words_know_the_sense():
    if not sources.wordnet():
        pytest.skip("no WordNet")
    assert [s.name() for s in nb.senses("plant")] == ["plant.n.02"]
    assert len(nb.senses("body")) > 1
    names = ("animal", "plant", "food", "time")
    similarity = nb.word_similarity(names)
    assert np.allclose(similarity, similarity.T) and np.allclose(similarity.diagonal(), 1)
    assert similarity[0, 1] > similarity[0, 3]


@pytest.mark.slow
def test_names_are_pooled_without_the_padding():
    names = ["sad", "a very long name of a class", "furious", "angry"]
    together = nb.name_similarity(names, "minilm")
    alone = nb.name_similarity(names[::2] + names[3:], "minilm")
    assert np.allclose(together[np.ix_([0, 2, 3], [0, 2, 3])], alone, atol=1e-4)
    assert together[2].argsort()[-2] == 3 and np.allclose(together.diagonal(), np.e)


def test_of_psi():
    w = np.array([[0.6, 0.2, 0.2], [0.2, 0.2, 0.6], [0.5, 0.5, 0.0]])
    rows = pd.DataFrame({"label": [0, 0, 1]})
    psi = SimpleNamespace(rows=lambda split: rows, probabilities=lambda network, split: w)
    found = nb.of_psi(psi)
    assert found["own weight"] == pytest.approx((0.6 + 0.2 + 0.5) / 3)
    assert found["rivals of a text"] == pytest.approx(
        (2 + 2 ** stats.entropy([1, 3], base=2) + 1) / 3
    )
    assert found["other classes"] == 2


# The rule


def test_the_family():
    everything = {"ce", "network", "equal", *nb.REAL, *nb.CONTROLS}
    family = nb.comparisons(everything)
    assert len(family) == 5 + 4 * 2 + 3 and len(set(family)) == len(family)
    assert ("order", "order", "permuted") in family
    assert ("names", "names", "shuffled") in family
    only = nb.comparisons({"network", "equal", "names", "shuffled-names"})
    assert only == [
        ("network", "network", "equal"),
        ("network", "network", "names"),
        ("names", "names", "equal"),
        ("names", "names", "shuffled-names"),
        ("control", "shuffled-names", "equal"),
    ]
    assert nb.comparisons({"network", "order", "shuffled"}) == [("network", "network", "order")]


def runs_with(accuracies, nudges=(0, 0.005, 0.01), texts=400):
    """Right on the first texts; a seed is a nudge."""
    made = {}
    for name, accuracy in accuracies.items():
        right = [np.arange(texts) < round(texts * (accuracy + nudge)) for nudge in nudges]
        made[name] = [run(np.ones(texts, int), hit.astype(int)) for hit in right]
    return made


WEAK = dict.fromkeys(("equal", "names", "confusion", "shuffled"), 0.5)
NEEDED = "a learned network is needed"


@pytest.mark.parametrize(
    "accuracies, nudges, expected",
    [
        (WEAK | {"network": 0.8}, (0, 0.005, 0.01), {NEEDED: "supported"}),
        (WEAK | {"network": 0.2}, (0, 0.005, 0.01), {NEEDED: "refuted"}),
        (WEAK | {"network": 0.8, "names": 0.81}, (0, 0.005, 0.01), {NEEDED: "refuted"}),
        (WEAK | {"network": 0.8}, (-0.2, 0, 0.2), {NEEDED: "open"}),
        (WEAK | {"network": 0.8}, (0,), {NEEDED: "open", "names: knowledge helps": "open"}),
        (
            WEAK | {"network": 0.5, "names": 0.7},
            (0, 0.005, 0.01),
            {"names: knowledge helps": "helps", "confusion: knowledge helps": "open"},
        ),
        (
            WEAK | {"network": 0.5, "names": 0.7, "shuffled": 0.7},
            (0, 0.005, 0.01),
            {"names: knowledge helps": "open", "no control is above equal": "broken"},
        ),
        (
            WEAK | {"network": 0.5, "names": 0.3},
            (0, 0.005, 0.01),
            {"names: knowledge helps": "harms", "no control is above equal": "open"},
        ),
        (
            WEAK | {"network": 0.5, "shuffled": 0.3},
            (0, 0.005, 0.01),
            {"no control is above equal": "kept"},
        ),
    ],
)
def test_verdicts(accuracies, nudges, expected):
    found = nb.verdicts(nb.judged(runs_with(accuracies, nudges)))
    assert expected.items() <= found.items()
    assert len(found) == 4


def test_told_needs_both_intervals_and_holm():
    table = nb.judged(runs_with(WEAK | {"network": 0.52}))  # of seeds sure, of texts too
    row = table[(table.claim == "network") & (table.other == "equal")].iloc[0]
    assert row.low > 0 and row.texts_low > 0 and row.holm_p > row.p
    assert row.told == (row.holm_p < 0.05)
    few = nb.judged(runs_with(WEAK | {"network": 0.55}, texts=20))  # one text of twenty
    row = few[(few.claim == "network") & (few.other == "equal")].iloc[0]
    assert not row.texts_low > 0 and row.told == 0


def test_least_gain_has_the_power():
    from statsmodels.stats.power import TTestIndPower

    for n, tests in ((3, 1), (3, 11), (10, 5)):
        gain = nb.least_gain(2.0, n, tests)
        power = TTestIndPower().power(gain / 2.0, n, 0.05 / tests)
        assert power == pytest.approx(0.8, abs=0.02)


def test_confused_pairs_are_a_third_above_the_diagonal():
    counts = np.array([[9, 4, 0, 0], [3, 9, 0, 1], [0, 0, 9, 5], [0, 0, 6, 9]])
    among = nb.confused(counts)
    assert np.argwhere(among).tolist() == [[0, 1], [2, 3]]  # two of six


# The plan


def test_the_plan_names_the_tables_there_are():
    named = re.findall(
        r"notebooks/plans/weights/(\S+)\.csv", (plans.PLANS / "beyond.yml").read_text()
    )
    assert sorted(named) == [path.stem for path in TABLES]
    assert {stem.rsplit("-", 1)[0].removesuffix("-shuffled") for stem in named} == set(nb.PLACES)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_table_is_a_class_matrix_of_equal_strength(path):
    table = pd.read_csv(path, index_col=0)
    S = class_weights(path.read_text(), list(table.index))
    assert np.allclose(S.diagonal(), 0.5, atol=1e-3)
    others = len(S) - 1
    assert nb.rivals(S, range(len(S))) == pytest.approx(
        others if path.stem.endswith("-equal") else others * 2 / 3, abs=0.02 * others
    )


def classes_of(place):
    if place == "sst5":
        return tuple(sources.SOURCES["sst5"].classes)
    table = pd.read_csv(WEIGHTS / f"{place}-equal.csv", index_col=0)
    return tuple(table.index)


def test_classes_are_the_data_sets():
    assert classes_of("4-hard-a") == tuple(sorted(paper.SUBSETS["4-hard-a"]))
    emotions = classes_of("empatheticdialogues")
    assert len(emotions) == 32 and list(emotions) == sorted(emotions)


def made_again(place, source):
    names = classes_of(place)
    if source == "shuffled-names":
        return nb.shuffled(made_again(place, "names"))
    if source == "shuffled":
        return nb.shuffled(made_again(place, "confusion"))
    if source == "confusion":
        runs = [
            run
            for run in find([RESULTS / "minilm-all.zip"])
            if run.summary["dataset"] == nb.PLACES[place]
            and run.summary["config"]["loss"] == "ce"
            and run.summary["config"]["seed"] < 3
        ]
        if not runs:
            pytest.skip("their runs are not packed")
        return nb.class_matrix(1 + nb.confusion_counts(runs))
    made = {
        "equal": lambda: np.ones((len(names), len(names))),
        "names": lambda: nb.name_similarity(names, "minilm"),
        "order": lambda: nb.nearness(range(len(names))),
        "permuted": lambda: nb.nearness(nb.permuted(len(names))),
    }
    return nb.class_matrix(made[source]())


@pytest.mark.slow
@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_are_made_by_the_notebooks_definitions(path):
    place = next(place for place in nb.PLACES if path.stem.startswith(f"{place}-"))
    S = made_again(place, path.stem.removeprefix(f"{place}-"))
    assert np.allclose(pd.read_csv(path, index_col=0).to_numpy(), S, atol=1e-3)


def finished(weights, seed, loss="lcl", **other):
    config = {"loss": loss, "seed": seed, "encoder": "minilm", "trainable_layers": 2} | other
    config["weights"] = weights or "network"
    summary = {"config": config, "dataset": nb.PLACES["sst5"]}
    return SimpleNamespace(summary=summary, predictions=[1])


def test_runs_are_told_by_their_table():
    order = (WEIGHTS / "sst5-order.csv").read_text()
    results = [finished(order, seed) for seed in (1, 0, 2)]
    results += [finished("", seed, "ce") for seed in (0, 1)]
    results += [finished("", seed) for seed in (2, 1, 0)] + [finished("network", 0, "scl")]
    results += [finished("a,b", 0), finished("a,b", 1), finished(order, 3, encoder="other")]
    found = nb.by_source(results, "sst5", WEIGHTS)
    seeds = {x: [run.summary["config"]["seed"] for run in of] for x, of in found.items()}
    assert seeds == {"order": [0, 1], "ce": [0, 1], "network": [0, 1]}
    assert nb.by_source(results, "4-hard-a", WEIGHTS) == {}


def test_commands_of_the_open_questions_run(tmp_path, monkeypatch):
    prose = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    commands = re.findall(r"```\n\.venv/bin/(.+)\n```", prose.split("## 10 ")[1])
    assert len(commands) == 5
    (parameters,) = tagged(NOTEBOOK, "parameters")
    known = {
        option for c in typer.main.get_command(app).commands["train"].params for option in c.opts
    }
    monkeypatch.chdir(ROOT)
    for command in commands:
        program, *words = shlex.split(command)
        if program == "papermill":
            assert (ROOT / words[0]).is_file()
            names = [words[i + 1] for i, word in enumerate(words) if word == "-p"]
            assert all(f"{name} = " in parameters.source for name in names)
        elif words[0] == "train":
            assert {word for word in words if word.startswith("--")} <= known
            assert (ROOT / words[-1]).is_file()
        else:
            out = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
            assert re.search(r"[1-9]\d* runs: 0 finished", out.output), (command, out.output)


def test_numbers_of_the_paper_in_section_9():
    """58.3 and the gain of 1.8 are Table 1's."""
    ed = {
        row.model: row.mean
        for row in paper.RESULTS
        if (row.table, row.dataset, row.metric) == ("1", "empatheticdialogues", "accuracy")
    }
    prose = "\n".join(cell.source for cell in NOTEBOOK.cells)
    assert ed["ce"] == 58.3 and round(ed["lcl"] - ed["ce"], 1) == 1.8
    assert "58.3 % in Suresh and Ong" in prose and "gain over cross-entropy there (1.8)" in prose
    assert round(58.3 - 47.7, 1) == 10.6 and "gap of 10.6 points" in prose


def test_the_weights_of_psi_are_those_of_the_recipe_alone():
    """Five runs a data set of the paper, three of the built-in one: no ablation, no other alpha."""
    (cell,) = [cell for cell in NOTEBOOK.cells if cell.id == "11-beyond"]
    (table,) = [output.data["text/plain"] for output in cell.outputs]
    runs = {line.split()[0]: line.split()[-1] for line in table.split("runs")[-1].splitlines()[2:]}
    assert runs.pop("supersense") == "3" and set(runs.values()) == {"5"} and len(runs) == 14


def test_what_section_7_says_of_the_kept_runs():
    """Both claims open; no table far from equal in any seed; the network above all of them."""
    packed = [RESULTS / "beyond-demo.zip", RESULTS / "supersense.zip"]
    runs = {}
    for run in sorted(find(packed), key=lambda run: run.summary["config"]["seed"]):
        config = run.summary["config"]
        name = config["loss"] if config["loss"] != "lcl" else config["weights"]
        runs.setdefault(name, []).append(run)
    names = runs["ce"][0].summary["classes"]
    counts = nb.confusion_counts(runs["ce"])
    known = {"equal": np.ones(counts.shape), "confusion": 1 + counts}
    known["words"] = nb.word_similarity(names)
    known = {name: nb.class_matrix(K) for name, K in known.items()}
    known["shuffled"] = nb.shuffled(known["confusion"])
    named = {nb.as_table(S, names).to_csv(): name for name, S in known.items()}
    assert named.keys() < runs.keys()
    runs = {named.get(name, name): of_name for name, of_name in runs.items()}
    runs["names"] = runs.pop(next(name for name in runs if "," in name))  # the encoder's, the last
    assert {len(of_name) for of_name in runs.values()} == {3} and len(runs) == 8
    assert set(nb.verdicts(nb.judged(runs)).values()) == {"open"}
    accuracy = {
        name: np.array([run.summary["scores"]["test_phi"] for run in of_name])
        for name, of_name in runs.items()
    }
    for name in ("names", "words", "confusion", "shuffled"):
        assert abs(accuracy[name] - accuracy["equal"]).max() < 0.55
        assert 0.6 < accuracy["network"].mean() - accuracy[name].mean() < 1.0
    lead = accuracy["network"] - accuracy["equal"]
    assert (lead > 0).all() and lead.mean() == pytest.approx(1, abs=0.01)
    assert analysis.summarise(lead)["low"] < 0
    gains = {name: (accuracy[name] - accuracy["equal"]).mean() for name in accuracy}
    assert gains["shuffled"] == pytest.approx(gains["words"], abs=0.01)
    assert gains["shuffled"] == pytest.approx(gains["confusion"], abs=0.01)
    assert round(1 - (24 / 25) ** 9, 2) == 0.31
