"""Notebook 08: each piece of code that it offers to be copied runs as it stands, and learns; and
its table of mistakes says the truth about who notices what."""

import ast
import builtins
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from test_notebooks import ROOT, definitions, read, tagged
from torch import nn
from transformers import TrainingArguments
from transformers.utils import logging

from lclkit import training

NOTEBOOK = read(ROOT / "notebooks" / "08_take_home.ipynb")
nb = SimpleNamespace(**definitions(NOTEBOOK))


def source(tag):
    (cell,) = tagged(NOTEBOOK, f"snippet-{tag}")
    return cell.source


@pytest.fixture(scope="module")
def given():
    """What the cell that stands for one's own data defines, as it stands."""
    space = {}
    exec(source("yours"), space)
    return space


@pytest.fixture
def run(given, tmp_path, monkeypatch):
    """Run pieces one after the other, in a script's place: nothing of the notebook but `given`."""
    monkeypatch.chdir(tmp_path)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    def run(*tags, change=("", ""), **more):
        space = given | more
        for tag in tags:
            exec(source(tag).replace(*change) if change[0] else source(tag), space)
        return SimpleNamespace(**{key: x for key, x in space.items() if key != "__builtins__"})

    yield run
    logging.enable_progress_bar()


def falls(history):
    part = len(history) // 3
    return np.mean(history[-part:]) < np.mean(history[:part])


def better_than_guessing(answers, truth, classes):
    hits = int((answers == truth).sum())
    return binomtest(hits, len(truth), 1 / classes, alternative="greater").pvalue < 1e-4


# --- What a piece needs ---------------------------------------------------------------------------


def free_names(*sources):
    """Names that these pieces use and do not define."""
    used, own = set(), set(dir(builtins))
    for node in ast.walk(ast.parse("\n".join(sources))):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else own).add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.alias):
            own.add((node.asname or node.name).split(".")[0])
    return used - own


@pytest.mark.parametrize(
    "tags, names",
    [
        (["yours"], set()),
        (["networks", "loop", "evaluation"], {"texts", "labels", "held_out", "truth", "C", "name"}),
        (["ours", "ours-run"], {"few"}),
        (["own-networks", "own", "own-run"], {"texts", "labels", "C", "name"}),
        (["vectors-layers", "vectors"], {"X", "Y"}),
    ],
)
def test_a_piece_needs_nothing_but_what_stands_for_yours(tags, names):
    assert free_names(*map(source, tags)) == names


@pytest.mark.parametrize(
    "tag", ["networks", "loop", "own-networks", "own", "own-run", "vectors-layers", "vectors"]
)
def test_of_lclkit_a_piece_has_the_loss_and_the_views(tag):
    imports = re.findall(r"from (lclkit[\w.]*) import (.+)|import (lclkit\S*)", source(tag))
    allowed = {("lclkit.losses", "lcl_loss", ""), ("lclkit.augment", "synonym_views", "")}
    assert set(imports) <= allowed


def test_data_of_ones_own_is_as_small_as_it_says(given):
    text = next(cell.source for cell in NOTEBOOK.cells if cell.id == "yours-text")
    assert f"{len(given['texts'])} dictionary definitions" in text
    assert len(given["texts"]) == len(given["labels"])
    assert not set(given["texts"]) & set(given["held_out"])


# --- The plain loop -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_loop_learns(run):
    made = run("networks", "loop", "evaluation")
    assert falls(made.history)
    for logits in (made.phi_logits, made.psi_logits):
        assert better_than_guessing(logits.argmax(1), made.truth, made.C)
    trained = (made.phi.encoder.layer[-1], made.head, made.psi.classifier)
    for part in trained:
        assert all(p.grad.isfinite().all() and p.grad.any() for p in part.parameters())
    for frozen in (made.phi.embeddings, made.psi.base_model.encoder.layer[0]):
        assert all(p.grad is None for p in frozen.parameters())
    assert not made.networks.training


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, said",
    [
        (("normalize(pooled, dim=1)", "pooled"), "features: expected normalised rows"),
        (("log_softmax", "softmax"), "log_weights: expected log-probabilities"),
        (("labels[rows].repeat(2)", "labels[rows]"), "labels: expected"),
    ],
)
def test_the_loop_is_stopped_where_a_line_is_wrong(run, change, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        run("networks", "loop", change=change)


# --- Trainer --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_subclass_of_ours_logs_more_and_changes_nothing(run):
    made = run("ours", "ours-run")
    assert len(made.logged) == 8 and all(0.5 < row["alignment"] <= 1 for row in made.logged)
    base = training.LabelAwareTrainer.__name__
    plain = run("ours", "ours-run", change=("WithAlignment(networks", f"training.{base}(networks"))
    assert not plain.logged
    with_terms = [row for row in plain.trainer.state.log_history if "contrastive" in row]
    for term in ("loss", "contrastive", "ce_weighting"):
        assert [row[term] for row in made.logged] == [row[term] for row in with_terms]


@pytest.mark.slow
def test_a_trainer_of_ones_own_learns(run, tmp_path):
    made = run("own-networks", "own", "own-run")
    assert len(made.history) == 8 and falls(made.history)
    assert not made.trainer.model_accepts_loss_kwargs
    assert not any(tmp_path.rglob("*.safetensors"))  # "nothing is written"
    batch = made.collator(made.items[:3])
    assert batch["labels"].tolist() == 2 * [item["label"] for item in made.items[:3]]
    decoded = made.collator.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    expected = [item[side][:9].lower() for side in ("text", "view") for item in made.items[:3]]
    assert [text[:9] for text in decoded] == expected


@pytest.mark.slow
def test_a_trainer_of_ones_own_evaluates(run):
    told = 'remove_unused_columns=False, label_names=["labels"]'
    made = run("own-networks", "own", "own-run", change=(told.split(",")[0], told))
    answers = made.trainer.predict(made.items[:19])
    assert np.isfinite(answers.metrics["test_loss"])
    assert answers.predictions.shape == (32, made.C)  # texts and views, and no rest
    expected = [item["label"] for k in (0, 8) for item in 2 * made.items[k : k + 8]]
    assert answers.label_ids.tolist() == expected
    silent = run("own-networks", "own", "own-run").trainer.evaluate(made.items[:16])
    assert "eval_loss" not in silent


@pytest.mark.slow
def test_what_is_said_of_trainers_defaults(run, tmp_path):
    with pytest.raises(KeyError, match="text"):
        run("own-networks", "own", "own-run", change=("remove_unused_columns=False", "seed=42"))
    made = run("own-networks", "own", change=("accepts_loss_kwargs = False", "pass"))
    arguments = TrainingArguments(str(tmp_path), report_to="none")
    trainer = made.LclTrainer(made.TwoNetworks(made.name, made.C), arguments)
    assert trainer.model_accepts_loss_kwargs


# --- Vectors --------------------------------------------------------------------------------------


@pytest.fixture
def vectors():
    """Ten classes of items around ten directions."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(10, 48))
    labels = np.arange(300) % 10
    points = centres[labels] + 2 * random.normal(size=(300, 48))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype("float32"), labels


def test_on_vectors_it_learns(run, vectors):
    X, Y = vectors
    others = {"X": X[:200].astype("float64"), "Y": Y[:200].astype("int32")}  # are welcome too
    made = run("vectors-layers", "vectors", **others)
    assert falls(made.history)
    with torch.no_grad():
        answers = made.classifier(made.project(torch.tensor(X[200:]))).argmax(1)
    assert better_than_guessing(answers.numpy(), Y[200:], 10)
    for layer in (made.project, made.classifier, made.weighting):
        assert layer.weight.grad.isfinite().all() and layer.weight.grad.any()


def test_on_vectors_the_loss_alone_pulls_classes_together(run, vectors):
    X, Y = vectors
    change = ("loss = 0.5 * ce + 0.5 * contrastive", "loss = contrastive")
    made = run("vectors-layers", "vectors", X=X, Y=Y, change=change)
    with torch.no_grad():
        h = nn.functional.normalize(made.project(made.x), dim=1)
    same = torch.tensor(Y)[:, None] == torch.tensor(Y)
    before, after = made.x @ made.x.T, h @ h.T
    assert after[same].mean() - after[~same].mean() > before[same].mean() - before[~same].mean()
    assert made.classifier.weight.grad is None


# --- The table of mistakes ------------------------------------------------------------------------

SILENT = {
    "weights: softmax, then log-softmax",
    "weights: softmax(...).log(), and Ψ is sure",
    "rows as text, view, text, view; labels not",
    "rows as text, view, text, view; labels too",
    "one text of each class, and no views",
    "a rest of one text and its view (drop_last=False)",
    "temperature 1 / 0.3",
    "h in bfloat16",
    "h and weights in float16",
}


@pytest.fixture(scope="module")
def batch():
    """Two texts of each of four classes, and their views; Ψ knows something."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(2).repeat(2)
    pooled = 3 * torch.randn(4, 32)[labels] + torch.randn(16, 32)
    return pooled, 2 * nn.functional.one_hot(labels) + torch.randn(16, 4), labels


def said(mistake, batch):
    return nb.consequence(nb.MISTAKES[mistake], *batch)


@pytest.mark.parametrize("mistake", nb.MISTAKES)
def test_who_says_so(mistake, batch):
    found = said(mistake, batch)
    assert found["who says so"] == ("nobody" if mistake in SILENT else "lcl_loss")
    if mistake not in SILENT:  # one of its own sentences, and not an accident of torch
        assert re.match("(features|labels|log_weights): expected .+; found .+", found["what"])


def numbers(mistake, batch):
    """Length and cosine of the gradient to Φ."""
    what = said(mistake, batch)["what"]
    return [float(number) for number in re.findall(r"x ([\d.]+), cosine (-?[\d.]+)", what)[0]]


def test_the_right_lines_are_no_mistake(batch):
    assert "x 1.00, cosine 1.00" in nb.consequence(nb.lines, *batch)["what"]


def test_what_silent_mistakes_do(batch):
    for harmless in ("rows as text, view, text, view; labels too", "h in bfloat16"):
        length, cosine = numbers(harmless, batch)
        assert length == pytest.approx(1, abs=0.02) and cosine > 0.99
    assert numbers("rows as text, view, text, view; labels not", batch)[1] < 0.5
    for empty in ("one text of each class, and no views", "a rest of one text and its view"):
        (mistake,) = [name for name in SILENT if name.startswith(empty)]
        assert numbers(mistake, batch)[0] == 0
    assert numbers("temperature 1 / 0.3", batch)[0] < 0.7
    nan = said("weights: softmax(...).log(), and Ψ is sure", batch)["what"]
    assert re.fullmatch(r"loss -?[\d.]+; gradient to Ψ \d+% NaN", nan)


def test_softmax_twice_is_flat(batch):
    """Why it is a mistake: the largest weight cannot reach e / (e + C - 1)."""
    _, psi_logits, _ = batch
    twice = (9 * psi_logits).softmax(1).softmax(1).max()
    assert twice <= np.e / (np.e + 3) + 1e-6 < (9 * psi_logits).softmax(1).max()


# --- The rest -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_terminal_shows_what_a_terminal_would(capsys):
    assert "predict" in nb.terminal("lclkit --help")
    assert capsys.readouterr().out.startswith("$ lclkit --help\n")
    assert nb.terminal("lclkit predict no-such-folder 'a text'") == ""
    assert "\nno-such-folder: expected " in capsys.readouterr().out


def test_what_is_said_of_the_code_that_goes_along():
    """It imports nothing of lclkit, and can be read."""
    code = (ROOT / "lclkit" / "modeling.py").read_text("utf-8")
    assert 100 < len(code.splitlines()) < 150
    assert not re.search(r"^\s*(import|from) lclkit", code, re.M)
    assert "little more than a hundred lines" in str(NOTEBOOK.cells)
