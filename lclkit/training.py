"""Training with cross-entropy (ce), supervised contrastive (scl) or label-aware contrastive loss
(lcl). Devices, precision, processes and checkpoints are `transformers.Trainer`'s. Numbers in
brackets are those of notebook 04's list of what paper and authors' code do differently."""

import contextlib
import gc
import json
import math
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import torch
from accelerate import PartialState
from accelerate.utils.memory import should_reduce_batch_size
from filelock import FileLock
from IPython import display, get_ipython
from safetensors.torch import load_model
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Trainer, TrainingArguments, trainer_callback, trainer_utils

from lclkit import analysis, batches, data, files, losses, models
from lclkit.config import Config, class_weights, identity
from lclkit.results import PREFIXES, RESULTS_VERSION, SPLITS, Result

HISTORY = ["step", "epoch", "lr", "loss", "ce_encoder", "ce_weighting", "contrastive"]
# Of TrainingArguments: how training runs, and not what is trained.
OPTIONS = ("gradient_checkpointing", "torch_compile", "torch_compile_backend", "report_to")
OUT_OF_MEMORY = (
    "the device's memory does not suffice. What helps: gradient_checkpointing=True (slower); a "
    "smaller batch_size with accumulate (fewer negatives); precision='bf16'; trainable_layers=2"
)
gc.freeze()  # Trainer collects garbage before each run: sooner done if not in the libraries too


def train(
    dataset: data.Dataset,
    config: Config,
    out: str | Path = "runs",
    save: bool = False,
    callbacks: Sequence[trainer_callback.TrainerCallback] = (),
    **options,
) -> Result:
    """Train, choose the best epoch by Φ's validation accuracy, look at test once, write a folder.

    The folder appears under `out`, whole; if it is there it is read, not run again. A run that was
    killed goes on after its last epoch, on a CPU to the very same numbers. The processes of
    ``accelerate launch`` share the batches. save: keep Φ too, in `model`, see `models.save`.
    callbacks: what they add to Trainer's `state.log_history` is kept in trainer_state.json.
    options: any of `OPTIONS`, as TrainingArguments has them. Raises ValueError (a wrong option),
    OSError (`out`, or its disk), FloatingPointError (a number not finite) and MemoryError.
    """
    for name in options.keys() - OPTIONS:
        raise ValueError(f"{name}: expected a field of Config, or one of {', '.join(OPTIONS)}")
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision: expected fp32 or bf16, for fp16 needs a GPU")
    if config.weights != "network":
        class_weights(config.weights, dataset.classes)  # a fault is told before a download
    processes = PartialState(cpu=not torch.cuda.is_available())
    encoder = models.open_encoder(config.encoder)
    about = {"config": identity(config), "dataset": dataset.name, "data_hash": dataset.hash}
    about |= {"encoder_hash": encoder.hash, "results_version": RESULTS_VERSION}
    key = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{files.safe_name(dataset.name)}-{config.loss}-seed{config.seed}-{key}"
    folder = Path(out).expanduser().absolute() / name
    work = folder.with_name(f".{name}.unfinished")
    user_and_run = sha256(os.path.expanduser(f"~/{folder}").encode(errors="replace")).hexdigest()
    lock = FileLock(Path(tempfile.gettempdir(), f"lclkit-{user_and_run[:16]}.lock"))
    with lock if processes.is_main_process else contextlib.nullcontext():
        processes.wait_for_everyone()  # who comes second waits, and reads
        if folder.exists():
            result = Result.load(folder)
            if not save or (folder / "model").is_dir():
                processes.print(f"finished earlier, read from {Path(out) / name}")
                shutil.rmtree(work, ignore_errors=True)
                return result
        networks, stem = build(dataset, config, encoder)
        files.writable(work)  # what cannot be written is found before the first step
        try:
            texts = batches.prepare(dataset, config, encoder, stem)
            trainer = LabelAwareTrainer(networks, config, texts, work, **options)
            for callback in callbacks:
                trainer.add_callback(callback)
            trainer.train_or_go_on()
            if processes.is_main_process:
                with files.whole(folder) as new:
                    trainer.write(new, about | {"classes": dataset.classes, "options": options})
                for left in folder.glob(".*-model"):  # by a process that was killed
                    shutil.rmtree(left)
                if save:
                    about = Result.load(folder).summary | {"dataset": dataset}
                    models.save(networks.phi, stem, encoder.tokenizer, folder / "model", about)
                shutil.rmtree(work, ignore_errors=True)
        except Exception as error:
            if should_reduce_batch_size(error):
                raise MemoryError(f"{config.loss} seed {config.seed}: {OUT_OF_MEMORY}") from error
            # As Linux, a quota, Windows and torch say it.
            if re.search("No space|Disk quota|not enough space|inline_container", str(error)):
                advice = f"free space in {folder.parent}, then call again: what is finished is kept"
                raise OSError(f"{error}: {advice}") from error
            raise
        processes.wait_for_everyone()
    return Result.load(folder)


def describe(device: torch.device) -> str:
    """The name of a GPU, or how many threads the CPU has."""
    cpu = f"CPU, {torch.get_num_threads()} threads"
    return cpu if device.type == "cpu" else torch.cuda.get_device_name(device)


class Networks(nn.ModuleDict):
    """Φ as `phi` and, for lcl, Ψ as `psi` or `log_weights` ``(C, C)``: what Trainer trains."""

    accepts_loss_kwargs = False  # Trainer divides the loss by the number of accumulated batches

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """2K rows -> h ``(2K, d)``, Φ's logits and, where there is Ψ, its ``(2K, C)``."""
        outputs = dict(self.phi(**inputs))
        if "psi" in self:
            outputs["psi_logits"] = self.psi(**inputs).logits
        return outputs


def build(dataset: data.Dataset, config: Config, encoder: models.Pretrained) -> tuple:
    """The networks of a run as they are before its first step, and the frozen stem or None."""
    torch.manual_seed(config.seed)
    settings = (config.pooling, config.dropout, config.logit_dropout, config.trainable_layers)
    phi, psi, stem = models.build(encoder, dataset.classes, *settings)
    networks = Networks({"phi": phi})
    if config.weights != "network":
        weights = torch.tensor(class_weights(config.weights, dataset.classes))
        networks.register_buffer("log_weights", weights.log().float())  # a row a class
    elif config.loss == "lcl":
        networks["psi"] = psi
    return networks, stem


class LabelAwareTrainer(Trainer, trainer_callback.TrainerCallback):
    """`transformers.Trainer` with the loss of Eq. 6. It is a callback of itself, see `on_...`."""

    def __init__(self, model: Networks, config: Config, texts: batches.Texts, out: Path, **options):
        self.config = config
        self.texts = texts
        self.unlogged = []  # terms of the loss of each batch since the last log
        if options.pop("gradient_checkpointing", False):
            for network in model.children():
                enable = getattr(network, "activation_checkpointing_enable", None)
                (enable or network.gradient_checkpointing_enable)()  # before transformers 5.24
        alike = ("seed", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon")
        arguments = TrainingArguments(
            **{name: getattr(config, name) for name in alike},
            output_dir=str(out),
            run_name=f"{config.loss} seed {config.seed}",
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=config.accumulate,
            optim="adamw_torch_fused",  # no decay for biases and norms (8)
            learning_rate=config.lr,  # falls along a line to 0
            max_grad_norm=math.inf,  # on_pre_optimizer_step clips
            bf16=config.precision == "bf16",
            fp16=config.precision == "fp16",
            use_cpu=not torch.cuda.is_available(),
            ddp_find_unused_parameters=False,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,  # the last and the best
            metric_for_best_model="phi",  # validation accuracy, see `evaluate`; the first of equals
            restore_callback_states_from_checkpoint=True,
            logging_strategy="no",  # on_step_end says when
            logging_nan_inf_filter=False,
            disable_tqdm=True,  # ProgressLine is there
            **{"report_to": "none"} | options,
        )
        # Not what an accelerate config says, and not torch's DataParallel on all GPUs of a machine.
        arguments.mixed_precision = {"fp32": "no"}.get(config.precision, config.precision)
        arguments._n_gpu = min(1, arguments.n_gpu)
        rank, processes = arguments.process_index, arguments.world_size
        if processes > 1 and (config.batch_size % processes or not config.drop_last):
            expected = f"a multiple of the {processes} processes, with drop_last=True"
            raise ValueError(f"batch_size: expected {expected}; found {config.batch_size}")
        self.batches = batches.Batches(texts, config, share=slice(rank, None, processes))
        patience = trainer_callback.EarlyStoppingCallback(config.patience or config.epochs)
        sets = {"train_dataset": texts, "eval_dataset": texts}
        super().__init__(model, arguments, callbacks=[self, ProgressLine, patience], **sets)
        self.remove_callback(trainer_callback.PrinterCallback)
        torch.manual_seed(config.seed + 1_000_003 * rank)  # each process has its own dropout

    def train_or_go_on(self) -> None:
        """Train on from this run's last whole checkpoint, if any; restore the best epoch."""
        folder, state = self.args.output_dir, None
        with self.accelerator.main_process_first():  # it removes what is damaged
            while state is None and (newest := trainer_utils.get_last_checkpoint(folder)):
                try:
                    state = read_state(Path(newest))
                except Exception as error:  # what damaged files raise has no kind of its own
                    warnings.warn(f"{newest} is damaged, and removed: {error}", stacklevel=3)
                    shutil.rmtree(newest)
        if state and state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
            self.state = state  # all epochs are done
        else:
            with models.quiet():
                self.train(resume_from_checkpoint=state is not None)
        best = f"{folder}/checkpoint-{self.state.best_global_step}"
        load_model(self.model, f"{best}/model.safetensors")

    def on_save(self, args, state, control, **_):
        self.accelerator.wait_for_everyone()  # each process writes a file of its own
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir, f"checkpoint-{state.global_step}")
            checksums = {file.name: pooch.file_hash(file) for file in checkpoint.iterdir()}
            (checkpoint / "sha256.json").write_text(json.dumps(checksums))

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        options = {"collate_fn": batches.collate, "generator": torch.Generator()}  # not dropout's
        return torch.utils.data.DataLoader(self.texts, batch_sampler=self.batches, **options)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """A short batch that is left out has its place on the rate's way to 0 (9)."""
        count = math.ceil(len(self.texts) / self.config.batch_size)
        steps = math.ceil(count / self.config.accumulate) * self.config.epochs
        return super().create_scheduler(steps, optimizer)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Eq. 6 for a batch of 2K rows; its terms wait for `log`."""
        config, labels = self.config, inputs.pop("labels")
        outputs = model(**inputs)
        l_e = nn.functional.cross_entropy(outputs["logits"].float(), labels)
        terms = {"loss": l_e, "ce_encoder": l_e}
        options = {"temperature": config.temperature, "reduction": config.reduction, "gather": True}
        options["validate"] = self.state.global_step == 0  # a look at values makes a GPU wait
        if config.loss == "scl":
            terms["contrastive"] = losses.scl_loss(outputs["features"], labels, **options)
        if config.loss == "lcl":
            if config.weights == "network":
                psi_logits = outputs["psi_logits"].float()
                log_w = psi_logits.log_softmax(1)  # Eq. 5
                terms["ce_weighting"] = nn.functional.cross_entropy(psi_logits, labels)
            else:
                log_w = self.model.log_weights[labels]
            options |= {"form": config.form, "detach_weights": config.detach_weights}
            terms["contrastive"] = losses.lcl_loss(outputs["features"], labels, log_w, **options)
        if config.loss != "ce":
            l_w = terms.get("ce_weighting", 0)
            terms["loss"] = losses.joint_loss(l_e, l_w, terms["contrastive"], config.alpha)
        self.unlogged.append({name: term.detach() for name, term in terms.items()})
        return terms["loss"]

    def on_epoch_begin(self, args, state, control, **_):
        self.epoch_began = time.perf_counter()
        self.batches.set_epoch(round(state.epoch or 0))
        self.logged = []  # terms of the loss of each batch, as numbers

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **_):
        for network in model.children():
            nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)  # each apart (10)
        if self.config.eps_placement == "before":  # as in the authors' transformers (7)
            correction = math.sqrt(1 - self.config.adam_beta2 ** (state.global_step + 1))
            for group in optimizer.param_groups:
                group["eps"] = self.config.adam_epsilon / correction

    def on_step_end(self, args, state, control, **_):
        steps = math.ceil(len(self.batches) / self.config.accumulate)  # of an epoch
        window = math.ceil(steps / 50)  # history.csv has at most 50 rows an epoch
        control.should_log = state.global_step % steps % window == 0

    def log(self, logs: dict, start_time: float | None = None) -> None:
        """Adds the means of all loss terms. FloatingPointError for one that is not finite."""
        if "learning_rate" in logs:
            rows = pd.DataFrame(self.accelerator.reduce(self.unlogged, "mean")).map(float)
            self.require_finite(rows)
            self.unlogged = []
            self.logged.append(rows)
            logs |= {"lr": logs["learning_rate"], **rows.mean()}
        super().log(logs, start_time)

    def require_finite(self, values: pd.DataFrame) -> None:
        if not np.isfinite(values).all(axis=None):
            raise FloatingPointError(
                f"{self.args.run_name}: the loss is not finite in step {self.state.global_step} or "
                f"just before it; lower the learning rate (now {self.config.lr:g}), or set "
                f"precision='fp32' (now {self.config.precision})"
            )

    def evaluate(self, *_, **__) -> dict[str, float]:
        """Validation accuracy of both networks, in percent; Φ's chooses the best epoch."""
        row = {"epoch": round(self.state.epoch), **pd.concat(self.logged).mean()}
        labels = self.texts.labels["valid"].numpy()
        for name, network in self.model.named_children():
            said = batches.outputs(network, self.texts.items["valid"], self.config.precision)
            self.require_finite(pd.DataFrame(said["logits"]))
            row[f"valid_{name}"] = analysis.scores(labels, said["logits"].argmax(1))["accuracy"]
        metrics = {"eval_phi": row["valid_phi"], "eval_history": row}
        metrics["eval_seconds"] = time.perf_counter() - self.epoch_began
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def write(self, folder: Path, about: dict) -> None:
        """Make the run's folder: tables, Trainer's state, and result.json with `about` in it."""
        folder.mkdir()
        history = pd.DataFrame([row for row in self.state.log_history if "lr" in row])
        history["epoch"] = np.ceil(history.epoch - 1e-6).astype(int)
        tables = {"history": [history.filter(HISTORY)], "predictions": [], "similarity": []}
        scores = {}  # of both networks, in percent
        for split in SPLITS:
            labels = self.texts.labels[split].numpy()
            columns = {"split": split, "label": labels}
            for name, network in self.model.named_children():
                said = batches.outputs(network, self.texts.items[split])
                p = said["logits"].softmax(1).numpy()
                if name == "phi":
                    columns["predicted"] = p.argmax(1)
                    h = said["features"].numpy()
                    cosines = pd.DataFrame(analysis.class_similarity(h, labels, p.shape[1]))
                columns |= {f"{PREFIXES[name]}_{c}": p[:, c] for c in range(p.shape[1])}
                for score, value in analysis.scores(labels, p.argmax(1)).items():
                    scores[f"{split}_{name}_{score}".removesuffix("_accuracy")] = value
            tables["predictions"].append(pd.DataFrame(columns))
            cosines = cosines.add_prefix("c_").rename_axis("label").reset_index()
            tables["similarity"].append(cosines.assign(split=split))
        for name, parts in tables.items():
            pd.concat(parts).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        rows = [row for row in self.state.log_history if "eval_phi" in row]
        summary = {
            "scores": scores,
            "best_epoch": 1 + int(np.argmax([row["eval_phi"] for row in rows])),  # the first (11)
            "history": [row["eval_history"] for row in rows],
            "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "texts": len(self.texts),
            "seconds": round(sum(row["eval_seconds"] for row in rows), 1),
            "device": describe(self.args.device),
            "device_type": self.args.device.type,
        }
        self.state.save_to_json(str(folder / "trainer_state.json"))
        text = json.dumps(about | summary | files.provenance(), indent=1)
        (folder / "result.json").write_text(text + "\n", encoding="utf-8")


def read_state(checkpoint: Path) -> trainer_callback.TrainerState:
    """Raises an exception where a file of it, or of its best epoch, is not as it was written."""
    state = trainer_callback.TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")
    for folder in (checkpoint, checkpoint.with_name(f"checkpoint-{state.best_global_step}")):
        for name, checksum in json.loads((folder / "sha256.json").read_bytes()).items():
            if pooch.file_hash(folder / name) != checksum:
                raise ValueError(f"{folder / name} has changed")
    return state


class ProgressLine(trainer_callback.ProgressCallback):
    """One line with loss and time left; below a notebook's cell plain text, without a widget."""

    def on_train_begin(self, args, state, control, **_):
        self.current_step = state.global_step
        options = {"desc": args.run_name, "initial": state.global_step, "total": state.max_steps}
        if hasattr(get_ipython(), "kernel"):
            self.shown = display.display({"text/plain": ""}, raw=True, display_id=True)
            options |= {"file": self, "ascii": " #", "ncols": 90, "mininterval": 0.5}
        self.training_bar = tqdm(**options, position=0, disable=not state.is_world_process_zero)

    def write(self, text: str) -> None:
        """The notebook's line, as a file of tqdm's: what is written replaces it."""
        if text.strip():
            self.shown.update({"text/plain": text.strip()}, raw=True)

    def on_log(self, args, state, control, logs, **_):
        if "learning_rate" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
