"""Φ as a Hugging Face model. Saved beside the weights, this file imports nothing of lclkit."""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import trange
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

HUB = ("revision", "token", "cache_dir", "subfolder")  # what says where a model comes from


class LabelAwareConfig(PreTrainedConfig):
    """Configuration of Φ. pooling: "cls", the last layer's first token as in the paper, or "mean"
    over the tokens, as in MiniLM. dropout: of the classifier; with logit_dropout of its logits too.
    """

    model_type = "label-aware-encoder"
    sub_configs = {"backbone": AutoConfig}

    def __init__(self, backbone=None, pooling="cls", dropout=0.1, logit_dropout=False, **options):
        super().__init__(pooling=pooling, dropout=dropout, logit_dropout=logit_dropout, **options)
        self.label2id = {name: number for number, name in self.id2label.items()}
        if pooling not in ("cls", "mean") or len(self.label2id) < len(self.id2label):
            raise ValueError(f"config: expected pooling cls or mean, not {pooling}; no class twice")
        self.backbone = AutoConfig.for_model(**backbone) if isinstance(backbone, dict) else backbone


def check(network: PreTrainedModel, tokenizer, wrong: set[str], part: str = "") -> None:
    """ValueError for weights of a part that are wrong or not finite, or another's tokenizer."""
    wrong = wrong | {name for name, w in network.named_parameters() if not w.isfinite().all()}
    wrong = sorted(name for name in wrong if name.startswith(part) and "pooler" not in name)
    size = len(network.get_input_embeddings().weight)
    # Where its files are missing, transformers makes a tokenizer of the special tokens alone.
    if tokenizer and (tokenizer.pad_token is None or not size / 2 < len(tokenizer) <= size):
        wrong = ["the tokenizer (its words, or its padding token)"]
    if wrong:
        raise ValueError(f"{network.name_or_path}: damaged, or another's: {', '.join(wrong[:3])}")


@dataclass
class EncoderOutput(SequenceClassifierOutput):
    """loss: cross-entropy, where labels were given. logits: ``(N, C)``. features: ``(N, d)``."""

    features: Tensor | None = None


class LabelAwareEncoderForSequenceClassification(PreTrainedModel):
    """Φ, the primary encoder: the only network used at test time (section 3.2, Figure 1)."""

    config_class = LabelAwareConfig
    tokenizer = None  # the one that is saved beside the weights
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

    @classmethod
    def from_pretrained(cls, folder, *more, output_loading_info=False, **options):
        """As transformers does it. ValueError where weights or tokenizer are not whole."""
        model, found = super().from_pretrained(folder, *more, output_loading_info=True, **options)
        with contextlib.suppress(OSError, ValueError):  # beside weights alone there is none
            hub = {name: options[name] for name in HUB if name in options}
            model.tokenizer = AutoTokenizer.from_pretrained(folder, **hub, trust_remote_code=False)
        check(model, model.tokenizer, found["missing_keys"] | found["unexpected_keys"])
        return (model, found) if output_loading_info else model

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

    def encode(self, texts: list[str]) -> np.ndarray:
        """h of each text: unit-norm features ``(N, d)``. ValueError for no list of strings."""
        return self._read(texts).features.numpy()

    def predict(self, texts: list[str]) -> tuple[list[str], np.ndarray]:
        """Class names, and probabilities ``(N, C)`` in the order of `config.id2label`."""
        p = self._read(texts).logits.softmax(1).numpy()
        return [self.config.id2label[int(c)] for c in p.argmax(1)], p

    @torch.inference_mode()
    def _read(self, texts: list[str]) -> EncoderOutput:
        if self.tokenizer is None:
            raise ValueError(f"no tokenizer lies beside the weights in {self.name_or_path}")
        texts = texts.tolist() if hasattr(texts, "tolist") else texts  # of NumPy or pandas
        if not isinstance(texts, list | tuple):
            raise ValueError(f"texts: expected a list of strings; found {type(texts).__name__}")
        for row, text in enumerate(texts):
            if not isinstance(text, str) or text.encode(errors="ignore").decode() != text:
                raise ValueError(f"texts: expected strings of Unicode; row {row} is {text!r:.60}")
        self.eval()
        logits = torch.zeros(len(texts), self.config.num_labels)
        features = torch.zeros(len(texts), self.config.backbone.hidden_size)
        for start in trange(0, len(texts), 32, disable=len(texts) < 1000, desc="batches"):
            rows = slice(start, start + 32)
            tokens = self.tokenizer(texts[rows], padding=True, truncation=True, return_tensors="pt")
            output = self(**tokens.to(self.device))
            logits[rows], features[rows] = output.logits, output.features
        return EncoderOutput(logits=logits, features=features)
