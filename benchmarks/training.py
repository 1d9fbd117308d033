"""Training and evaluation beside the manner of the authors' code, by turns on the same texts.

    python benchmarks/training.py           some five minutes on two CPU cores, if nothing else runs
    python benchmarks/training.py --bf16    in bfloat16 too, where a processor is fast at it

On a CPU the two networks are MiniLM; on CUDA they have ELECTRA-base's shape and random weights. The
texts are GoEmotions', or else WordNet's definitions.

reference   in the manner of the authors' code, written anew: eager attention, all hidden states and
            attentions returned, gradient checkpointing, AdamW parameter by parameter, the loss's
            weights filled by a double loop; evaluation text by text, always of both networks.
            Ratios are against this; a row without the double loop shows what the loop alone costs.
bare loop   the loop of notebook 04, which takes the very steps of the row below it, with torch's
            usual AdamW where Trainer takes the fused one.
ours        `training.LabelAwareTrainer`, with all that Trainer does in a step, in the same random
            batches or those of order="length"; on CUDA also compiled, and in batches of 128 texts.
floor       the arithmetic that no exact method avoids: 2 x 3 (evaluation: 2) operations for each
            parameter of the layers and each token, without padding, at the rate of a large matrix
            product in that precision.

The variants take turns, an epoch each, in random order. Medians over rounds. With OMP_NUM_THREADS=1
time on a CPU is the processor's own, so a busy machine matters less.
"""

import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import nbformat
import numpy as np
import torch
from losses import machine
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import EarlyStoppingCallback, ElectraConfig, ElectraModel, TrainerCallback

from lclkit import batches, data, models, paper, sources, training

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "04_training.ipynb"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
NAME = torch.cuda.get_device_name() if CUDA else ""
TEXTS, ROUNDS, EVALUATED = (320, 2, 512) if CUDA else (100, 2, 256)
PEAK = 989e12  # bf16 operations a second of an H100 SXM, without sparsity
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EXTRAS = {"output_hidden_states": True, "output_attentions": True}
CLOCK = time.perf_counter if CUDA or torch.get_num_threads() > 1 else time.process_time


class Clock(TrainerCallback):
    """Seconds from the first step of training to its end."""

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 0:
            self.start = CLOCK()

    def on_train_end(self, args, state, control, **_):
        if CUDA:
            torch.cuda.synchronize()
        self.seconds = CLOCK() - self.start


def notebook_loop():
    """The loop of notebook 04, from its cells."""
    space = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if "imports" in tags or "definition" in tags:
            exec(cell.source, space)
    return space["loop"]


def reference_loss(h, y, w, temperature, double_loop):
    """The released loss; with `double_loop` its matrix of weights is filled one by one."""
    n = len(h)
    weights = w[:, y]
    if double_loop:
        weights = torch.ones(n, n, device=DEVICE)
        for i, k in product(range(n), range(n)):
            weights[i, k] = w[i, y[k]]
    others = 1 - torch.eye(n, device=DEVICE)
    positives = (y[:, None] == y) * others
    similarity = h @ h.T / temperature
    everyone = (weights * similarity.exp() * others).sum(1, keepdim=True)
    return -((weights * (similarity - everyone.log()) * positives).sum(1) / positives.sum(1)).mean()


def reference_epoch(build, config, texts, double_loop):
    networks = build(config)
    for backbone in (networks.phi.backbone, networks.psi):
        backbone.set_attn_implementation("eager")
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    betas = (config.adam_beta1, config.adam_beta2)
    slow = {"foreach": False, "fused": False}
    optimiser = torch.optim.AdamW(networks.parameters(), config.lr, betas, eps=1e-6, **slow)
    networks.train()
    inputs = [
        batches.collate([texts[row] for row in rows]) for rows in batches.Batches(texts, config)
    ]
    start = CLOCK()
    for batch in inputs:
        batch = {name: value.to(DEVICE) for name, value in batch.items()}
        y = batch.pop("labels")
        encoded = networks.phi.backbone(**batch, **EXTRAS)
        pooled = encoded.last_hidden_state[:, 0]
        logits = networks.phi.classifier(pooled)
        psi_logits = networks.psi(**batch, **EXTRAS).logits
        h = nn.functional.normalize(pooled, dim=1)
        w = psi_logits.softmax(1)
        contrastive = reference_loss(h, y, w, config.temperature, double_loop)
        entropies = cross_entropy(logits, y) + cross_entropy(psi_logits, y)
        (config.alpha * entropies + (1 - config.alpha) * contrastive).backward()
        for network in networks.children():
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm, foreach=False)
        optimiser.step()
        optimiser.zero_grad()
    if CUDA:
        torch.cuda.synchronize()
    return CLOCK() - start


def bare_epoch(loop, build, config, texts):
    networks = build(config)

    def read_batch(items):
        return {name: value.to(DEVICE) for name, value in batches.padded(items).items()}

    labels = texts.labels["train"]
    start = CLOCK()
    loop(networks.phi, networks.psi, read_batch, texts.sides, labels, config, len(labels))
    return CLOCK() - start


def our_epoch(build, config, texts, **options):
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        arguments = (build(config), config, texts, Path(folder))
        trainer = training.LabelAwareTrainer(*arguments, **options)
        trainer.add_callback(clock)
        trainer.remove_callback(training.ProgressLine)
        trainer.remove_callback(EarlyStoppingCallback)  # which asks for evaluations
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        trainer.train()
    return clock.seconds


@torch.no_grad()
def reference_evaluation(networks, items):
    """Text by text; the probabilities of Φ."""
    rows = []
    for item in items:
        batch = {name: value.to(DEVICE) for name, value in batches.padded([item]).items()}
        networks.psi(**batch, **EXTRAS)
        encoded = networks.phi.backbone(**batch, **EXTRAS)
        logits = networks.phi.classifier(encoded.last_hidden_state[:, 0])
        rows.append(logits.softmax(1).cpu().numpy()[0])
    return np.array(rows)


def our_evaluation(networks, items, precision):
    """The probabilities of the last network."""
    for network in networks:
        logits = batches.outputs(network, items, precision)["logits"]
    return logits.softmax(1).numpy()


def seconds(function):
    start = CLOCK()
    function()
    if CUDA:
        torch.cuda.synchronize()
    return CLOCK() - start


def by_turns(calls, title):
    """Seconds of each call, which returns its own or None: median over rounds, after a warm-up."""
    times = {name: [] for name in calls}
    for number in tqdm(range(-1, ROUNDS), desc=title):
        for name in random.sample(list(calls), len(calls)):
            whole = seconds(lambda name=name: times[name].append(calls[name]()))
            if times[name][-1] is None or isinstance(times[name][-1], np.ndarray):
                times[name][-1] = whole
            if number < 0:
                times[name].clear()
    return {name: statistics.median(some) for name, some in times.items()}


def matmul_rate(precision):
    """Operations a second."""
    n = 8192 if CUDA else 2048
    a = torch.randn(n, n, device=DEVICE, dtype=DTYPES[precision])
    return 2 * n**3 / statistics.median(seconds(lambda: a @ a) for _ in range(20))


def in_layers(*networks):
    """Parameters of the layers: embeddings are looked up, not multiplied."""
    named = [pair for network in networks for pair in network.named_parameters()]
    return sum(p.numel() for name, p in named if ".layer" in name)


def cells(took, reference, count, operations, rate):
    row = {"texts/s": f"{count / took:,.1f}", "against reference": f"{reference / took:.1f}"}
    row["floor / time"] = f"{operations / rate / took:.0%}"
    if "H100" in NAME:
        row["of the H100's bf16 peak"] = f"{operations / took / PEAK:.1%}"
    return row


def training_rows(build, texts, configs, rates):
    base = configs["ours, fp32, random"]
    calls = {
        "reference": partial(reference_epoch, build, base, texts, True),
        "reference, no double loop": partial(reference_epoch, build, base, texts, False),
        "bare loop": partial(bare_epoch, notebook_loop(), build, base, texts),
    }
    for name, config in configs.items():
        options = {"torch_compile": True} if "compiled" in name else {}
        calls[name] = partial(our_epoch, build, config, texts, **options)
    took = by_turns(calls, "training")
    rows = []
    for name in calls:
        config = configs.get(name, base)
        drawn = list(batches.Batches(texts, config))
        rate = rates[config.precision]
        widths = [batches.collate([texts[row] for row in b])["attention_mask"] for b in drawn]
        tokens = sum(int(mask.sum()) for mask in widths)
        padding = 1 - tokens / sum(mask.numel() for mask in widths)
        operations = 2 * 3 * tokens * in_layers(*build(base).children())
        measures = cells(took[name], took["reference"], sum(map(len, drawn)), operations, rate)
        step = f"{1000 * took[name] / len(drawn):,.1f}"
        rows.append({"training": name, "ms a step": step, **measures, "padding": f"{padding:.0%}"})
    return rows, took["ours, fp32, random"] / took["bare loop"]


def evaluation_rows(build, texts, config, rates):
    items = texts.items["test"][:EVALUATED]
    networks, plain = build(config).eval(), build(config).eval()
    plain.phi.backbone.set_attn_implementation("eager")
    plain.psi.set_attn_implementation("eager")
    calls = {"reference": partial(reference_evaluation, plain, items)}
    variants = {"reference": ("fp32", [networks.psi, networks.phi])}
    for precision in rates:
        some = {"Φ alone": [networks.phi], "both networks": [networks.psi, networks.phi]}
        for title, pair in some.items():
            variants[f"{precision}, {title}"] = precision, pair
            calls[f"{precision}, {title}"] = partial(our_evaluation, pair, items, precision)
    took = by_turns(calls, "evaluation")
    expected, rows = reference_evaluation(plain, items), []
    for name, (precision, pair) in variants.items():
        found = expected if name == "reference" else our_evaluation(pair, items, precision)
        operations = 2 * sum(map(len, items)) * in_layers(*pair)
        measures = cells(took[name], took["reference"], len(items), operations, rates[precision])
        gap = f"{abs(found - expected).max():.0e}"
        rows.append({"evaluation": name, **measures, "largest difference of p": gap})
    return rows


def sampled():
    """Some texts of each class."""
    name = "goemotions" if sources.find("goemotions") else "supersense"
    dataset = data.load(name)
    count = len(dataset.classes)
    evaluated = dataset.sample(4 * (EVALUATED // count + 1))
    return replace(evaluated, train=dataset.sample(TEXTS // count + 1).train), name


def made_encoder(folder):
    """Of ELECTRA-base's published shape, with MiniLM's tokenizer: both have BERT's vocabulary."""
    shape = {"vocab_size": 30522, "embedding_size": 768, "hidden_size": 768}
    shape |= {"num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    ElectraModel(ElectraConfig(**shape)).save_pretrained(folder)
    models.open_encoder("minilm").tokenizer.save_pretrained(folder)
    return folder


def main():
    random.seed(0)
    encoder = made_encoder(tempfile.mkdtemp()) if CUDA else "minilm"
    settings = paper.settings("goemotions") | {"encoder": encoder, "epochs": 1}
    base = training.Config(**settings)
    dataset, source = sampled()
    opened = models.open_encoder(encoder)
    texts = batches.prepare(dataset, base, opened, None)

    def build(config):
        return training.build(dataset, config, opened)[0].to(DEVICE)

    rates = {"fp32": matmul_rate("fp32")}
    if CUDA or "--bf16" in sys.argv:
        rates["bf16"] = matmul_rate("bf16")
    configs = {}
    for precision, order in product(rates, ("random", "length")):
        changes = {"precision": precision, "order": order}
        configs[f"ours, {precision}, {order}"] = replace(base, **changes)
    if CUDA:
        for size, order, compiled in ((10, "length", True), (128, "length", False)):
            config = replace(base, precision="bf16", order=order, batch_size=size)
            title = f"ours, bf16, {order}, {size} texts{', compiled' * compiled}"
            configs[title] = config
    evaluation = evaluation_rows(build, texts, base, rates)
    rows, cost = training_rows(build, texts, configs, rates)
    shape = "of the shape of ELECTRA-base" if CUDA else "MiniLM"
    speeds = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in rates.items())
    print(f"Two networks, {shape}; steps of {base.batch_size} texts and their views, {TEXTS:,} of")
    print(f"{source}; evaluation of {EVALUATED:,}; {ROUNDS} rounds; {NAME} {machine()},")
    print(f"{torch.get_num_threads()} threads. TFLOP/s of a large matrix product: {speeds}.")
    print(f"Trainer over the bare loop, the same steps: {cost - 1:+.1%}")
    for table in (rows, evaluation):
        print("\n| " + " | ".join(table[0]) + " |\n|---" + "|---:" * (len(table[0]) - 1) + "|")
        for row in table:
            print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
