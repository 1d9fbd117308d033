"""Φ as a model of the Hugging Face ecosystem.

`save_pretrained` puts this file beside the weights, so that a folder opens where lclkit is not
installed. Hence it imports nothing of lclkit.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

POOLINGS = ("cls", "mean")


class LabelAwareConfig(PreTrainedConfig):
    """Configuration of Φ.

    backbone: configuration of the pretrained encoder. pooling: "cls", the last layer's first token
    as in the paper, or "mean" over the tokens, for sentence encoders such as MiniLM. dropout: of
    the classifier; with logit_dropout of the class logits too, as in the authors' code.
    """

    model_type = "label-aware-encoder"

    def __init__(self, backbone=None, pooling="cls", dropout=0.1, logit_dropout=False, **options):
        super().__init__(**options)
        if isinstance(backbone, dict):
            backbone = AutoConfig.for_model(**backbone)
        self.backbone = backbone
        self.pooling = pooling
        self.dropout = dropout
        self.logit_dropout = logit_dropout

    def to_dict(self) -> dict:
        values = super().to_dict()
        if isinstance(self.backbone, PreTrainedConfig):
            values["backbone"] = self.backbone.to_dict()
        return values


@dataclass
class EncoderOutput(ModelOutput):
    """loss: cross-entropy, where labels were given. logits: ``(N, C)``. features: ``(N, d)``."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    features: Tensor | None = None


class LabelAwareEncoderForSequenceClassification(PreTrainedModel):
    """Φ, the primary encoder: the only network used at test time (section 3.2, Figure 1).

    config: a `LabelAwareConfig`. backbone: the pretrained encoder where it is loaded already.
    The classifier is dense, ReLU, dropout, output (section 4.2).
    """

    config_class = LabelAwareConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True

    def __init__(self, config: LabelAwareConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        width = config.backbone.hidden_size
        self.backbone = AutoModel.from_config(config.backbone) if backbone is None else backbone
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler.requires_grad_(False)  # h is read before it: it gets no gradient
        self.classifier = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, config.num_labels),
        )
        self.logit_dropout = nn.Dropout(config.dropout if config.logit_dropout else 0.0)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The classifier starts as torch starts its layers, which the authors' code does too."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **_,
    ) -> EncoderOutput:
        """N padded texts -> class logits ``(N, C)`` and h, the unit-norm features ``(N, d)``.

        Other arguments, such as token_type_ids, which are 0 for single texts, are ignored.
        """
        inputs = {"attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        hidden = self.backbone(input_ids=input_ids, **inputs).last_hidden_state
        pooled = hidden[:, 0]
        if self.config.pooling == "mean":
            pooled = _mean_over_tokens(hidden, attention_mask)
        logits = self.logit_dropout(self.classifier(pooled))
        features = nn.functional.normalize(pooled.float(), dim=1)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return EncoderOutput(loss=loss, logits=logits, features=features)

    @cached_property
    def tokenizer(self):
        """The tokenizer saved beside the weights."""
        return AutoTokenizer.from_pretrained(self.name_or_path)

    def encode(self, texts: list[str], batch_size: int = 32) -> np.ndarray:
        """h of each text: unit-norm features ``(N, d)``, float32. ValueError for no list of strings."""
        return self._read(texts, batch_size, "features", self.config.backbone.hidden_size)

    def predict(self, texts: list[str], batch_size: int = 32) -> tuple[list[str], np.ndarray]:
        """Class names, and probabilities ``(N, C)`` in the order of `config.id2label`.

        ValueError for anything but a list of strings.
        """
        logits = self._read(texts, batch_size, "logits", self.config.num_labels)
        probabilities = torch.tensor(logits).softmax(1).numpy()
        return [self.config.id2label[int(c)] for c in probabilities.argmax(1)], probabilities

    @torch.inference_mode()
    def _read(self, texts: list[str], batch_size: int, what: str, width: int) -> np.ndarray:
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts: expected a list of strings, found {type(texts).__name__}")
        self.eval()
        rows = np.zeros((len(texts), width), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # less padding
        for start in range(0, len(texts), batch_size):
            chosen = by_length[start : start + batch_size]
            batch = [texts[i] for i in chosen]
            tokens = self.tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            output = self(**tokens.to(self.device))
            rows[chosen] = output[what].float().cpu().numpy()
        return rows


def _mean_over_tokens(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return hidden.mean(1)
    mask = attention_mask[:, :, None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)
