"""Φ as a Hugging Face model. Saved beside the weights, this file imports nothing of lclkit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class LabelAwareConfig(PreTrainedConfig):
    """Configuration of Φ. backbone: that of the pretrained encoder. pooling: "cls", the last
    layer's first token as in the paper, or "mean" over the tokens, for sentence encoders such as
    MiniLM. dropout: of the classifier; with logit_dropout of the class logits too.
    """

    model_type = "label-aware-encoder"
    sub_configs = {"backbone": AutoConfig}

    def __init__(self, backbone=None, pooling="cls", dropout=0.1, logit_dropout=False, **options):
        super().__init__(**options)
        self.backbone = AutoConfig.for_model(**backbone) if isinstance(backbone, dict) else backbone
        self.pooling = pooling
        self.dropout = dropout
        self.logit_dropout = logit_dropout


@dataclass
class EncoderOutput(ModelOutput):
    """loss: cross-entropy, where labels were given. logits: ``(N, C)``. features: ``(N, d)``."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    features: Tensor | None = None


class LabelAwareEncoderForSequenceClassification(PreTrainedModel):
    """Φ, the primary encoder: the only network used at test time (section 3.2, Figure 1)."""

    config_class = LabelAwareConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True

    def __init__(self, config: LabelAwareConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.backbone) if backbone is None else backbone
        self.backbone.pooler = None  # where there is one, h is read before it
        d = config.backbone.hidden_size
        dense, output = nn.Linear(d, d), nn.Linear(d, config.num_labels)  # section 4.2
        self.classifier = nn.Sequential(dense, nn.ReLU(), nn.Dropout(config.dropout), output)
        self.logit_dropout = nn.Dropout(config.dropout if config.logit_dropout else 0.0)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The classifier starts as torch starts its layers, which the authors' code does too."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, labels=None, **_):
        """N padded texts -> class logits ``(N, C)`` and h, the unit-norm features ``(N, d)``."""
        hidden = self.backbone(input_ids, attention_mask, inputs_embeds=inputs_embeds)[0]
        pooled = hidden[:, 0]
        if self.config.pooling == "mean":
            mask = torch.ones(hidden.shape[:2]) if attention_mask is None else attention_mask
            mask = mask[:, :, None].to(hidden)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        logits = self.logit_dropout(self.classifier(pooled))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return EncoderOutput(loss, logits, features=nn.functional.normalize(pooled.float(), dim=1))

    @cached_property
    def tokenizer(self):
        """The tokenizer saved beside the weights."""
        return AutoTokenizer.from_pretrained(self.name_or_path)

    def encode(self, texts: list[str]) -> np.ndarray:
        """h of each text: unit-norm features ``(N, d)``. ValueError for no list of strings."""
        return self._read(texts).features.numpy()

    def predict(self, texts: list[str]) -> tuple[list[str], np.ndarray]:
        """Class names, and probabilities ``(N, C)`` in the order of `config.id2label`."""
        p = self._read(texts).logits.softmax(1).numpy()
        return [self.config.id2label[int(c)] for c in p.argmax(1)], p

    @torch.inference_mode()
    def _read(self, texts: list[str]) -> EncoderOutput:
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts: expected a list of strings, found {type(texts).__name__}")
        self.eval()
        logits = torch.zeros(len(texts), self.config.num_labels)
        features = torch.zeros(len(texts), self.config.backbone.hidden_size)
        for start in range(0, len(texts), 32):
            rows = slice(start, start + 32)
            tokens = self.tokenizer(texts[rows], padding=True, truncation=True, return_tensors="pt")
            output = self(**tokens.to(self.device))
            logits[rows], features[rows] = output.logits, output.features
        return EncoderOutput(logits=logits, features=features)
