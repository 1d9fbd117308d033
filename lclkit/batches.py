"""What goes into the networks and what comes out: texts, views and labels as padded batches."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from lclkit import augment, data, models

Batch = dict[str, Tensor]  # inputs of a network; the padding is masked


class Texts(Dataset):
    """What the networks read, one tensor a text: token ids ``(tokens,)``, or what the frozen layers
    make of them, ``(tokens, d)``. As a data set: each training text with its view, and its label.

    items: "train", "views" (unless there are none), "valid" and "test". labels: by split, ``(N,)``.
    """

    def __init__(self, items: dict[str, list[Tensor]], labels: dict[str, Tensor]):
        self.items = items
        self.labels = labels
        self.sides = [items[name] for name in ("train", "views") if name in items]

    def __len__(self) -> int:
        return len(self.labels["train"])

    def __getitem__(self, row: int) -> tuple[list[Tensor], Tensor]:
        return [side[row] for side in self.sides], self.labels["train"][row]


_prepared: dict[tuple, Texts] = {}  # the last one: the runs of a notebook share it


def prepare(
    dataset: data.Dataset,
    config,
    pretrained: models.Pretrained,
    stem: nn.Module | None,
    device: torch.device,
) -> Texts:
    """Make views, tokenize, run the frozen layers: once for all epochs, and for runs in a row.

    config: a `training.Config`. pretrained, stem: as `models.build` took and made them.
    """
    wording = (config.augmentation, config.replaced)
    key = (dataset.hash, pretrained.hash, config.trainable_layers, device, wording)
    if key in _prepared:
        return _prepared[key]
    frames = {split: getattr(dataset, split) for split in data.SPLITS}
    texts = {split: list(frame.text) for split, frame in frames.items()}
    if config.augmentation != "none":
        train, share = texts["train"], config.replaced
        texts["views"] = augment.synonym_views(train, share, recipe=config.augmentation)
    items = {}
    for name, part in texts.items():
        with models.quiet():  # of tokenizers that set no limit
            ids = pretrained.tokenizer(part, truncation=True)["input_ids"]
        items[name] = [torch.tensor(text) for text in ids]
        if stem is not None:
            items[name] = _hidden_states(stem.to(device), items[name], device)
    labels = {split: torch.tensor(frame.label.to_numpy()) for split, frame in frames.items()}
    _prepared.clear()
    _prepared[key] = Texts(items, labels)
    return _prepared[key]


def collate(pairs: list[tuple[list[Tensor], Tensor]]) -> Batch:
    """2K rows: K texts, then their K views; row i and row i + K have one label."""
    items, labels = zip(*pairs, strict=True)
    sides = list(zip(*items, strict=True))
    rows = [item for side in sides for item in side]
    return padded(rows) | {"labels": torch.stack(labels).repeat(len(sides))}


def padded(items: list[Tensor]) -> Batch:
    """Token ids or hidden states, padded to the longest."""
    values = nn.utils.rnn.pad_sequence(items, batch_first=True)
    lengths = torch.tensor([len(item) for item in items])
    mask = torch.arange(values.shape[1]) < lengths[:, None]
    name = "input_ids" if values.ndim == 2 else "inputs_embeds"
    return {name: values, "attention_mask": mask.long()}


class Batches(Sampler):
    """Row numbers of each batch, drawn from the seed and the number of the epoch.

    order: "random" is a plain shuffle. "length" sorts every 20 shuffled batches by length before it
    cuts them, then shuffles the batches: less padding, but texts meet others of their length more
    often. share: of each batch, that of one process.
    """

    def __init__(
        self, texts: Texts, size: int, order: str, drop_last: bool, seed: int, share: slice
    ):
        pairs = zip(*texts.sides, strict=True)
        self.lengths = torch.tensor([max(len(item) for item in pair) for pair in pairs])
        self.size = size
        self.order = order
        self.drop_last = drop_last
        self.seed = seed
        self.share = share
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of an epoch, which counts from 0."""
        random = torch.Generator().manual_seed(1000 * self.seed + epoch)
        rows = torch.randperm(len(self.lengths), generator=random)
        if self.order == "length":
            parts = rows.split(20 * self.size)
            rows = torch.cat([part[self.lengths[part].argsort(stable=True)] for part in parts])
        batches = list(rows.split(self.size))
        if self.drop_last and len(batches) > 1 and len(batches[-1]) < self.size:
            batches.pop()
        if self.order == "length":
            batches = [batches[i] for i in torch.randperm(len(batches), generator=random)]
        self.batches = [batch.tolist() for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self.share] for batch in self.batches)


@torch.no_grad()
def outputs(
    network: nn.Module, items: list[Tensor], device: torch.device, precision: str = "fp32"
) -> dict[str, Tensor]:
    """What a network says of texts, without dropout: `logits` ``(texts, C)`` and, of Φ,
    `features` ``(texts, d)``, in float32. Scores that are reported take precision "fp32"."""
    network.to(device).eval()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    order, parts = [], []
    for rows, batch in _by_length(items, device):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            parts.append(network(**batch))
        order += rows
    names = [name for name in ("logits", "features") if name in parts[0]]
    back = torch.tensor(order).argsort()
    return {n: torch.cat([part[n] for part in parts]).float().cpu()[back] for n in names}


@torch.no_grad()
def _hidden_states(stem: nn.Module, items: list[Tensor], device: torch.device) -> list[Tensor]:
    """The frozen layers' output for each text, ``(tokens, d)``, without padding."""
    hidden = {}
    for rows, batch in _by_length(items, device):
        states = stem(**batch).last_hidden_state.cpu()
        for row, state in zip(rows, states, strict=True):
            hidden[row] = state[: len(items[row])].clone()
    return [hidden[row] for row in range(len(items))]


def _by_length(items: list[Tensor], device: torch.device) -> Iterator[tuple[list[int], Batch]]:
    """Batches of similar length, which pad little: row numbers and inputs."""
    size = 32 if device.type == "cpu" else 128  # texts; more would not fit into a CPU's caches
    order = sorted(range(len(items)), key=lambda row: len(items[row]))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        batch = padded([items[row] for row in rows])
        yield rows, {name: value.to(device) for name, value in batch.items()}
