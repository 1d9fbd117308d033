"""What goes into the networks and what comes out: texts, views and labels as padded batches."""

import contextlib
import json
import os
import time
from hashlib import sha256

import pooch
import torch
import transformers
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from lclkit import augment, data, files, models
from lclkit.results import RESULTS_VERSION

FROZEN = pooch.os_cache("lclkit") / "frozen"  # hidden states, which many runs have in common


class Texts(Dataset):
    """What the networks read; as a data set, each training text with its view, and its label.

    items: of "train", "views" (or none), "valid" and "test", for each text its token ids
    ``(tokens,)`` or, where layers are frozen, hidden states ``(tokens, d)``. labels: ``(N,)`` each.
    """

    def __init__(self, items: dict[str, list[Tensor]], labels: dict[str, Tensor]):
        self.items = items
        self.labels = labels
        self.sides = [items[name] for name in ("train", "views") if name in items]

    def __len__(self) -> int:
        return len(self.labels["train"])

    def __getitem__(self, row: int) -> tuple[list[Tensor], Tensor]:
        return [side[row] for side in self.sides], self.labels["train"][row]


def prepare(dataset: data.Dataset, config, pretrained: models.Pretrained, stem) -> Texts:
    """Make views, tokenize, run the frozen `stem` if any: once for all epochs."""
    texts = {split: list(getattr(dataset, split).text) for split in data.SPLITS}
    if config.augmentation != "none":
        views = augment.synonym_views(texts["train"], config.replaced, recipe=config.augmentation)
        texts["views"] = views
    items = {}
    for name, part in texts.items():
        with models.quiet():  # of tokenizers that set no limit
            ids = pretrained.tokenizer(part, truncation=True)["input_ids"]
        items[name] = [torch.tensor(text) for text in ids]
        if stem is not None:
            items[name] = _frozen(items[name], (pretrained.hash, config.trainable_layers), stem)
    labels = {name: torch.tensor(getattr(dataset, name).label.to_numpy()) for name in data.SPLITS}
    return Texts(items, labels)


def _frozen(items: list[Tensor], about: tuple, stem: nn.Module) -> list[Tensor]:
    """What the stem makes of token ids, kept on disk for runs of other losses and seeds.

    about: which stem it is. Another library, kind of device or number of threads, which would
    differ in the last digits, has files of its own.
    """
    ids, lengths, device = torch.cat(items), [len(item) for item in items], PartialState().device
    about += (RESULTS_VERSION, torch.__version__, transformers.__version__, str(device))
    about += (torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), lengths)
    key = sha256(json.dumps(about).encode() + ids.numpy().tobytes()).hexdigest()
    file = FROZEN / f"{key[:32]}.safetensors"
    try:
        states = load_file(file)["states"]
        os.utime(file)
    except (OSError, SafetensorError):  # not there yet, or damaged
        said = zip(_run(stem.to(device), items), lengths, strict=True)
        states = torch.cat([text["last_hidden_state"][:n] for text, n in said])
        with contextlib.suppress(OSError, SafetensorError):  # a full disk, or another's folder
            with files.whole(file) as new:
                save_file({"states": states}, new)
            _sweep()
    return list(states.split(lengths))


def _sweep(bytes_kept: int = 4 * 10**9, days: int = 7) -> None:
    """Of the hidden states on disk, remove those not used of late, and the oldest if too large."""
    oldest = time.time() - days * 86_400
    for file in sorted(FROZEN.iterdir(), key=lambda file: -file.stat().st_mtime):
        bytes_kept -= file.stat().st_size
        if bytes_kept < 0 or file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)


def collate(pairs: list[tuple[list[Tensor], Tensor]]) -> dict[str, Tensor]:
    """2K rows: K texts, then their K views; row i and row i + K have one label."""
    items, labels = zip(*pairs, strict=True)
    rows = [item for side in zip(*items, strict=True) for item in side]
    return padded(rows) | {"labels": torch.stack(labels).repeat(len(rows) // len(pairs))}


def padded(items: list[Tensor]) -> dict[str, Tensor]:
    """Token ids or hidden states, padded to the longest; the padding is masked."""
    values = nn.utils.rnn.pad_sequence(items, batch_first=True)
    ones = [torch.ones(len(item), dtype=torch.long) for item in items]
    mask = nn.utils.rnn.pad_sequence(ones, batch_first=True)
    name = "input_ids" if values.ndim == 2 else "inputs_embeds"
    return {name: values, "attention_mask": mask}


class Batches(list):
    """A process's share of the rows of each batch; `batches` has them whole.

    config: a `training.Config`; order "length" sorts every 20 shuffled batches by length: less
    padding, but texts meet others of their length more often.
    """

    def __init__(self, texts: Texts, config, share: slice = slice(None)):
        self.lengths = torch.tensor([max(map(len, row)) for row in zip(*texts.sides, strict=True)])
        self.config = config
        self.share = share
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw all from the seed and the number of the epoch, which counts from 0."""
        size, by_length = self.config.batch_size, self.config.order == "length"
        random = torch.Generator().manual_seed(1000 * self.config.seed + epoch)
        rows = torch.randperm(len(self.lengths), generator=random)
        if by_length:
            parts = rows.split(20 * size)
            rows = torch.cat([part[self.lengths[part].argsort(stable=True)] for part in parts])
        batches = rows.split(size)
        if self.config.drop_last and len(batches) > 1 and len(batches[-1]) < size:
            batches = batches[:-1]
        if by_length:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=random)]
        self.batches = [batch.tolist() for batch in batches]
        self[:] = [batch[self.share] for batch in self.batches]


def outputs(network: nn.Module, items: list[Tensor], precision: str = "fp32") -> dict[str, Tensor]:
    """What a network says of texts, without dropout: `logits` ``(texts, C)`` and, of Φ,
    `features` ``(texts, d)``, in float32. Scores that are reported take precision "fp32"."""
    said = _run(network, items, precision)
    return {name: torch.stack([text[name] for text in said]) for name in said[0]}


@torch.no_grad()
def _run(network: nn.Module, items: list[Tensor], precision: str = "fp32") -> list[dict]:
    """What comes out, by text; texts of like length, which pad little, share a batch."""
    network.eval()
    device = next(network.parameters()).device
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    by_length = torch.tensor([len(item) for item in items]).argsort(stable=True)
    said = [{} for _ in items]
    for rows in by_length.split(32 if device.type == "cpu" else 128):  # as a CPU's caches like it
        batch = padded([items[row] for row in rows])
        batch = {name: value.to(device) for name, value in batch.items()}
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            output = network(**batch)
        for name in {"logits", "features", "last_hidden_state"} & output.keys():
            for row, value in zip(rows, output[name].float().cpu(), strict=True):
                said[row][name] = value
    return said
