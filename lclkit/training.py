"""One loop for cross-entropy (ce), supervised contrastive (scl) and label-aware contrastive (lcl) training."""

import hashlib
import io
import json
import math
import os
import time
import timeit
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from lclkit import augment, data, losses, models, paper

CHOICES = {"loss": ("ce", "scl", "lcl"), "pooling": models.POOLINGS, "form": losses.FORMS,
           "order": ("random", "length"), "precision": ("auto", "fp32", "bf16", "fp16"),
           "augmentation": augment.RECIPES, "resample": ("once", "epoch")}
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")     # for equal numbers; read at the first product on CUDA
COLUMNS = {"phi": "p", "psi": "w"}      # network -> prefix of its probabilities in predictions.csv
RESULTS_VERSION = 2                     # raise it when the same settings would give other numbers


@dataclass(frozen=True)
class Config:
    """Settings of one run; defaults after the paper (section 4.2, appendix B), else the authors' code.

    Raises ValueError for a value that makes no sense.
    """

    loss: str = "lcl"
    seed: int = 0
    encoder: str = paper.ENCODER
    pooling: str = "cls"
    trainable_layers: int | None = None     # None: all; n: the top n, the rest frozen and run only once
    epochs: int = paper.EPOCHS
    batch_size: int = paper.BATCH_SIZE      # K texts; with their views 2K rows
    lr: float = 2e-5
    alpha: float = 0.5                      # weight of cross-entropy, Eq. 6
    temperature: float = 0.3
    form: str = "released"                  # or "printed", see lclkit.losses
    order: str = "random"                   # of the texts; "length" pads less, see _batches
    precision: str = "auto"
    augmentation: str = "paper"             # how views are made, see lclkit.augment
    resample: str = "once"                  # one view of each text for all runs; "epoch": a new one each epoch

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, found {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "lr", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        losses.joint_loss(0, 0, 0, self.alpha)      # knows what alpha may be
        if self.resample == "epoch" and self.trainable_layers is not None:
            raise ValueError("resample: frozen layers see one view only; set trainable_layers=None or resample='once'")


@dataclass(frozen=True)
class Result:
    """One finished run, as its folder holds it.

    summary: result.json (settings, scores of Phi and Psi in percent, history, versions, hashes, seconds without
    the preparation that runs share).
    predictions: predictions.csv, a row for each text of valid and test: `split`, `label`, `predicted`, Phi's
    probabilities `p_0` ... `p_{C-1}` and, for lcl, Psi's: `w_0` ... `w_{C-1}`.
    """

    folder: Path
    summary: dict
    predictions: pd.DataFrame

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read a run's folder. Raises FileNotFoundError where there is none."""
        summary = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
        return cls(Path(folder), summary, pd.read_csv(Path(folder, "predictions.csv")))

    def rows(self, split: str = "test") -> pd.DataFrame:
        return self.predictions[self.predictions.split == split].reset_index(drop=True)

    def probabilities(self, network: str = "phi", split: str = "test") -> np.ndarray:
        """Phi's or Psi's probabilities, ``(texts, C)``, in the order of the data set's texts."""
        return self.rows(split).filter(regex=f"^{COLUMNS[network]}_").to_numpy()


def train(dataset: data.Dataset, config: Config, out: str | Path = "runs") -> Result:
    """Train on a data set, choose the best epoch on validation accuracy, look at test once, write one folder.

    The folder appears under `out` when the run is complete, named after data set, loss, seed and a hash of
    everything that decides the numbers. If it is there already it is read, not run again.
    Raises FloatingPointError where the loss is no longer finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = replace(config, precision=choose_precision(device, config.precision))
    items, encoder_hash = _prepare(dataset, config, device)
    start = time.perf_counter()
    identity = {"config": asdict(config), "dataset": dataset.name, "data_hash": dataset.hash,
                "encoder_hash": encoder_hash, "device_type": device.type, "results_version": RESULTS_VERSION}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(out) / f"{dataset.name}-{config.loss}-seed{config.seed}-{key}"
    if folder.is_dir():
        print(f"{config.loss} seed {config.seed}: finished earlier, read from {folder}")
        return Result.load(folder)
    networks, history, best_epoch, speed = _fit(dataset, config, items, device)
    frames, scores = [], {}
    for split in ("valid", "test"):
        labels = getattr(dataset, split).label.to_numpy()
        p = {name: _probabilities(networks[name], items[split], device, config.precision) for name in networks}
        frame = pd.DataFrame({"split": split, "label": labels, "predicted": p["phi"].argmax(1)})
        frames.append(pd.concat([frame, *(pd.DataFrame(p[n]).add_prefix(f"{COLUMNS[n]}_") for n in p)], axis=1))
        scores |= {f"{split}_{name}": _accuracy(p[name], labels) for name in p}
    summary = {**identity, "classes": dataset.classes, "scores": scores, "best_epoch": best_epoch, "history": history,
               "parameters": sum(p.numel() for p in networks.parameters()), "texts": len(dataset.train),
               "texts_per_second": round(speed, 1), "seconds": round(time.perf_counter() - start, 1),
               "device": describe(device), **data.provenance()}
    with data.whole(folder) as unfinished:
        unfinished.mkdir()
        pd.concat(frames).to_csv(unfinished / "predictions.csv", index=False, float_format="%.6g")
        (unfinished / "result.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return Result.load(folder)


def _fit(dataset, config, items, device):
    """The training loop: the networks of the best epoch, the history, that epoch, and texts a second."""
    torch.use_deterministic_algorithms(device.type == "cuda", warn_only=True)
    torch.manual_seed(config.seed)
    phi, psi, _ = models.build(config.encoder, len(dataset.classes), config.pooling, config.trainable_layers,
                               weighting=config.loss == "lcl")
    networks = nn.ModuleDict({"phi": phi} | ({"psi": psi} if psi else {})).to(device, torch.float32)
    labels = torch.as_tensor(dataset.train.label.to_numpy())
    shuffle = torch.Generator().manual_seed(config.seed)
    steps = math.ceil(len(labels) / config.batch_size)
    optimiser, schedule = _optimiser(networks, config, steps * config.epochs)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    history, best, seconds, title = [], None, 0.0, f"{config.loss} seed {config.seed}"
    with _progress(steps * config.epochs, title) as bar:
        for epoch in range(1, config.epochs + 1):
            if config.resample == "epoch":
                views = augment.synonym_views(dataset.train.text, seed=f"{config.seed}/{epoch}",
                                              recipe=config.augmentation)
                items = items | {"views": _token_ids(models.load_tokenizer(config.encoder), views)}
            lengths = torch.tensor([max(map(len, pair)) for pair in zip(items["train"], items["views"], strict=True)])
            start, means = time.perf_counter(), {}
            networks.train()
            for step, rows in enumerate(_batches(lengths, config, shuffle), start=1):
                batch = _batch([items[some][i] for some in ("train", "views") for i in rows], device)
                terms = _step(networks, batch, labels[rows].repeat(2).to(device), config, first=(epoch, step) == (1, 1))
                values = dict(zip(terms, torch.stack([*terms.values()]).tolist(), strict=True))
                if not math.isfinite(values["loss"]):
                    raise FloatingPointError(f"{title}: the loss is {values['loss']} in epoch {epoch}, step {step}; "
                                             f"lower the learning rate (now {config.lr:g})")
                scaler.scale(terms["loss"]).backward()
                scaler.unscale_(optimiser)
                for network in networks.values():           # each apart, as the authors' code does
                    nn.utils.clip_grad_norm_(network.parameters(), paper.CLIP_NORM)
                scaler.step(optimiser)
                scaler.update()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                means = {name: means.get(name, 0) + value / steps for name, value in values.items()}
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                bar.update()
            seconds += time.perf_counter() - start
            scores = {f"valid_{name}": _accuracy(_probabilities(network, items["valid"], device, config.precision),
                                                 dataset.valid.label) for name, network in networks.items()}
            history.append({"epoch": epoch, **means, **scores})
            if best is None or scores["valid_phi"] > best[0]:
                state = {name: value.detach().clone() for name, value in networks.state_dict().items()}
                best = scores["valid_phi"], epoch, state
    networks.load_state_dict(best[2])
    return networks, history, best[1], len(labels) * config.epochs / seconds


def _step(networks, batch: dict[str, Tensor], labels: Tensor, config: Config, first: bool) -> dict[str, Tensor]:
    """The loss terms of one batch of 2K rows: K texts, then their K views (Figure 1, Eq. 6)."""
    with _autocast(labels.device, config.precision):
        features, logits = networks["phi"](batch)
        terms = {"ce_encoder": cross_entropy(logits.float(), labels)}                               # L_e
        if config.loss == "ce":
            return {"loss": terms["ce_encoder"], **terms}
        if config.loss == "scl":
            terms["contrastive"] = losses.scl_loss(features, labels, config.temperature, validate=first)
        else:
            psi_logits = networks["psi"](batch).float()
            terms["ce_weighting"] = cross_entropy(psi_logits, labels)                               # L_w
            terms["contrastive"] = losses.lcl_loss(features, labels, psi_logits.log_softmax(1), config.temperature,
                                                   config.form, validate=first)                     # L_LCL
        joint = losses.joint_loss(terms["ce_encoder"], terms.get("ce_weighting", 0), terms["contrastive"], config.alpha)
        return {"loss": joint, **terms}                                                             # L_f


def _batches(lengths: Tensor, config: Config, shuffle: torch.Generator) -> list[Tensor]:
    """Row numbers, batch by batch. "random" is a plain shuffle. "length" sorts every 20 shuffled batches by length
    before it cuts them, then shuffles the batches: less padding, but texts meet others of their length more often."""
    rows = torch.randperm(len(lengths), generator=shuffle)
    if config.order == "random":
        return list(rows.split(config.batch_size))
    runs = [run[lengths[run].argsort(stable=True)] for run in rows.split(20 * config.batch_size)]
    batches = [batch for run in runs for batch in run.split(config.batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=shuffle)]


def _optimiser(networks, config, steps):
    """AdamW without decay for biases and layer norms, and a linear decay of the rate to 0 (the authors' code)."""
    groups = {True: [], False: []}
    for name, parameter in networks.named_parameters():
        groups[name.endswith("bias") or "LayerNorm" in name].append(parameter)
    optimiser = torch.optim.AdamW([{"params": groups[False]}, {"params": groups[True], "weight_decay": 0.0}],
                                  lr=config.lr, **paper.ADAM, fused=True)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / steps))


def choose_precision(device: torch.device, precision: str = "auto") -> str:
    """"auto": on CUDA bf16 from compute capability 8.0, else fp16; on CPU bf16 only where it is faster."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    return "bf16" if _bf16_is_faster() else "fp32"


@cache
def _bf16_is_faster() -> bool:
    """A short timed product: a CPU without native bf16 is about ten times slower in it than in fp32."""
    a, b = torch.ones(512, 384), torch.ones(384, 1536)
    products = [partial(torch.mm, a, b), partial(torch.mm, a.bfloat16(), b.bfloat16())]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)        # and the thread's own time: a busy machine must not change the answer
    fp32, bf16 = (min(timeit.repeat(product, timer=time.thread_time, number=2, repeat=8)) for product in products)
    torch.set_num_threads(threads)
    return bf16 < 0.8 * fp32


_prepared: dict[tuple, tuple] = {}      # of the last data set and encoder: the runs of a notebook share it


def _prepare(dataset, config, device) -> tuple[dict[str, list[Tensor]], str]:
    """What the networks read for `train`, its `views`, `valid` and `test`, one tensor a text: token ids ``(tokens,)``,
    or the frozen layers' output ``(tokens, d)``; and the hash of the pretrained weights."""
    key = (dataset.hash, config.encoder, config.trainable_layers, config.precision, config.augmentation, device)
    if key not in _prepared:
        tokenizer = models.load_tokenizer(config.encoder)
        torch.manual_seed(0)        # weights that a checkpoint lacks must not change its hash
        phi, _, stem = models.build(config.encoder, len(dataset.classes), config.pooling, config.trainable_layers,
                                    weighting=False)
        weights = nn.ModuleDict({"top": phi.backbone} | ({"stem": stem} if stem else {})).state_dict()
        texts = {split: list(getattr(dataset, split).text) for split in data.SPLITS}
        texts["views"] = augment.synonym_views(texts["train"], recipe=config.augmentation)
        items = {name: _token_ids(tokenizer, some) for name, some in texts.items()}
        if stem:
            stem.to(device, torch.float32)
            items = {name: _in_batches(lambda batch: stem(**batch).last_hidden_state, some, device, config.precision)
                     for name, some in items.items()}
        _prepared.clear()
        _prepared[key] = items, hashlib.sha256(safetensors.torch.save(weights)).hexdigest()
    return _prepared[key]


def _token_ids(tokenizer, texts: list[str]) -> list[Tensor]:
    return [torch.tensor(ids) for ids in tokenizer(texts, truncation=True, max_length=512)["input_ids"]]


def _batch(items: list[Tensor], device: torch.device) -> dict[str, Tensor]:
    padded = nn.utils.rnn.pad_sequence(items, batch_first=True)     # the padding is masked, so its value is nothing
    mask = torch.arange(padded.shape[1]) < torch.tensor([[len(item)] for item in items])
    name = "input_ids" if items[0].ndim == 1 else "inputs_embeds"
    return {name: padded.to(device), "attention_mask": mask.long().to(device)}


@torch.no_grad()
def _in_batches(function, items: list[Tensor], device, precision, size: int = 128) -> list[Tensor]:
    """Run `function` on batches of similar length; one float32 tensor a text, without padding, in given order."""
    order, results = sorted(range(len(items)), key=lambda i: len(items[i])), [None] * len(items)
    for start in range(0, len(order), size):
        rows = order[start:start + size]
        with _autocast(device, precision):
            output = function(_batch([items[i] for i in rows], device)).float().cpu()
        for i, result in zip(rows, output, strict=True):
            results[i] = result[:len(items[i])].clone() if result.ndim > 1 else result
    return results


def _probabilities(network: nn.Module, items: list[Tensor], device, precision) -> np.ndarray:
    """Softmax over classes for every text, ``(texts, C)``; Phi gives features and logits, Psi logits alone."""
    def logits(batch):
        output = network(batch)
        return output[1] if isinstance(output, tuple) else output

    network.eval()
    return torch.stack(_in_batches(logits, items, device, precision)).softmax(1).numpy()


def _accuracy(probabilities, labels) -> float:
    """Top-1 accuracy in percent, as the paper prints it."""
    return round(100 * float((np.asarray(probabilities).argmax(1) == np.asarray(labels)).mean()), 4)


def _autocast(device: torch.device, precision: str):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _progress(total: int, title: str) -> tqdm:
    """A bar with loss and time left; in a notebook it is one line that is updated, with no widget behind it."""
    from IPython import display, get_ipython

    if not hasattr(get_ipython(), "kernel"):
        return tqdm(total=total, desc=title, dynamic_ncols=True)
    handle = display.display({"text/plain": title}, raw=True, display_id=True)
    line = io.StringIO()
    line.write = lambda text: text.strip() and handle.update({"text/plain": text.strip()}, raw=True)
    return tqdm(total=total, desc=title, file=line, ascii=" #", ncols=90, mininterval=0.5)
