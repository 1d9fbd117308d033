"""What is prepared once for several runs belongs to these very texts and weights."""

import dataclasses
import os
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import make_encoder
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lclkit import batches, models


@pytest.fixture
def prepare(made_dataset, tmp_path):
    """A function that prepares the made data, or another, with the encoder in a folder."""
    make_encoder(tmp_path / "encoder", "bert", max_position_embeddings=12)

    def prepared(dataset=made_dataset, trainable_layers=1):
        config = SimpleNamespace(
            augmentation="none", replaced=0.3, trainable_layers=trainable_layers
        )
        encoder = models.open_encoder(str(tmp_path / "encoder"))
        *_, stem = models.build(encoder, dataset.classes, trainable_layers=trainable_layers)
        return batches.prepare(dataset, config, encoder, stem)

    return prepared


def test_other_layers_are_another_stem(prepare):
    one, two = (prepare(trainable_layers=n).items["train"] for n in (1, 2))
    assert not any(map(torch.equal, one, two))


def test_weights_that_are_replaced_under_one_name_are_read_anew(prepare, tmp_path):
    before = prepare()
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    changed = {name: value * 1.5 for name, value in weights.items()}
    save_file(changed, tmp_path / "encoder" / "model.safetensors", {"format": "pt"})
    after = prepare()
    assert not torch.allclose(before.items["train"][0], after.items["train"][0])


def test_a_tokenizer_that_is_replaced_under_one_name_is_read_anew(prepare, tmp_path):
    before = prepare(trainable_layers=None)
    file = tmp_path / "encoder" / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"bread"', '"daerb"'), encoding="utf-8")
    after = prepare(trainable_layers=None)
    lengths = [[len(row) for row in texts.items["train"]] for texts in (before, after)]
    assert lengths[0] != lengths[1]


def test_texts_of_another_data_set_of_the_same_name(prepare, made_dataset):
    before = prepare()
    fewer = dataclasses.replace(made_dataset, train=made_dataset.train.iloc[:-1])
    assert fewer.name == made_dataset.name
    assert len(prepare(fewer)) == len(before) - 1


@pytest.fixture
def frozen(monkeypatch, tmp_path):
    """A folder of their own for hidden states, and how often any were computed."""
    count = []
    run = batches._run
    monkeypatch.setattr(batches, "FROZEN", tmp_path / "frozen")
    monkeypatch.setattr(batches, "_run", lambda *given: count.append(1) or run(*given))
    return SimpleNamespace(folder=tmp_path / "frozen", count=count)


def test_hidden_states_are_computed_once_for_all_runs(prepare, frozen):
    before, after = prepare(), prepare()
    assert len(frozen.count) == 3 == len(list(frozen.folder.iterdir()))  # train, valid, test
    for name, part in before.items.items():
        assert all(map(torch.equal, part, after.items[name]))


@pytest.mark.parametrize(
    "where, name, value",
    [
        ("lclkit.batches", "RESULTS_VERSION", -1),
        ("torch", "__version__", "2.99.0"),
        ("lclkit.batches.transformers", "__version__", "5.99.0"),
        ("torch", "get_num_threads", lambda: 99),
        ("torch.backends.cpu", "get_cpu_capability", lambda: "ABACUS"),
    ],
)
def test_hidden_states_of_another_machine_or_version(
    prepare, frozen, monkeypatch, where, name, value
):
    prepare()
    monkeypatch.setattr(f"{where}.{name}", value)
    prepare()
    assert len(frozen.count) == 6


def test_hidden_states_that_are_damaged_are_computed_again(prepare, frozen):
    before = prepare()
    files = list(frozen.folder.iterdir())
    for file in files:
        file.write_bytes(file.read_bytes()[:-100])
    assert all(map(torch.equal, before.items["train"], prepare().items["train"]))
    prepare()
    assert len(frozen.count) == 6 and set(frozen.folder.iterdir()) == set(files)


@pytest.mark.parametrize("error", [PermissionError("another's"), SafetensorError("No space left")])
def test_hidden_states_that_cannot_be_kept_are_used_all_the_same(
    prepare, frozen, monkeypatch, error
):
    def save_file(tensors, file):
        file.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(batches, "save_file", save_file)
    assert len(prepare().items["train"]) > 0 and not list(frozen.folder.iterdir())
    monkeypatch.setattr(batches, "FROZEN", frozen.folder.parent / "encoder" / "config.json" / "x")
    assert len(prepare().items["train"]) > 0  # no folder can be there


def test_hidden_states_go_when_they_are_old_or_too_many(frozen):
    frozen.folder.mkdir()
    days = {"today": 0, ".left-by-a-killed-run": 8, "last week": 8, "yesterday": 1, "before": 2}
    for name, age in days.items():
        (frozen.folder / name).write_bytes(b"x" * 10)
        then = time.time() - 86_400 * age
        os.utime(frozen.folder / name, (then, then))
    batches._sweep()
    assert {file.name for file in frozen.folder.iterdir()} == {"today", "yesterday", "before"}
    batches._sweep(bytes_kept=25)
    assert {file.name for file in frozen.folder.iterdir()} == {"today", "yesterday"}


@pytest.mark.parametrize("trainable_layers", [None, 1])
def test_long_texts_are_cut_also_where_their_states_were_kept(prepare, trainable_layers):
    for _ in range(2):
        texts = prepare(trainable_layers=trainable_layers)
        assert max(len(row) for part in texts.items.values() for row in part) == 12
