"""One loop for cross-entropy (ce), supervised contrastive (scl) and label-aware contrastive (lcl) training."""

import contextlib
import hashlib
import io
import json
import math
import os
import time
import timeit
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import yaml
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from lclkit import analysis, augment, data, files, losses, models, paper
from lclkit.results import PREFIXES as COLUMNS
from lclkit.results import Result

CHOICES = {
    "loss": ("ce", "scl", "lcl"),
    "pooling": models.POOLINGS,
    "form": losses.FORMS,
    "reduction": losses.REDUCTIONS,
    "order": ("random", "length"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "augmentation": (*augment.RECIPES, "none"),
    "resample": ("once", "epoch"),
}
os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # for equal numbers; read at the first product on CUDA
RESULTS_VERSION = 3  # raise it when the same settings would give other numbers
LOOK_EVERY = 10  # steps between two looks at the loss: each makes a GPU wait
WINDOWS = 50  # of an epoch, at most: rows of history.csv


@dataclass(frozen=True)
class Config:
    """Settings of one run. The defaults are the recipe "released": what the authors' code does, which produced the
    paper's numbers; `paper.settings` has both recipes and says where the fields they differ in come from.

    Raises ValueError for a value that makes no sense.
    """

    loss: str = "lcl"
    seed: int = 0
    encoder: str = paper.ENCODER
    pooling: str = "cls"
    trainable_layers: int | None = (
        None  # None: all; n: the top n, the rest frozen and run only once
    )
    epochs: int = paper.EPOCHS
    patience: int | None = None  # stop after so many epochs without a better validation accuracy
    batch_size: int = (
        paper.BATCH_SIZE
    )  # K texts, with their views 2K rows; of all processes together
    accumulate: int = 1  # batches a step; the contrastive loss compares within a batch only
    lr: float = 2e-5
    alpha: float = 0.5  # weight of cross-entropy, Eq. 6
    temperature: float = 0.3
    form: str = "released"  # or "printed", see lclkit.losses
    reduction: str = "mean"  # or "sum", of the contrastive term, Eq. 4
    detach_weights: bool = False  # True: the contrastive term does not train Psi
    logit_dropout: bool = True  # on Phi's class logits
    drop_last: bool = True  # leave out the last batch of an epoch if it is short
    order: str = "random"  # of the texts; "length" pads less, see _batches
    precision: str = "auto"
    augmentation: str = (
        "released"  # how views are made, see lclkit.augment; "none": K rows without views
    )
    resample: str = "once"  # one view of each text for all runs; "epoch": a new one each epoch
    checkpointing: bool = False  # of gradients: less memory, about a third more time
    compile: bool = False  # torch.compile; on a GPU with CUDA graphs, unless batches accumulate

    def __post_init__(self):
        for kind in fields(self):
            value = getattr(self, kind.name)
            if not isinstance(value, (kind.type, int) if kind.type is float else kind.type) or (
                isinstance(value, bool) is not (kind.type is bool)
            ):
                raise ValueError(
                    f"{kind.name}: expected {getattr(kind.type, '__name__', kind.type)}, found {value!r}"
                )
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}: expected one of {allowed}, found {getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "accumulate", "lr", "temperature", "patience"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        losses.joint_loss(0, 0, 0, self.alpha)  # knows what alpha may be
        if self.resample == "epoch" and (
            self.trainable_layers is not None or self.augmentation == "none"
        ):
            raise ValueError(
                "resample: frozen layers see one view only, and augmentation 'none' has no views; "
                "set trainable_layers=None and another augmentation, or resample='once'"
            )


def parse_changes(text: str) -> dict:
    """Fields of `Config` in one string, as a notebook's parameter holds them: "form: printed, lr: 3e-5".

    Raises ValueError for what is no such list, an unknown field or a value that `Config` refuses.
    """
    kinds = {f.name: f.type for f in fields(Config)}
    try:
        found = yaml.safe_load(f"{{{text}}}")
    except yaml.YAMLError:
        raise ValueError(
            f"changes: expected something like 'form: printed, lr: 3e-5', found {text!r}"
        ) from None
    for name, value in found.items():
        if name not in kinds:
            raise ValueError(f"changes: {name!r} is no setting; there are: {', '.join(kinds)}")
        if kinds[name] is float and type(value) in (int, str):
            with contextlib.suppress(ValueError):
                found[name] = float(value)  # YAML takes 3e-5 for a word
    try:
        Config(**found)
    except ValueError as error:
        raise ValueError(f"changes: {error}") from None
    return found


class Classifier:
    """A trained Phi with its tokenizer and class names: all that the method needs at test time (section 3.2)."""

    def __init__(self, phi: models.Encoder, tokenizer, classes: Sequence[str], about: dict):
        self.phi, self.tokenizer, self.classes, self.about = phi, tokenizer, tuple(classes), about

    def predict(self, texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Class names and probabilities ``(N, C)``, in the order of `classes`, in float32. Raises ValueError for
        anything but a list of strings."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError("texts: expected a list of strings")
        if not len(texts):
            return [], np.zeros((0, len(self.classes)))
        p = _probabilities(
            self.phi, _token_ids(self.tokenizer, list(texts)), next(self.phi.parameters()).device
        )
        return [self.classes[i] for i in p.argmax(1)], p

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` opens, and whose encoder `transformers.AutoModel.from_pretrained` opens too.

        Holds model.safetensors and config.json (the encoder), the tokenizer's files, head.safetensors (the classifier)
        and lclkit.json (class names, settings). Appears whole or not at all.
        """
        with files.whole(Path(folder)) as unfinished:
            self.phi.backbone.save_pretrained(unfinished)
            self.tokenizer.save_pretrained(unfinished)
            safetensors.torch.save_file(
                self.phi.classifier.state_dict(), unfinished / "head.safetensors"
            )
            about = {"classes": self.classes, "pooling": self.phi.pooling, **self.about}
            (unfinished / "lclkit.json").write_text(
                json.dumps(about, indent=1) + "\n", encoding="utf-8"
            )


def load(folder: str | Path) -> Classifier:
    """A model that `Classifier.save` or ``train(..., save=True)`` wrote: give that folder, or the run's.

    Raises EncoderError where there is none, or it is damaged.
    """
    folder = Path(folder, "model") if Path(folder, "model").is_dir() else Path(folder)
    try:
        about = json.loads((folder / "lclkit.json").read_text(encoding="utf-8"))
        head = safetensors.torch.load_file(folder / "head.safetensors")
        phi, _, _ = models.build(
            str(folder), len(about["classes"]), about["pooling"], weighting=False
        )
        phi.classifier.load_state_dict(head)
    except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise models.EncoderError(
            f"{folder} holds no whole model ({str(error).splitlines()[0]}); one is made by "
            "training.train(..., save=True)"
        ) from error
    return Classifier(
        phi.to(_device()), models.load_tokenizer(str(folder)), about.pop("classes"), about
    )


def train(
    dataset: data.Dataset,
    config: Config,
    out: str | Path = "runs",
    save: bool = False,
    watch: Sequence[int] = (),
) -> Result:
    """Train on a data set, choose the best epoch on validation accuracy, look at test once, write one folder.

    The folder appears under `out` when the run is complete, named after data set, loss, seed and a hash of
    everything that decides the numbers. It holds result.json and predictions.csv (see `Result`) and history.csv, the
    loss terms on the way. If it is there already it is read, not run again. A run that was killed goes on after
    its last finished epoch. On a CPU both give the same numbers to the last digit; on a GPU the backward pass of
    attention may round differently each time. The number of processes is recorded, not hashed.
    save: keep the trained Phi in the folder's `model`, see `load`. watch: rows of validation whose probabilities are
    written to watched.csv up to 20 times an epoch, for both networks.
    Several processes (``accelerate launch``) share the batches, and their negatives; each returns the result.
    Raises FloatingPointError where the loss is not finite or runs away, MemoryError, saying what would help, where the
    device's memory does not suffice, ValueError for a row of `watch` that validation lacks.
    """
    state = _processes()
    config = replace(config, precision=choose_precision(state.device, config.precision))
    if config.batch_size % state.num_processes:
        raise ValueError(
            f"batch_size: expected a multiple of {state.num_processes}, the number of processes; found "
            f"{config.batch_size}"
        )
    if outside := [row for row in watch if not 0 <= row < len(dataset.valid)]:
        raise ValueError(
            f"watch: expected rows from 0 to {len(dataset.valid) - 1}, found {outside[0]}"
        )
    identity = {
        "config": asdict(config),
        "dataset": dataset.name,
        "data_hash": dataset.hash,
        "encoder_hash": models.weights_hash(config.encoder),
        "device_type": state.device.type,
        "results_version": RESULTS_VERSION,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(out) / f"{dataset.name}-{config.loss}-seed{config.seed}-{key}"
    finished = folder.is_dir()
    if finished and (not save or (folder / "model").is_dir()) and _watched(folder) >= {*watch}:
        if state.is_main_process:
            print(f"{config.loss} seed {config.seed}: finished earlier, read from {folder}")
        return Result.load(folder)
    checkpoint, watch = (
        folder.with_name(f".{folder.name}.checkpoint"),
        sorted({*watch} | _watched(folder)),
    )
    try:
        items, used = _prepare(dataset, config, state.device)
        run = _fit(dataset, config, items, used, checkpoint, watch)
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(
            f"{config.loss} seed {config.seed}: the memory of {describe(state.device)} does not suffice for batches of "
            f"{config.batch_size} texts with their views. What helps: checkpointing=True (about a third slower, the "
            "same numbers); a smaller batch_size with accumulate (the contrastive loss then sees fewer negatives); "
            "precision='bf16'; trainable_layers=2 (trains the top two layers only); a smaller encoder"
        ) from error
    start, frames, scores = time.perf_counter(), [], {}
    for split in ("valid", "test"):
        labels = getattr(dataset, split).label.to_numpy()
        p = {
            name: _probabilities(network, items[split], state.device)
            for name, network in run.networks.items()
        }
        frame = pd.DataFrame({"split": split, "label": labels, "predicted": p["phi"].argmax(1)})
        frames.append(
            pd.concat(
                [frame, *(pd.DataFrame(p[n]).add_prefix(f"{COLUMNS[n]}_") for n in p)], axis=1
            )
        )
        for name in p:
            found = analysis.scores(labels, p[name].argmax(1))
            scores |= {
                f"{split}_{name}{'' if key == 'accuracy' else f'_{key}'}": value
                for key, value in found.items()
            }
    summary = {
        **identity,
        "classes": dataset.classes,
        "scores": scores,
        "best_epoch": run.best[1],
        "history": run.history,
        "parameters": sum(p.numel() for p in run.networks.parameters()),
        "texts": len(dataset.train),
        "steps": run.step,
        "texts_per_second": round(run.texts / run.seconds, 1),
        "seconds": round(run.wall + time.perf_counter() - start, 1),
        "device": describe(state.device),
        "processes": state.num_processes,
        **files.provenance(),
    }
    if state.is_main_process:
        with files.whole(folder) as unfinished:
            place = (
                folder if finished else unfinished
            )  # what a finished run lacks: its numbers are the same
            place.mkdir(exist_ok=True)
            if save:
                phi = run.networks["phi"].cpu()
                models.whole_backbone(config.encoder, phi, run.stem, used)
                Classifier(
                    phi, models.load_tokenizer(config.encoder), dataset.classes, identity
                ).save(place / "model")
            tables = {"watched": pd.DataFrame(run.watched)} if run.watched else {}
            if not finished:
                tables |= {"history": pd.DataFrame(run.trace), "predictions": pd.concat(frames)}
                classes = len(dataset.classes)  # interim: the next engine fills it
                made = pd.DataFrame(np.full((2 * classes, classes), np.nan)).add_prefix("c_")
                made.insert(0, "split", np.repeat(("valid", "test"), classes))
                made.insert(1, "label", np.tile(np.arange(classes), 2))
                tables["similarity"] = made
            for name, rows in tables.items():
                with files.whole(place / f"{name}.csv") as file:
                    rows.to_csv(file, index=False, float_format="%.6g")
            if not finished:
                (place / "result.json").write_text(
                    json.dumps(summary, indent=1) + "\n", encoding="utf-8"
                )
        checkpoint.unlink(missing_ok=True)
    state.wait_for_everyone()
    return Result.load(folder)


class _Run:
    """What a run is made of, and has reached; `save` and `resume` keep it between two epochs."""

    def __init__(self, dataset: data.Dataset, config: Config, used: Tensor | None, steps: int):
        torch.use_deterministic_algorithms(_device().type == "cuda", warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = (
            False  # costs launches, and nothing reads it
        )
        torch.manual_seed(config.seed)
        phi, psi, self.stem = models.build(
            config.encoder,
            len(dataset.classes),
            config.pooling,
            config.trainable_layers,
            config.loss == "lcl",
            config.logit_dropout,
        )
        self.networks = nn.ModuleDict({"phi": phi} | ({"psi": psi} if psi else {}))
        for network in self.networks.values():
            if used is not None:
                models.trim_vocabulary(network.backbone, used)
            if config.checkpointing:
                models.checkpoint_gradients(network.backbone)
        self.networks.to(_device(), torch.float32)
        self.forward = {name: _wrapped(network, config) for name, network in self.networks.items()}
        self.shuffle = torch.Generator().manual_seed(config.seed)
        self.optimiser, self.schedule = _optimiser(self.networks, config, steps)
        self.scaler = torch.amp.GradScaler(_device().type, enabled=config.precision == "fp16")
        torch.manual_seed(
            config.seed + 1_000_003 * _processes().process_index
        )  # each its own dropout
        self.epoch, self.step, self.texts = 0, 0, 0
        self.seconds, self.wall = 0.0, 0.0  # of the steps alone, and with validation
        self.history, self.trace, self.watched, self.best = (
            [],
            [],
            [],
            None,
        )  # best: score, epoch, weights

    def save(self, file: Path) -> None:
        """Write a checkpoint, which appears whole or not at all; a full disk is no reason to stop the run."""
        cuda = [torch.cuda.get_rng_state()] if _device().type == "cuda" else []
        random = gather_object([[torch.get_rng_state(), *cuda]])
        if _processes().is_main_process:
            state = {
                name: getattr(self, name).state_dict()
                for name in ("networks", "optimiser", "schedule", "scaler")
            }
            state |= {
                name: getattr(self, name)
                for name in (
                    "epoch",
                    "step",
                    "texts",
                    "seconds",
                    "wall",
                    "history",
                    "trace",
                    "watched",
                    "best",
                )
            }
            try:
                with files.whole(file) as unfinished:
                    torch.save(
                        state | {"shuffle": self.shuffle.get_state(), "random": random}, unfinished
                    )
            except (OSError, RuntimeError) as error:  # torch.save's own writer raises RuntimeError
                warnings.warn(
                    f"the checkpoint {file} could not be written ({error}); the run goes on, but if it is "
                    "stopped it starts anew",
                    stacklevel=2,
                )

    def resume(self, file: Path, watch: Sequence[int]) -> None:
        """Go on from a checkpoint. One that is damaged, or watched other rows, is passed over."""
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return
        except Exception as error:  # whatever unpickling a torn file raises
            warnings.warn(
                f"{file} is damaged ({type(error).__name__}); the run starts anew", stacklevel=2
            )
            return
        if {*watch} != {row["row"] for row in state["watched"]}:
            warnings.warn(f"{file} watched other rows; the run starts anew", stacklevel=2)
            return
        random = state.pop("random")
        self.shuffle.set_state(state.pop("shuffle"))
        for name in ("networks", "optimiser", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state.pop(name))
        vars(self).update(state)
        cpu, *cuda = random[_processes().process_index % len(random)]
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state(*cuda)


def _fit(dataset, config, items, used, checkpoint, watch) -> _Run:
    """The training loop. Returns the run with the networks of its best epoch."""
    main, processes = _processes().is_main_process, _processes().num_processes
    labels = torch.as_tensor(dataset.train.label.to_numpy())
    per_epoch = math.ceil(
        len(labels) / config.batch_size / config.accumulate
    )  # a batch that is dropped counts (13)
    run, title = (
        _Run(dataset, config, used, per_epoch * config.epochs),
        f"{config.loss} seed {config.seed}",
    )
    run.resume(checkpoint, watch)
    with _progress(per_epoch * config.epochs, title, initial=run.step, disable=not main) as bar:
        while run.epoch < config.epochs:
            if config.patience and run.best and run.epoch - run.best[1] >= config.patience:
                break
            run.epoch += 1
            if config.resample == "epoch":
                views = augment.synonym_views(
                    dataset.train.text,
                    seed=f"{config.seed}/{run.epoch}",
                    recipe=config.augmentation,
                )
                items = items | {"views": _token_ids(models.load_tokenizer(config.encoder), views)}
            sides = [items["train"]] + ([items["views"]] if config.augmentation != "none" else [])
            lengths = torch.tensor([max(map(len, pair)) for pair in zip(*sides, strict=True)])
            batches = _batches(lengths, config, run.shuffle)
            groups = [
                batches[i : i + config.accumulate]
                for i in range(0, len(batches), config.accumulate)
            ]
            bar.total = run.step + len(groups) * (
                config.epochs + 1 - run.epoch
            )  # without batches that are dropped
            monitor, start = (
                _Monitor(title, config, len(dataset.classes), len(groups)),
                time.perf_counter(),
            )
            run.networks.train()
            for place, group in enumerate(groups, start=1):
                for rows in group:
                    rows = rows[_processes().process_index :: processes]  # this process's share
                    batch = _batch(
                        [side[i] for side in sides for i in rows],
                        _device(),
                        16 if config.compile else 1,
                    )
                    some = labels[rows].repeat(len(sides)).to(_device())
                    terms = _step(run.forward, batch, some, config, run.texts == 0)
                    run.scaler.scale(terms["loss"] / len(group)).backward()
                    run.texts += len(rows) * processes
                    monitor.add(
                        terms,
                        {
                            "step": run.step + 1,
                            "epoch": run.epoch,
                            "lr": run.schedule.get_last_lr()[0],
                        },
                    )
                run.scaler.unscale_(run.optimiser)
                for network in run.networks.values():  # each apart, as the authors' code does (14)
                    nn.utils.clip_grad_norm_(network.parameters(), paper.CLIP_NORM)
                run.scaler.step(run.optimiser)
                run.scaler.update()
                run.schedule.step()
                run.optimiser.zero_grad(set_to_none=True)
                run.step += 1
                if place % LOOK_EVERY == 0 or place == len(groups):
                    bar.set_postfix(loss=f"{monitor.look():.3f}", refresh=False)
                    bar.update(run.step - bar.n)
                if len(watch) and (
                    place % math.ceil(len(groups) / 20) == 0 or place == len(groups)
                ):
                    run.watched += _watch(
                        run, [items["valid"][row] for row in watch], watch, config
                    )
            run.seconds += time.perf_counter() - start
            scores = {
                f"valid_{name}": analysis.scores(
                    dataset.valid.label,
                    _probabilities(network, items["valid"], _device(), config.precision).argmax(1),
                )["accuracy"]
                for name, network in run.networks.items()
            }
            run.trace += monitor.windows()
            run.history.append({"epoch": run.epoch, **monitor.means(), **scores})
            if (
                run.best is None or scores["valid_phi"] > run.best[0]
            ):  # the first of equals wins (15)
                weights = {
                    name: value.detach().cpu().clone()
                    for name, value in run.networks.state_dict().items()
                }
                run.best = scores["valid_phi"], run.epoch, weights
            run.wall += time.perf_counter() - start
            if run.epoch < config.epochs:
                run.save(checkpoint)
    run.networks.load_state_dict(run.best[2])
    return run


def _step(
    forward, batch: dict[str, Tensor], labels: Tensor, config: Config, first: bool
) -> dict[str, Tensor]:
    """The loss terms of one batch of 2K rows: K texts, then their K views (Figure 1, Eq. 6)."""
    options = {
        "reduction": config.reduction,
        "gather": _processes().num_processes > 1,
        "validate": first,
    }
    with _autocast(labels.device, config.precision):
        features, logits = forward["phi"](batch)
        terms = {"ce_encoder": cross_entropy(logits.float(), labels)}  # L_e
        if config.loss == "ce":
            return {"loss": terms["ce_encoder"], **terms}
        if config.loss == "scl":
            terms["contrastive"] = losses.scl_loss(features, labels, config.temperature, **options)
        else:
            psi_logits = forward["psi"](batch).float()
            terms["ce_weighting"] = cross_entropy(psi_logits, labels)  # L_w
            terms["contrastive"] = losses.lcl_loss(
                features,
                labels,
                psi_logits.log_softmax(1),
                config.temperature,
                config.form,
                detach_weights=config.detach_weights,
                **options,
            )
        joint = losses.joint_loss(
            terms["ce_encoder"], terms.get("ce_weighting", 0), terms["contrastive"], config.alpha
        )
        return {"loss": joint, **terms}  # L_f


class _Monitor:
    """The loss terms of an epoch. They are fetched a few steps at a time, for each look makes a GPU wait."""

    def __init__(self, title: str, config: Config, classes: int, steps: int):
        self.title, self.config, self.steps = title, config, steps
        self.guessing = math.log(classes)  # L_e of a model that knows nothing
        self.pending, self.rows, self.smooth = [], [], None

    def add(self, terms: dict[str, Tensor], place: dict) -> None:
        """place: the run's `step`, `epoch` and `lr`."""
        self.pending.append((place, {name: value.detach() for name, value in terms.items()}))

    def look(self) -> float:
        """Fetch what is pending and return the last loss. Raises FloatingPointError where training fails."""
        found = reduce(
            torch.stack([torch.stack([*terms.values()]) for _, terms in self.pending]), "mean"
        ).tolist()
        for (place, terms), values in zip(self.pending, found, strict=True):
            row = dict(zip(terms, values, strict=True))
            self.rows.append(place | row)
            self.smooth = 0.9 * (self.smooth or row["ce_encoder"]) + 0.1 * row["ce_encoder"]
            advice = f"lower the learning rate (now {self.config.lr:g})"
            if self.config.precision == "fp16":
                advice += ", or set precision='fp32': fp16 overflows above 65,504"
            where = f"in epoch {place['epoch']}, step {place['step'] - self.rows[0]['step'] + 1}; {advice}"
            if not all(map(math.isfinite, values)):
                terms = ", ".join(
                    f"{name} {value:g}" for name, value in row.items() if not math.isfinite(value)
                )
                raise FloatingPointError(f"{self.title}: not finite: {terms}, {where}")
            if self.smooth > 4 * max(1, self.guessing):
                raise FloatingPointError(
                    f"{self.title}: training runs away: L_e is {self.smooth:.3g}, and guessing "
                    f"would give {self.guessing:.3g}, {where}"
                )
        self.pending = []
        return row["loss"]

    def means(self) -> dict[str, float]:
        return pd.DataFrame(self.rows).drop(columns=["step", "epoch", "lr"]).mean().to_dict()

    def windows(self) -> list[dict]:
        """Means over windows of equal length; `step` is that of a window's end."""
        rows = pd.DataFrame(self.rows)
        windows = rows.groupby((rows.step - rows.step[0]) // math.ceil(self.steps / WINDOWS))
        return (
            windows.mean().assign(step=windows.step.max()).astype({"epoch": int}).to_dict("records")
        )


def _watch(run: _Run, items: list[Tensor], rows: Sequence[int], config: Config) -> list[dict]:
    """The probabilities of a few texts, from both networks, as they are now."""
    found = []
    for name, network in run.networks.items():
        p = _probabilities(network, items, _device(), config.precision)
        found += [
            {"step": run.step, "row": int(row), "network": name}
            | {f"p_{c}": x for c, x in enumerate(some)}
            for row, some in zip(rows, p.tolist(), strict=True)
        ]
    run.networks.train()
    return found


def _watched(folder: Path) -> set[int]:
    """The rows in a run's watched.csv."""
    file = folder / "watched.csv"
    return {*pd.read_csv(file).row} if file.is_file() else set()


def _batches(lengths: Tensor, config: Config, shuffle: torch.Generator) -> list[Tensor]:
    """Row numbers, batch by batch. "random" is a plain shuffle. "length" sorts every 20 shuffled batches by length
    before it cuts them, then shuffles the batches: less padding, but texts meet others of their length more often.
    Of a short last batch, several processes leave out what they cannot share evenly."""
    rows = torch.randperm(len(lengths), generator=shuffle)
    if config.order == "random":
        batches = list(rows.split(config.batch_size))
    else:
        runs = [
            run[lengths[run].argsort(stable=True)] for run in rows.split(20 * config.batch_size)
        ]
        batches = [batch for run in runs for batch in run.split(config.batch_size)]
    if config.drop_last and len(batches) > 1:
        batches = [batch for batch in batches if len(batch) == config.batch_size]
    batches = [batch[: len(batch) - len(batch) % _processes().num_processes] for batch in batches]
    batches = [batch for batch in batches if len(batch)]
    if config.order == "length":
        batches = [batches[i] for i in torch.randperm(len(batches), generator=shuffle)]
    return batches


def _optimiser(networks, config, steps):
    """AdamW without decay for biases and layer norms, and a linear decay of the rate to 0 (the authors' code)."""
    groups = {True: [], False: []}
    for name, parameter in networks.named_parameters():
        groups[name.endswith("bias") or "LayerNorm" in name].append(parameter)
    optimiser = torch.optim.AdamW(
        [{"params": groups[False]}, {"params": groups[True], "weight_decay": 0.0}],
        lr=config.lr,
        **paper.ADAM,
        fused=True,
    )
    return optimiser, torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: max(0.0, 1 - step / steps)
    )


def _wrapped(network: nn.Module, config: Config) -> nn.Module:
    """As the training step calls it: over several processes, compiled. The parameters stay those of `network`."""
    if _processes().num_processes > 1:
        network = DistributedDataParallel(network)
    if config.compile:
        graphs = (
            _device().type == "cuda" and config.accumulate == 1
        )  # a second batch would overwrite their gradients
        network = torch.compile(network, dynamic=True, mode="reduce-overhead" if graphs else None)
    return network


def _processes() -> PartialState:
    """This process among those that ``accelerate launch`` or torchrun started; alone without them."""
    return PartialState(cpu=not torch.cuda.is_available())


def _device() -> torch.device:
    return _processes().device


def choose_precision(device: torch.device, precision: str = "auto") -> str:
    """ "auto": on CUDA bf16 from compute capability 8.0, else fp16; on CPU bf16 only where it is faster."""
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
    torch.set_num_threads(1)  # and the thread's own time: a busy machine must not change the answer
    fp32, bf16 = (
        min(timeit.repeat(product, timer=time.thread_time, number=2, repeat=8))
        for product in products
    )
    torch.set_num_threads(threads)
    return bf16 < 0.8 * fp32


_prepared: dict[
    tuple, tuple
] = {}  # of the last data set and encoder: the runs of a notebook share it


def _prepare(dataset, config, device) -> tuple[dict[str, list[Tensor]], Tensor | None]:
    """What the networks read for `train`, its `views`, `valid` and `test`, one tensor a text: token ids ``(tokens,)``,
    or the frozen layers' output ``(tokens, d)``; and the tokens that the ids stand for, where the vocabulary is
    trimmed to those in use."""
    key = (
        dataset.hash,
        config.encoder,
        config.trainable_layers,
        config.augmentation,
        config.resample,
        device,
    )
    if key not in _prepared:
        tokenizer, used = models.load_tokenizer(config.encoder), None
        texts = {split: list(getattr(dataset, split).text) for split in data.SPLITS}
        if config.augmentation != "none":
            texts["views"] = augment.synonym_views(texts["train"], recipe=config.augmentation)
        items = {name: _token_ids(tokenizer, some) for name, some in texts.items()}
        if config.trainable_layers is not None:
            *_, stem = models.build(
                config.encoder,
                len(dataset.classes),
                config.pooling,
                config.trainable_layers,
                weighting=False,
            )
            stem.to(device, torch.float32)
            items = {
                name: _in_batches(
                    lambda batch: stem(**batch).last_hidden_state, some, device, "fp32"
                )
                for name, some in items.items()
            }
        elif config.resample == "once":  # else tokens may come that no text has yet
            first = torch.arange(
                (tokenizer.pad_token_id or 0) + 1
            )  # padding keeps its id: RoBERTa counts by it
            used = torch.cat([first, *(ids for some in items.values() for ids in some)]).unique()
            items = {
                name: [torch.searchsorted(used, ids) for ids in some]
                for name, some in items.items()
            }
        _prepared.clear()
        _prepared[key] = items, used
    return _prepared[key]


def _token_ids(tokenizer, texts: list[str]) -> list[Tensor]:
    return [
        torch.tensor(ids) for ids in tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    ]


def _batch(items: list[Tensor], device: torch.device, multiple: int = 1) -> dict[str, Tensor]:
    """Padded to the longest item, or on to the next multiple: fewer shapes, where each is compiled or captured."""
    padded = nn.utils.rnn.pad_sequence(
        items, batch_first=True
    )  # the padding is masked, so its value is nothing
    if extra := -padded.shape[1] % multiple:
        padded = nn.functional.pad(padded, (0, 0) * (padded.ndim - 2) + (0, extra))
    mask = torch.arange(padded.shape[1]) < torch.tensor([[len(item)] for item in items])
    name = "input_ids" if items[0].ndim == 1 else "inputs_embeds"
    return {name: padded.to(device), "attention_mask": mask.long().to(device)}


@torch.no_grad()
def _in_batches(
    function, items: list[Tensor], device, precision, size: int | None = None
) -> list[Tensor]:
    """Run `function` on batches of similar length; one float32 tensor a text, without padding, in given order."""
    size = size or (
        32 if device.type == "cpu" else 128
    )  # texts; more would not fit into a CPU's caches
    order, results = sorted(range(len(items)), key=lambda i: len(items[i])), [None] * len(items)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        with _autocast(device, precision):
            output = function(_batch([items[i] for i in rows], device)).float().cpu()
        for i, result in zip(rows, output, strict=True):
            results[i] = result[: len(items[i])].clone() if result.ndim > 1 else result
    return results


def _probabilities(
    network: nn.Module, items: list[Tensor], device, precision: str = "fp32"
) -> np.ndarray:
    """Softmax over classes for every text, ``(texts, C)``; Phi gives features and logits, Psi logits alone. Scores that
    are reported take float32, whatever the training took. Several processes share the texts."""

    def logits(batch):
        output = network(batch)
        return output[1] if isinstance(output, tuple) else output

    network.eval()
    state = _processes()
    parts = gather_object(
        [_in_batches(logits, items[state.process_index :: state.num_processes], device, precision)]
    )
    results = [None] * len(items)
    for first, part in enumerate(parts):
        results[first :: len(parts)] = part
    return torch.stack(results).softmax(1).numpy()


def _autocast(device: torch.device, precision: str):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def describe(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )


def _progress(total: int, title: str, **options) -> tqdm:
    """A bar with loss and time left; in a notebook it is one line that is updated, with no widget behind it."""
    from IPython import display, get_ipython

    if not hasattr(get_ipython(), "kernel"):
        return tqdm(total=total, desc=title, dynamic_ncols=True, **options)
    handle = display.display({"text/plain": title}, raw=True, display_id=True)
    line = io.StringIO()
    line.write = lambda text: text.strip() and handle.update({"text/plain": text.strip()}, raw=True)
    return tqdm(
        total=total, desc=title, file=line, ascii=" #", ncols=90, mininterval=0.5, **options
    )
