"""Training and evaluation beside the manner of the authors' code, by turns on the same texts.

    python benchmarks/training.py       under ten minutes on two CPU cores, if nothing else runs

Prints two tables. On a CPU the two networks are MiniLM; on CUDA they have ELECTRA-base's shape and
random weights. The texts are GoEmotions'. Where the data set or the tokenizer cannot be had, they
are random token ids, as many different ones as GoEmotions has, of lengths drawn from a gamma
distribution with its mean (19 tokens) and standard deviation (8.6).

reference   in the manner of the authors' code, written anew: eager attention, all hidden states and
            attentions returned, gradient checkpointing, AdamW parameter by parameter, the loss's
            weights filled by a double loop; evaluation text by text, always of both networks.
            float32. Ratios are against this; a row without the double loop shows what the loop
            alone costs.
ours        `lclkit.training` in float32 and in what precision="auto" takes here, in the reference's
            batches or those of order="length"; on CUDA also compiled, and in batches of 128 texts
            (256 rows).
floor       the arithmetic that no exact method avoids: 2 x 3 (evaluation: 2) operations for each
            parameter of the layers and each token, without padding, at the rate of a large matrix
            product in that precision.

The steps of all variants mix in random order, since a slow variant slows whatever follows it.
Medians over rounds. With OMP_NUM_THREADS=1, time on a CPU is the processor's, so a busy machine
matters less.
"""

import random
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import torch
from losses import machine
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import ElectraConfig, ElectraModel

from lclkit import data, losses, models, paper, training

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
NAME = torch.cuda.get_device_name() if CUDA else ""
CLASSES, TOKENS, MEAN, SD = (
    27,
    16_590,
    19.0,
    8.6,
)  # of GoEmotions; TOKENS: different ones, views included
TEXTS, ROUNDS = (2_560, 3) if CUDA else (400, 4)  # order="length" sorts 20 batches at a time
EVALUATED, CHUNK = 1_024, 64  # texts; those between two turns of the reference
PEAK = 989e12  # bf16 operations a second of an H100 SXM, without sparsity
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EXTRAS = {"output_hidden_states": True, "output_attentions": True}
CLOCK = time.perf_counter if CUDA or torch.get_num_threads() > 1 else time.process_time
LOOPLESS = "reference, no double loop"
REFERENCES = ("reference", LOOPLESS)
DATASET = SimpleNamespace(classes=range(CLASSES))  # all that a run asks of it


def made_encoder(folder: str) -> str:
    """Of ELECTRA-base's published shape."""
    ElectraModel(
        ElectraConfig(
            vocab_size=30522,
            embedding_size=768,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
        )
    ).save_pretrained(folder)
    return folder


def texts(encoder: str):
    """Token ids by split, as `training` prepares them; their tokens; labels; where from."""
    try:
        if CUDA:
            models.load_tokenizer("minilm").save_pretrained(encoder)  # both have BERT's vocabulary
        dataset = data.load("goemotions")
        items, used = training._prepare(dataset, training.Config(encoder=encoder), DEVICE)
        return items, used, torch.tensor(dataset.train.label), "GoEmotions"
    except (data.DataError, models.EncoderError):
        lengths = torch.distributions.Gamma((MEAN / SD) ** 2, MEAN / SD**2).sample(
            [2 * TEXTS + EVALUATED]
        )
        made = [torch.randint(1, TOKENS, (int(length),)) for length in lengths.round().clamp(3)]
        items = {"train": made[:TEXTS], "views": made[TEXTS : 2 * TEXTS], "test": made[2 * TEXTS :]}
        return items, torch.arange(TOKENS), torch.randint(CLASSES, (TEXTS,)), "random token ids"


def reference_loss(h, y, w, temperature, loop):
    """The released loss; with `loop` its matrix of weights is filled one by one."""
    n = len(h)
    weights, others = (
        torch.ones(n, n, device=DEVICE) if loop else w[:, y],
        1 - torch.eye(n, device=DEVICE),
    )
    for i, k in product(range(n), range(n)) if loop else ():
        weights[i, k] = w[i, y[k]]
    positives, similarity = (y[:, None] == y) * others, h @ h.T / temperature
    everyone = (weights * similarity.exp() * others).sum(1, keepdim=True)
    return -((weights * (similarity - everyone.log()) * positives).sum(1) / positives.sum(1)).mean()


def reference_run(config):
    run = training._Run(DATASET, replace(config, checkpointing=True), None, 10**6)
    for network in run.networks.values():
        network.backbone.set_attn_implementation("eager")
    groups = [
        {key: group[key] for key in ("params", "weight_decay")}
        for group in run.optimiser.param_groups
    ]
    run.optimiser = torch.optim.AdamW(
        groups, config.lr, **paper.ADAM | {"foreach": False, "fused": False}
    )
    return run


def reference_step(run, config, loop, rows, y):
    batch = training._batch(rows, DEVICE) | EXTRAS
    features, logits = run.networks["phi"](batch)
    psi_logits = run.networks["psi"](batch)
    loss = losses.joint_loss(
        cross_entropy(logits, y),
        cross_entropy(psi_logits, y),
        reference_loss(features, y, psi_logits.softmax(1), config.temperature, loop),
        config.alpha,
    )
    loss.backward()
    for network in run.networks.values():
        nn.utils.clip_grad_norm_(network.parameters(), paper.CLIP_NORM, foreach=False)
    run.optimiser.step()
    run.optimiser.zero_grad()


def our_step(run, forward, scaler, config, rows, y):
    """The inner loop of `training._fit`."""
    loss = training._step(
        forward, training._batch(rows, DEVICE, 16 if config.compile else 1), y, config, False
    )["loss"]
    scaler.scale(loss).backward()
    scaler.unscale_(run.optimiser)
    for network in run.networks.values():
        nn.utils.clip_grad_norm_(network.parameters(), paper.CLIP_NORM)
    scaler.step(run.optimiser)
    scaler.update()
    run.schedule.step()
    run.optimiser.zero_grad(set_to_none=True)


@torch.no_grad()
def reference_evaluation(networks, items):
    """Probabilities of the last network."""
    found = []
    for item in items:
        batch = training._batch([item], DEVICE) | EXTRAS
        for network in networks:
            output = network.eval()(batch)
        found.append(output[1].softmax(1).cpu().numpy()[0])
    return found


def our_evaluation(networks, precision, items):
    return [training._probabilities(network, items, DEVICE, precision) for network in networks][-1]


def seconds(function) -> float:
    start = CLOCK()
    function()
    if CUDA:
        torch.cuda.synchronize()
    return CLOCK() - start


def matmul_rate(precision: str) -> float:
    """Operations a second."""
    n = 8192 if CUDA else 2048
    a = torch.randn(n, n, device=DEVICE, dtype=DTYPES[precision])
    return 2 * n**3 / statistics.median(seconds(lambda: a @ a) for _ in range(30))


def by_turns(calls: dict[str, list], title: str) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds that all calls of a variant take, median over rounds; on CUDA the most bytes of one.

    First comes a warm-up of two calls each; what is compiled then sees all its shapes.
    """
    times, peaks = {name: [] for name in calls}, dict.fromkeys(calls, 0)
    for number in tqdm(range(-1, ROUNDS), desc=title):
        turns = [
            (name, call)
            for name, some in calls.items()
            for call in (some if number >= 0 or "compiled" in name else some[:2])
        ]
        random.shuffle(turns)
        took = dict.fromkeys(calls, 0.0)
        for name, call in turns:
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            took[name] += seconds(call)
            if CUDA:
                peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated() - before)
        for name in calls if number >= 0 else ():
            times[name].append(took[name])
    return {name: statistics.median(some) for name, some in times.items()}, peaks


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def in_layers(networks) -> int:
    return sum(parameters(models._layers(network)) for network in networks)


def cells(took, reference, number, operations, rate):
    return {
        "texts/s": f"{number / took:,.0f}",
        "against reference": f"{reference / took:.1f}",
        "floor / time": f"{operations / rate / took:.0%}",
        **(
            {"of the H100's bf16 peak": f"{operations / took / PEAK:.1%}"} if "H100" in NAME else {}
        ),
    }


def evaluation_rows(theirs, run, items, used, rates):
    items = items["test"][:EVALUATED]
    whole, phi, psi = [used[ids] for ids in items], *run.networks.values()
    pair = [theirs.networks["psi"], theirs.networks["phi"]]
    calls = {
        "reference": [
            partial(reference_evaluation, pair, whole[i : i + CHUNK])
            for i in range(0, len(whole), CHUNK)
        ]
    }
    variants = {"reference": ("fp32", pair)}
    for precision in rates:
        for title, networks in {"Φ alone": [phi], "both networks": [psi, phi]}.items():
            variants[f"{precision}, {title}"] = precision, networks
            calls[f"{precision}, {title}"] = [partial(our_evaluation, networks, precision, items)]
    took, peaks = by_turns(calls, "evaluation")
    expected, rows = reference_evaluation(pair, whole), []
    for name, (precision, networks) in variants.items():
        found = expected if name == "reference" else our_evaluation(networks, precision, items)
        operations = 2 * sum(map(len, items)) * in_layers(networks)
        rows.append(
            {
                "evaluation": name,
                **cells(took[name], took["reference"], len(items), operations, rates[precision]),
                "largest difference of p": f"{np.abs(np.subtract(found, expected)).max():.0e}",
            }
        )
        if CUDA:
            rows[-1]["GiB"] = f"{(peaks[name] + 4 * sum(map(parameters, networks))) / 2**30:.1f}"
    return rows


def training_rows(theirs, run, configs, items, labels, used, rates):
    """Ours share two networks, for only their batches and calls differ."""
    sides = [items[side][:TEXTS] for side in ("train", "views")]
    lengths = torch.tensor([max(map(len, pair)) for pair in zip(*sides, strict=True)])
    calls, slots = {name: [] for name in configs}, dict.fromkeys(configs, 0)
    for name, config in configs.items():
        forward = {key: training._wrapped(network, config) for key, network in run.networks.items()}
        scaler = torch.amp.GradScaler(DEVICE.type, enabled=config.precision == "fp16")
        step = (
            partial(reference_step, theirs, config, name != LOOPLESS)
            if name in REFERENCES
            else partial(our_step, run, forward, scaler, config)
        )
        for rows in training._batches(lengths, config, torch.Generator().manual_seed(0)):
            batch = [
                used[side[i]] if name in REFERENCES else side[i] for side in sides for i in rows
            ]
            calls[name].append(partial(step, batch, labels[rows].repeat(2).to(DEVICE)))
            longest = max(map(len, batch))
            slots[name] += len(batch) * (longest + (-longest % 16 if config.compile else 0))
    for some in (theirs, run):
        some.networks.train()
    took, peaks = by_turns(calls, "training")
    tokens, rows = sum(len(ids) for side in sides for ids in side), []
    operations = 2 * 3 * tokens * in_layers(run.networks.values())
    for name, config in configs.items():
        steps, rate = len(calls[name]), rates[config.precision]
        rows.append(
            {
                "training": name,
                "ms a step": f"{1000 * took[name] / steps:,.1f}",
                "floor": f"{1000 * operations / rate / steps:,.1f}",
                **cells(took[name], took["reference"], TEXTS, operations, rate),
                "padding": f"{1 - tokens / slots[name]:.0%}",
            }
        )
        if CUDA:  # at rest: weights and AdamW's two moments; CUDA graphs keep theirs between calls
            rest = 12 * parameters((theirs if name in REFERENCES else run).networks)
            rows[-1]["GiB"] = "" if config.compile else f"{(peaks[name] + rest) / 2**30:.1f}"
    return rows


def main():
    random.seed(0)
    torch.manual_seed(0)
    base = training.Config(
        precision="fp32", encoder=made_encoder(tempfile.mkdtemp()) if CUDA else "minilm"
    )
    auto = training.choose_precision(DEVICE)
    rates = {precision: matmul_rate(precision) for precision in dict.fromkeys(("fp32", auto))}
    configs = dict.fromkeys(REFERENCES, base)
    configs |= {
        f"{precision}, {order}": replace(base, precision=precision, order=order)
        for precision in rates
        for order in ("random", "length")
    }
    if CUDA:
        configs |= {
            f"{auto}, {order}, {k} texts{', compiled' * compiled}": replace(
                base, precision=auto, order=order, batch_size=k, compile=compiled
            )
            for k, order, compiled in (
                (10, "random", True),
                (10, "length", True),
                (128, "random", False),
                (128, "length", False),
                (128, "length", True),
            )
        }
    items, used, labels, source = texts(base.encoder)
    theirs, run = reference_run(base), training._Run(DATASET, base, used, 10**6)
    tables = [
        evaluation_rows(theirs, run, items, used, rates),  # first, while the weights are the same
        training_rows(theirs, run, configs, items, labels, used, rates),
    ]
    (loopless,) = [row["against reference"] for row in tables[1] if row["training"] == LOOPLESS]
    print(
        f"Two networks, {'of the shape of ELECTRA-base' if CUDA else 'MiniLM'}; "
        f"steps of {base.batch_size} texts and their views, from {TEXTS:,}, "
        f"and evaluation of {EVALUATED:,}; {source}; {ROUNDS} rounds; "
        f"{NAME}{', ' * CUDA}{machine()}, {torch.get_num_threads()} threads. "
        "TFLOP/s of a large matrix product: "
        + ", ".join(f"{precision} {rate / 1e12:.3g}" for precision, rate in rates.items())
        + ". Ratios are "
        f"against the reference with its double loop; without it the reference has {loopless}."
    )
    for rows in reversed(tables):
        print("\n| " + " | ".join(rows[0]) + " |\n|---" + "|---:" * (len(rows[0]) - 1) + "|")
        for row in rows:
            print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
