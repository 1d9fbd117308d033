"""Training with cross-entropy (ce), supervised contrastive (scl) or label-aware contrastive loss
(lcl). Devices, precision, processes and checkpoints are `transformers.Trainer`'s."""

import contextlib
import hashlib
import io
import json
import math
import shutil
import sys
import time
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import yaml
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from lclkit import analysis, batches, data, files, losses, models
from lclkit.results import PREFIXES, SPLITS, Result

RESULTS_VERSION = 4  # raise it when the same settings would give other numbers
TERMS = ("loss", "ce_encoder", "ce_weighting", "contrastive")  # of Eq. 6
WINDOWS = 50  # of an epoch, at most: rows of history.csv
# Of TrainingArguments: how training runs, and not what is trained.
OPTIONS = ("gradient_checkpointing", "torch_compile", "torch_compile_backend", "torch_compile_mode")
OPTIONS += ("report_to", "run_name")
LEAST = dict.fromkeys(("epochs", "batch_size", "accumulate", "patience"), 1)
LEAST |= dict.fromkeys(("lr", "temperature", "adam_epsilon", "clip_norm"), sys.float_info.min)
SHARES = ("alpha", "dropout", "replaced", "weight_decay", "adam_beta1", "adam_beta2")
OUT_OF_MEMORY = (
    "the memory of {} does not suffice for batches of {} texts with their views. What helps: "
    "gradient_checkpointing=True (a third slower, the same numbers); a smaller batch_size with "
    "accumulate (the contrastive loss then sees fewer negatives); precision='bf16'; "
    "trainable_layers=2 (trains the top two layers only); a smaller encoder"
)


@dataclass(frozen=True)
class Config:
    """Settings of one run: every hyper-parameter is a field, and all of them name the run.

    The defaults are the recipe "released": what the authors' code does, which produced the paper's
    numbers. `paper.settings` has both recipes and says where the fields they differ in come from.
    Raises ValueError for a value that makes no sense.
    """

    loss: Literal["ce", "scl", "lcl"] = "lcl"
    seed: int = 0
    encoder: str = "google/electra-base-discriminator"  # section 4.2
    pooling: Literal["cls", "mean"] = "cls"
    trainable_layers: int | None = None  # None: all; n: the top n, the rest frozen and run once
    epochs: int = 5
    patience: int | None = None  # stop after so many epochs without a better validation accuracy
    batch_size: int = 10  # K texts, with their views 2K rows; of all processes together
    accumulate: int = 1  # batches a step; the contrastive loss compares within a batch only
    lr: float = 2e-5
    weight_decay: float = 1e-2  # appendix B, like the next three
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-6
    eps_placement: Literal["before", "after"] = "before"  # the bias correction; torch: after
    clip_norm: float = 1.0  # each network apart, as in the authors' code
    dropout: float = 0.1  # of layers and classifiers, section 4.2
    logit_dropout: bool = True  # on Φ's class logits too
    alpha: float = 0.5  # weight of cross-entropy, Eq. 6
    temperature: float = 0.3
    form: Literal["released", "printed"] = "released"  # see lclkit.losses
    reduction: Literal["mean", "sum"] = "mean"  # of the contrastive term, Eq. 4
    detach_weights: bool = False  # True: the contrastive term does not train Ψ
    drop_last: bool = True  # leave out the last batch of an epoch if it is short
    order: Literal["random", "length"] = "random"  # of the texts, see `Batches`
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augmentation: Literal["released", "paper", "none"] = "released"  # see lclkit.augment
    replaced: float = 0.3  # share of words replaced in a view, section 4.2

    def __post_init__(self):
        for name, kind in typing.get_type_hints(Config).items():
            value, low = getattr(self, name), LEAST.get(name, -math.inf)
            if typing.get_origin(kind) is Literal:
                fits, expected = value in typing.get_args(kind), f"one of {typing.get_args(kind)}"
            else:
                fits = isinstance(value, (int, float) if kind is float else kind)
                fits = fits and isinstance(value, bool) is (kind is bool)
                expected = kind.__name__ if isinstance(kind, type) else str(kind)
            if not fits:
                raise ValueError(f"{name}: expected {expected}, found {value!r}")
            if name in SHARES and not 0 <= value <= 1:
                raise ValueError(f"{name}: expected 0 to 1, found {value}")
            if name in LEAST and value is not None and not low <= value < math.inf:
                raise ValueError(f"{name}: expected a number above 0, found {value}")


def parse_changes(text: str) -> dict:
    """Fields of `Config` in one string, as a notebook's parameter holds them.

    text: such as "form: printed, lr: 3e-5". Raises ValueError for what is no such list, an unknown
    field or a value that `Config` refuses.
    """
    kinds = typing.get_type_hints(Config)
    try:
        changes = yaml.safe_load(f"{{{text}}}")
    except yaml.YAMLError:
        expected = "expected something like 'form: printed, lr: 3e-5'"
        raise ValueError(f"changes: {expected}, found {text!r}") from None
    for name, value in changes.items():
        if name not in kinds:
            raise ValueError(f"changes: {name!r} is no setting; there are: {', '.join(kinds)}")
        if kinds[name] is float and type(value) in (int, str):
            with contextlib.suppress(ValueError):
                changes[name] = float(value)  # YAML takes 3e-5 for a word
    try:
        Config(**changes)
    except ValueError as error:
        raise ValueError(f"changes: {error}") from None
    return changes


def train(
    dataset: data.Dataset,
    config: Config,
    out: str | Path = "runs",
    save: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    **options,
) -> Result:
    """Train, choose the best epoch by Φ's validation accuracy, look at test once, write a folder.

    The folder appears under `out` when the run is complete, named after data set, loss, seed and a
    hash of `identity`; what it holds says `Result`. If it is there it is read, not run again. A run
    that was killed goes on after its last finished epoch, on a CPU to the very same numbers; on a
    GPU sums may round differently each time.
    save: keep the trained Φ in the folder's `model`, which
        `AutoModelForSequenceClassification.from_pretrained` opens.
    callbacks: further ones for Trainer. What they add to its `state.log_history` is kept in the
        folder's trainer_state.json.
    options: any of `OPTIONS`, as `transformers.TrainingArguments` has them.
    Several processes (``accelerate launch``) share the batches, and their negatives.
    Raises ValueError for a wrong option, FloatingPointError where the loss is not finite, and
    MemoryError, saying what would help, where the device's memory does not suffice.
    """
    processes = PartialState(cpu=not torch.cuda.is_available())
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"{name}: expected a field of Config, or one of {', '.join(OPTIONS)}")
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision: expected fp32 or bf16, for fp16 needs a GPU")
    encoder = models.open_encoder(config.encoder)
    about = identity(dataset, config, encoder)
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(out).absolute() / f"{dataset.name}-{config.loss}-seed{config.seed}-{key}"
    title = f"{config.loss} seed {config.seed}"
    if folder.is_dir() and (not save or (folder / "model").is_dir()):
        if processes.is_main_process:
            print(f"{title}: finished earlier, read from {Path(out) / folder.name}")
        return Result.load(folder)

    work = folder.with_name(f".{folder.name}.unfinished")
    work.mkdir(parents=True, exist_ok=True)  # what cannot be written is found before the first step
    torch.use_deterministic_algorithms(processes.device.type == "cuda", warn_only=True)
    networks, stem = build(dataset, config, encoder)
    try:
        texts = prepare(dataset, config, encoder, stem, processes.device)
        trainer = LabelAwareTrainer(networks, config, texts, work, title, callbacks, **options)
        with models.quiet():
            trainer.train_or_go_on()
        tables, scores = _evaluated(trainer)
    except torch.cuda.OutOfMemoryError as error:
        advice = OUT_OF_MEMORY.format(describe(processes.device), config.batch_size)
        raise MemoryError(f"{title}: {advice}") from error
    if processes.is_main_process:
        summary = about | trainer.summary() | {"classes": dataset.classes, "scores": scores}
        for name, table in tables.items():
            table.to_csv(work / f"{name}.csv", index=False, float_format="%.6g")
        (work / "result.json").write_text(json.dumps(summary | {"options": options}, indent=1))
        trainer.state.save_to_json(str(work / "trainer_state.json"))
        if save:
            phi, names = models.whole(networks.phi, stem), ", ".join(dataset.classes)
            settings = json.dumps(summary["config"], indent=1)
            card = summary | {"dataset": dataset, "names": names, "settings": settings}
            models.save(phi, encoder.tokenizer, work / "model", **card)
        for checkpoint in work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        if folder.is_dir():  # it had all but the model
            (work / "model").replace(folder / "model")
            shutil.rmtree(work)
        else:
            work.replace(folder)
    processes.wait_for_everyone()
    return Result.load(folder)


def identity(dataset: data.Dataset, config: Config, encoder: models.Pretrained) -> dict:
    """What decides the numbers of a run; a hash of it ends the name of the run's folder."""
    return {
        "config": asdict(config),
        "dataset": dataset.name,
        "data_hash": dataset.hash,
        "encoder_hash": encoder.hash,
        "results_version": RESULTS_VERSION,
    }


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


class Networks(nn.Module):
    """Φ and, for lcl, Ψ as the one model that Trainer trains."""

    def __init__(self, phi: nn.Module, psi: nn.Module | None):
        super().__init__()
        self.phi = phi
        if psi is not None:
            self.psi = psi

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """2K rows -> h ``(2K, d)``, Φ's logits and, for lcl, Ψ's ``(2K, C)``."""
        encoded = self.phi(**inputs)
        outputs = {"features": encoded.features, "logits": encoded.logits}
        if hasattr(self, "psi"):
            outputs["psi_logits"] = self.psi(**inputs).logits
        return outputs

    def gradient_checkpointing_enable(self, **options) -> None:
        for network in self.children():
            network.gradient_checkpointing_enable(**options)


def build(
    dataset: data.Dataset, config: Config, encoder: models.Pretrained
) -> tuple[Networks, nn.Module | None]:
    """The networks of a run as they are before its first step, and the frozen stem or None."""
    torch.manual_seed(config.seed)
    names = ("pooling", "dropout", "logit_dropout", "trainable_layers")
    settings = {name: getattr(config, name) for name in names}
    phi, psi, stem = models.build(encoder, dataset.classes, **settings)
    return Networks(phi, psi if config.loss == "lcl" else None), stem


def loss_terms(
    outputs: dict[str, Tensor], labels: Tensor, config: Config, **options: bool
) -> dict[str, Tensor]:
    """The terms of Eq. 6 and, as `loss`, what they add up to, for a batch of 2K rows.

    outputs: of `Networks`. labels: ``(2K,)``. options: `gather` and `validate` of the losses.
    """
    l_e = cross_entropy(outputs["logits"].float(), labels)
    if config.loss == "ce":
        return {"loss": l_e, "ce_encoder": l_e}
    h = outputs["features"]
    options |= {"reduction": config.reduction}
    if config.loss == "scl":
        l_scl = losses.scl_loss(h, labels, config.temperature, **options)
        l_f = losses.joint_loss(l_e, 0, l_scl, config.alpha)
        return {"loss": l_f, "ce_encoder": l_e, "contrastive": l_scl}
    psi_logits = outputs["psi_logits"].float()
    log_w = psi_logits.log_softmax(1)  # Eq. 5
    l_w = cross_entropy(psi_logits, labels)
    options |= {"detach_weights": config.detach_weights}
    l_lcl = losses.lcl_loss(h, labels, log_w, config.temperature, config.form, **options)
    l_f = losses.joint_loss(l_e, l_w, l_lcl, config.alpha)
    return {"loss": l_f, "ce_encoder": l_e, "ce_weighting": l_w, "contrastive": l_lcl}


_prepared: dict[tuple, batches.Texts] = {}  # the last one: the runs of a notebook share it


def prepare(
    dataset: data.Dataset,
    config: Config,
    encoder: models.Pretrained,
    stem: nn.Module | None,
    device: torch.device,
) -> batches.Texts:
    """`batches.prepare`, or what it made for the run before this one, of the same contents."""
    wording = (config.augmentation, config.replaced)
    key = (dataset.hash, encoder.hash, config.trainable_layers, device, *wording)
    if key not in _prepared:
        _prepared.clear()
        _prepared[key] = batches.prepare(dataset, encoder, stem, device, *wording)
    return _prepared[key]


class LabelAwareTrainer(Trainer):
    """`transformers.Trainer` with the loss of Eq. 6; each network is clipped, and validated."""

    def __init__(
        self,
        networks: Networks,
        config: Config,
        texts: batches.Texts,
        folder: Path,
        title: str = "",
        callbacks: Sequence[TrainerCallback] = (),
        **options,
    ):
        self.config = config
        self.texts = texts
        self.title = title
        self.unlogged = []  # loss terms of the steps since the last log
        self.rows = []  # loss terms of the steps of this epoch, as numbers
        own = [EachStep(self), ProgressLine(title)]
        if config.patience is not None:
            own.append(EarlyStoppingCallback(config.patience))
        settings = {"args": _arguments(config, folder, **options), "callbacks": [*own, *callbacks]}
        super().__init__(networks, train_dataset=texts, eval_dataset=texts, **settings)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        rank, processes = self.args.process_index, self.args.world_size
        if config.batch_size % processes:
            expected = f"a multiple of {processes}, the number of processes"
            raise ValueError(f"batch_size: expected {expected}; found {config.batch_size}")
        self.batches = batches.Batches(
            texts,
            config.batch_size,
            config.order,
            config.drop_last or processes > 1,
            config.seed,
            share=slice(rank, None, processes),
        )
        torch.manual_seed(config.seed + 1_000_003 * rank)  # each process has its own dropout

    def train_or_go_on(self) -> None:
        """Train from the last checkpoint of this run, or else from the beginning."""
        states = Path(self.args.output_dir).glob("checkpoint-*/trainer_state.json")  # written last
        last = max(states, key=lambda file: int(file.parent.name.split("-")[1]), default=None)
        if last is None:
            self.train()
            return
        log = TrainerState.load_from_json(str(last)).log_history
        reached = [row["eval_phi"] for row in log if "eval_phi" in row]
        without_gain = len(reached) - 1 - int(np.argmax(reached))
        if self.config.patience is not None and without_gain >= self.config.patience:
            self.args.num_train_epochs = len(reached)  # it had stopped
        self.train(resume_from_checkpoint=str(last.parent))

    def get_train_dataloader(self) -> DataLoader:
        own = torch.Generator()  # else the loader draws from the one that dropout uses
        options = {"collate_fn": batches.collate, "generator": own}
        return DataLoader(self.texts, batch_sampler=self.batches, **options)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """A short batch that is left out has its place on the rate's way to 0 (13)."""
        count = math.ceil(len(self.texts) / self.config.batch_size)
        steps = math.ceil(count / self.config.accumulate) * self.config.epochs
        return super().create_scheduler(steps, optimizer)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        gather = self.args.world_size > 1
        first = self.state.global_step == 0  # a look at values makes a GPU wait
        terms = loss_terms(model(**inputs), labels, self.config, gather=gather, validate=first)
        self.unlogged.append(torch.stack([term.detach() for term in terms.values()]))
        self.terms = list(terms)
        return terms["loss"]

    def _get_grad_norm(self, model, grad_norm=None):
        """Trainer's norm of both networks together is not needed: `EachStep` clips each apart."""

    def log(self, logs: dict, start_time: float | None = None) -> None:
        """Adds the means of all loss terms. FloatingPointError for one that is not finite."""
        if "learning_rate" in logs:
            values = self.accelerator.reduce(torch.stack(self.unlogged), "mean").tolist()
            rows = pd.DataFrame(values, columns=self.terms)
            wrong = rows[~np.isfinite(rows).all(axis=1)]
            if len(wrong):
                terms = ", ".join(f"{name} {value:g}" for name, value in wrong.iloc[0].items())
                raise FloatingPointError(
                    f"{self.title}: the loss is not finite in step {self.state.global_step} or "
                    f"just before it: {terms}; lower the learning rate (now {self.config.lr:g}), "
                    f"or set precision='fp32' (now {self.config.precision})"
                )
            self.unlogged = []
            self.rows.append(rows)
            logs |= rows.mean().to_dict()
        super().log(logs, start_time)

    def evaluate(self, *_, **__) -> dict[str, float]:
        """Validation accuracy of both networks, in percent; Φ's chooses the best epoch."""
        start = time.perf_counter()
        terms = pd.concat(self.rows).mean().to_dict()
        metrics = {"eval_train_seconds": start - self.epoch_began, "eval_terms": terms}
        items, labels = self.texts.items["valid"], self.texts.labels["valid"].numpy()
        for name, network in self.model.named_children():
            said = batches.outputs(network, items, self.args.device, self.config.precision)
            predicted = said["logits"].argmax(1).numpy()
            metrics[f"eval_{name}"] = analysis.scores(labels, predicted)["accuracy"]
        metrics["eval_seconds"] = time.perf_counter() - start
        self.log(metrics)
        handler = self.callback_handler
        self.control = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def summary(self) -> dict:
        """What result.json says of training."""
        epochs = [row for row in self.state.log_history if "eval_phi" in row]
        history = []
        for number, row in enumerate(epochs, start=1):
            accuracies = {f"valid_{n}": row[f"eval_{n}"] for n in PREFIXES if f"eval_{n}" in row}
            history.append({"epoch": number, **row["eval_terms"], **accuracies})
        trained = sum(row["eval_train_seconds"] for row in epochs)
        texts = len(epochs) * sum(len(batch) for batch in self.batches.batches)
        return {
            "best_epoch": 1 + int(np.argmax([row["eval_phi"] for row in epochs])),  # the first (15)
            "history": history,
            "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "texts": len(self.texts),
            "steps": self.state.global_step,
            "texts_per_second": round(texts / trained, 1),
            "seconds": round(trained + sum(row["eval_seconds"] for row in epochs), 1),
            "device": describe(self.args.device),
            "device_type": self.args.device.type,
            "processes": self.args.world_size,
            **files.provenance(),
        }


def _arguments(config: Config, folder: Path, **options) -> TrainingArguments:
    """`Config` in Trainer's own names."""
    return TrainingArguments(
        output_dir=str(folder),
        seed=config.seed,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        optim="adamw_torch_fused",  # no decay for biases and norms (12)
        learning_rate=config.lr,
        lr_scheduler_type="linear",
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        adam_epsilon=config.adam_epsilon,
        max_grad_norm=0,  # EachStep clips
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="phi",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        logging_strategy="no",  # EachStep says when
        logging_nan_inf_filter=False,
        disable_tqdm=True,  # ProgressLine is there
        **{"report_to": "none"} | options,
    )


class EachStep(TrainerCallback):
    """What the method does around Trainer's steps: draw batches, clip, place eps, log windows."""

    def __init__(self, trainer: LabelAwareTrainer):
        self.trainer = trainer
        self.config = trainer.config

    def on_epoch_begin(self, args, state, control, **_):
        self.trainer.epoch_began = time.perf_counter()
        self.trainer.batches.set_epoch(round(state.epoch or 0))
        self.trainer.rows = []
        self.first = state.global_step
        self.steps = math.ceil(len(self.trainer.batches) / self.config.accumulate)

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **_):
        self.trainer.accelerator.unscale_gradients()
        for network in model.children():
            nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)  # each apart (14)
        if self.config.eps_placement == "before":  # as in the authors' transformers (11)
            correction = math.sqrt(1 - self.config.adam_beta2 ** (state.global_step + 1))
            for group in optimizer.param_groups:
                group["eps"] = self.config.adam_epsilon / correction

    def on_step_end(self, args, state, control, **_):
        done = state.global_step - self.first
        window = math.ceil(self.steps / WINDOWS)
        control.should_log = done % window == 0 or done == self.steps


class ProgressLine(TrainerCallback):
    """One line with loss and time left; in a notebook it is updated in place, without a widget."""

    def __init__(self, title: str):
        self.title = title

    def on_train_begin(self, args, state, control, **_):
        options = {"initial": state.global_step, "disable": not state.is_world_process_zero}
        self.bar = tqdm(total=state.max_steps, desc=self.title, **notebook_line(), **options)

    def on_step_end(self, args, state, control, **_):
        self.bar.update()

    def on_log(self, args, state, control, logs, **_):
        if "learning_rate" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **_):
        self.bar.total = self.bar.n  # less than planned where training stopped early
        self.bar.refresh()
        self.bar.close()


def notebook_line() -> dict:
    """Options of a tqdm bar: in a notebook, a line of plain text that is updated in place."""
    from IPython import display, get_ipython

    if not hasattr(get_ipython(), "kernel"):
        return {}
    handle = display.display({"text/plain": ""}, raw=True, display_id=True)
    line = io.StringIO()
    line.write = lambda text: text.strip() and handle.update({"text/plain": text.strip()}, raw=True)
    return {"file": line, "ascii": " #", "ncols": 90, "mininterval": 0.5}


def _evaluated(trainer: LabelAwareTrainer) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
    """Tables of the run's folder, and scores of both networks on valid and test, in percent."""
    scores, predictions, similarities = {}, [], []
    for split in SPLITS:
        labels = trainer.texts.labels[split].numpy()
        columns = {"split": split, "label": labels}
        for name, network in trainer.model.named_children():
            said = batches.outputs(network, trainer.texts.items[split], trainer.args.device)
            p = said["logits"].softmax(1).numpy()
            if name == "phi":
                columns["predicted"] = p.argmax(1)
                cosines = analysis.class_similarity(said["features"].numpy(), labels, p.shape[1])
            columns |= {f"{PREFIXES[name]}_{c}": p[:, c] for c in range(p.shape[1])}
            for score, value in analysis.scores(labels, p.argmax(1)).items():
                scores[f"{split}_{name}_{score}".removesuffix("_accuracy")] = value
        predictions.append(pd.DataFrame(columns))
        table = pd.DataFrame(cosines).add_prefix("c_").rename_axis("label").reset_index()
        similarities.append(table.assign(split=split))
    log = [row for row in trainer.state.log_history if "learning_rate" in row]
    history = pd.DataFrame(log).rename(columns={"learning_rate": "lr"})
    history["epoch"] = np.ceil(history.epoch - 1e-6).astype(int)
    columns = ["step", "epoch", "lr", *(name for name in TERMS if name in history)]
    tables = {"history": history[columns], "predictions": pd.concat(predictions)}
    return tables | {"similarity": pd.concat(similarities)}, scores
