"""Training with cross-entropy (ce), supervised contrastive (scl) or label-aware contrastive loss
(lcl). Devices, precision, processes and checkpoints are `transformers.Trainer`'s. Numbers in
brackets are those of notebook 04's list of what paper and authors' code do differently."""

import contextlib
import hashlib
import io
import json
import math
import shutil
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
STATE = "checkpoint-*/trainer_state.json"
WINDOWS = 50  # of an epoch, at most: rows of history.csv
# Of TrainingArguments: how training runs, and not what is trained.
OPTIONS = ("gradient_checkpointing", "torch_compile", "torch_compile_backend", "torch_compile_mode")
OPTIONS += ("report_to", "run_name")
COUNTS = ("epochs", "batch_size", "accumulate", "patience", "trainable_layers")
ABOVE_0 = ("lr", "temperature", "adam_epsilon", "clip_norm")
SHARES = ("alpha", "replaced", "weight_decay")
BELOW_1 = ("dropout", "adam_beta1", "adam_beta2")
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
            value = getattr(self, name)
            if kind is float and type(value) is int:
                value = float(value)  # 1 and 1.0 are one setting, one run
                object.__setattr__(self, name, value)
            fits, expected = _fits(name, value, kind)
            if not fits:
                raise ValueError(f"{name}: expected {expected}, found {value!r}")


def _fits(name: str, value: object, kind: object) -> tuple[bool, str]:
    """Whether a field may have this value, and what it may be."""
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind), f"one of {typing.get_args(kind)}"
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        return False, kind.__name__ if isinstance(kind, type) else str(kind)
    if name in COUNTS:
        return value is None or value >= 1, "1 or more"
    if name in ABOVE_0:
        return 0 < value < math.inf, "a number above 0"
    if name in SHARES:
        return 0 <= value <= 1, "0 to 1"
    if name in BELOW_1:
        return 0 <= value < 1, "0 or more, below 1"
    return name != "seed" or 0 <= value < 2**32, "0 or more, below 2^32"


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
        if kinds[name] is float and isinstance(value, str):
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
        `AutoModelForSequenceClassification.from_pretrained` opens; a run that is finished without
        it is trained again for it.
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
    networks, stem = build(dataset, config, encoder)
    try:
        texts = batches.prepare(dataset, config, encoder, stem, processes.device)
        trainer = LabelAwareTrainer(networks, config, texts, work, title, callbacks, **options)
        with models.quiet():
            trainer.train_or_go_on()
        tables, scores = trainer.predict_all()
    except torch.cuda.OutOfMemoryError as error:
        advice = OUT_OF_MEMORY.format(describe(processes.device), config.batch_size)
        raise MemoryError(f"{title}: {advice}") from error
    if processes.is_main_process:
        summary = about | trainer.summary() | {"classes": dataset.classes, "scores": scores}
        if not folder.is_dir():
            for name, table in tables.items():
                table.to_csv(work / f"{name}.csv", index=False, float_format="%.6g")
            trainer.state.save_to_json(str(work / "trainer_state.json"))
            text = json.dumps(summary | {"options": options}, indent=1)
            (work / "result.json").write_text(text + "\n", encoding="utf-8")
            for checkpoint in work.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
            work.replace(folder)
        if save:
            card = {"names": ", ".join(dataset.classes), "dataset": dataset}
            card["settings"] = json.dumps(summary["config"], indent=1)
            phi = models.with_all_layers(networks.phi, stem)
            models.save(phi, encoder.tokenizer, folder / "model", **summary | card)
        shutil.rmtree(work, ignore_errors=True)
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

    accepts_loss_kwargs = False  # Trainer divides the loss by the number of accumulated batches

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
        self.terms = []  # of the loss: their names
        self.unlogged = []  # their values in the steps since the last log
        self.rows = []  # and, as numbers, in the steps of this epoch
        self.epoch_began = 0.0
        own = [EachStep(self), ProgressLine(title), *callbacks]
        if config.patience is not None:
            own.append(EarlyStoppingCallback(config.patience))
        arguments = _arguments(config, folder, **options)
        rank, processes = arguments.process_index, arguments.world_size
        short = len(texts) % config.batch_size != 0 and not config.drop_last
        if config.batch_size % processes or (processes > 1 and short):
            raise ValueError(
                f"batch_size: expected batches that {processes} processes can share: a multiple of "
                f"their number, and drop_last=True; found {config.batch_size}"
            )
        super().__init__(
            networks, arguments, train_dataset=texts, eval_dataset=texts, callbacks=own
        )
        self.remove_callback(PrinterCallback)
        share = slice(rank, None, processes)
        order = (config.batch_size, config.order, config.drop_last, config.seed)
        self.batches = batches.Batches(texts, *order, share)
        torch.manual_seed(config.seed + 1_000_003 * rank)  # each process has its own dropout

    def train_or_go_on(self) -> None:
        """Train from the last whole checkpoint of this run, or else from the beginning."""
        checkpoint, state = _last_checkpoint(Path(self.args.output_dir))
        if checkpoint is None:
            self.train()
            return
        reached = [row["eval_phi"] for row in state.log_history if "eval_phi" in row]
        without_gain = len(reached) - 1 - int(np.argmax(reached))
        if self.config.patience is not None and without_gain >= self.config.patience:
            self.args.num_train_epochs = len(reached)  # it had stopped
        self.train(resume_from_checkpoint=str(checkpoint))

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

    def _get_grad_norm(self, model, grad_norm=None) -> None:
        """Trainer would take the norm of both networks together. `EachStep` clips each apart."""
        return None

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

    def predict_all(self) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
        """Tables of the run's folder, and scores of both networks on valid and test, in percent."""
        scores, predictions, similarities = {}, [], []
        for split in SPLITS:
            labels = self.texts.labels[split].numpy()
            columns = {"split": split, "label": labels}
            for name, network in self.model.named_children():
                said = batches.outputs(network, self.texts.items[split], self.args.device)
                p = said["logits"].softmax(1).numpy()
                if name == "phi":
                    columns["predicted"] = p.argmax(1)
                    h = said["features"].numpy()
                    cosines = analysis.class_similarity(h, labels, p.shape[1])
                columns |= {f"{PREFIXES[name]}_{c}": p[:, c] for c in range(p.shape[1])}
                for score, value in analysis.scores(labels, p.argmax(1)).items():
                    scores[f"{split}_{name}_{score}".removesuffix("_accuracy")] = value
            predictions.append(pd.DataFrame(columns))
            table = pd.DataFrame(cosines).add_prefix("c_").rename_axis("label").reset_index()
            similarities.append(table.assign(split=split))
        log = [row for row in self.state.log_history if "learning_rate" in row]
        history = pd.DataFrame(log).rename(columns={"learning_rate": "lr"})
        history["epoch"] = np.ceil(history.epoch - 1e-6).astype(int)
        tables = {"history": history[["step", "epoch", "lr", *self.terms]]}
        tables |= {"predictions": pd.concat(predictions), "similarity": pd.concat(similarities)}
        return tables, scores


def _last_checkpoint(folder: Path) -> tuple[Path | None, TrainerState | None]:
    """The newest that is whole: its state is written last. What it says of the best is made true
    again, in case the folder has been moved."""
    files_of = {int(file.parent.name.split("-")[1]): file for file in folder.glob(STATE)}
    for _, file in sorted(files_of.items(), reverse=True):
        with contextlib.suppress(ValueError, TypeError):  # cut off while it was written
            state = TrainerState.load_from_json(str(file))
            state.best_model_checkpoint = str(folder / f"checkpoint-{state.best_global_step}")
            with files.whole(file) as partial:
                state.save_to_json(str(partial))
            return file.parent, state
    return None, None


def _arguments(config: Config, folder: Path, **options) -> TrainingArguments:
    """`Config` in Trainer's own names."""
    arguments = TrainingArguments(
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
        ddp_find_unused_parameters=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,  # the last and the best
        load_best_model_at_end=True,
        metric_for_best_model="phi",  # validation accuracy, see `evaluate`; the first of equals
        restore_callback_states_from_checkpoint=True,
        logging_strategy="no",  # EachStep says when
        logging_nan_inf_filter=False,
        disable_tqdm=True,  # ProgressLine is there
        **{"report_to": "none"} | options,
    )
    # Not what an accelerate config says, and not torch's DataParallel on all GPUs of a machine.
    arguments.mixed_precision = {"fp32": "no"}.get(config.precision, config.precision)
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


class EachStep(TrainerCallback):
    """What the method does around Trainer's steps: new batches, clipping, AdamW's eps, windows."""

    def __init__(self, trainer: LabelAwareTrainer):
        self.trainer = trainer
        self.config = trainer.config

    def on_epoch_begin(self, args, state, control, **_):
        self.trainer.epoch_began = time.perf_counter()
        self.trainer.batches.set_epoch(round(state.epoch or 0))
        self.trainer.rows = []

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **_):
        self.trainer.accelerator.unscale_gradients()
        for network in model.children():
            nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)  # each apart (14)
        if self.config.eps_placement == "before":  # as in the authors' transformers (11)
            correction = math.sqrt(1 - self.config.adam_beta2 ** (state.global_step + 1))
            for group in optimizer.param_groups:
                group["eps"] = self.config.adam_epsilon / correction

    def on_step_end(self, args, state, control, **_):
        steps = math.ceil(len(self.trainer.batches) / self.config.accumulate)
        done = state.global_step % steps  # of this epoch
        control.should_log = done % math.ceil(steps / WINDOWS) == 0


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
