"""Two processes train as one with the same batches. Dropout, drawn by each for itself, is off."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from torch import distributed
from transformers import AutoModelForSequenceClassification, TrainerCallback

from lclkit.training import Config, train

OTHERWISE = {"loss": "scl", "reduction": "sum", "order": "length", "batch_size": 6}
OTHERWISE |= {"accumulate": 2, "trainable_layers": 1}
pytestmark = pytest.mark.slow
CASES = {"lcl": {}, "scl, otherwise": OTHERWISE}


@pytest.fixture(scope="module")
def config(tiny_electra):
    return Config(encoder=tiny_electra, epochs=2, batch_size=8, lr=5e-3, dropout=0.0)


class Stop(TrainerCallback):
    def on_save(self, *_, **__):
        distributed.barrier()
        raise KeyboardInterrupt


def one_of_two(rank, meeting, dataset, config, out):
    """What a process says to a batch that cannot be shared, and its runs."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    torch.set_num_threads(1)
    limit = timedelta(seconds=120)
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=2, timeout=limit)
    with pytest.raises(ValueError) as uneven:
        train(dataset, replace(config, batch_size=9), out)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, config, out / "lcl", callbacks=[Stop()])
    found = {
        name: train(dataset, replace(config, **changes), out / name, save=name == "lcl")
        for name, changes in CASES.items()
    }
    seed = torch.initial_seed()
    distributed.destroy_process_group()
    return str(uneven.value), found, seed


@pytest.fixture(scope="module")
def two_processes(made_dataset, config, tmp_path_factory):
    place = tmp_path_factory.mktemp("two")
    given = ((place / "meeting").as_uri(), made_dataset, config, place / "runs")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(one_of_two, range(2), *([argument] * 2 for argument in given)))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(two_processes, made_dataset, config, tmp_path, name):
    one = train(made_dataset, replace(config, **CASES[name]), tmp_path)
    two = two_processes[0][1][name]
    assert two.summary == two_processes[1][1][name].summary
    assert one.folder.name == two.folder.name
    same = ("best_epoch", "scores", "texts")
    assert all(one.summary[key] == two.summary[key] for key in same)
    for file in ("history.csv", "predictions.csv", "similarity.csv"):
        expected, found = (pd.read_csv(result.folder / file) for result in (one, two))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-5)
    assert pd.read_csv(one.folder / "history.csv").loss.std() > 0.01


def test_each_process_has_its_own_dropout(two_processes):
    assert two_processes[0][2] != two_processes[1][2]


def test_a_stopped_run_went_on(two_processes):
    """That it is as of one process says the test above."""
    folder = two_processes[0][1]["lcl"].folder
    assert [*folder.parent.iterdir()] == [folder]


def test_saved_by_two_processes(two_processes, made_dataset):
    result = two_processes[0][1]["lcl"]
    model = AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    p = model.predict(list(made_dataset.test.text))[1]
    np.testing.assert_allclose(p, result.probabilities(), atol=1e-5)


def test_a_batch_that_processes_cannot_share(two_processes):
    for message, *_ in two_processes:
        assert message.startswith("batch_size: expected a multiple of the 2 processes")
