"""Trains a GRU in two processes by PyTorch's `DistributedDataParallel`, and in one.

    KERAS_BACKEND=torch python examples/distributed_torch.py

A Keras model is a `torch.nn.Module`, so it is wrapped as one, and trained by a loop of PyTorch. This runs on the
CPU; on GPUs take the backend "nccl", one GPU for each process, and pass `device_ids=[rank]`. The weights must come
out the same up to float32 rounding, for sums over a batch are taken in another order.
"""

import pathlib
import tempfile

import keras
import numpy as np
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from keras_gru_ext import GRU

TIME, FEATURES, UNITS, BATCH, PROCESSES = 12, 5, 16, 32, 2


def make_data():
    """Sequences of 3 to 12 steps, padded with zeros at the end, and the mean of all their numbers."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * BATCH, TIME, FEATURES)).astype("float32")
    lengths = rng.integers(3, TIME + 1, (len(x), 1))
    x[np.arange(TIME) >= lengths] = 0.0
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(x.mean((1, 2))[:, None]))


def train(reset_after, rank=0, processes=1):
    """Trains a model from the same start in whatever number of processes, and returns its weights."""
    keras.utils.set_random_seed(0)
    with keras.device("cpu"):
        model = keras.Sequential(
            [
                keras.Input((TIME, FEATURES)),
                keras.layers.Masking(),
                GRU(UNITS, reset_after=reset_after, fused=True, name="gru"),
                keras.layers.Dense(1),
            ]
        )
        data = make_data()
        # Every process gets its part of each batch; DistributedDataParallel averages the gradients.
        module = DistributedDataParallel(model) if processes > 1 else model
        sampler = DistributedSampler(data, processes, rank, shuffle=False)
        optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
        for _ in range(3):
            for x, y in DataLoader(data, batch_size=BATCH // processes, sampler=sampler):
                loss = torch.nn.functional.mse_loss(module(x, training=True), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.get_weights()


def work(rank, folder):
    """One of the processes: trains both conventions, and writes the weights."""
    rendezvous = (pathlib.Path(folder) / "rendezvous").as_uri()
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=PROCESSES)
    for reset_after in (False, True):
        np.savez(pathlib.Path(folder) / f"{rank}-{reset_after}.npz", *train(reset_after, rank, PROCESSES))
    distributed.destroy_process_group()


def main():
    print(f"{PROCESSES} processes")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (folder,), PROCESSES)
        for reset_after in (False, True):
            wanted = train(reset_after)
            for rank in range(PROCESSES):
                with np.load(pathlib.Path(folder) / f"{rank}-{reset_after}.npz") as weights:
                    differences = [np.abs(weights[f"arr_{i}"] - w).max() for i, w in enumerate(wanted)]
                print(f"process {rank}, reset_after={reset_after}: off from one process by {max(differences):.1e}")


if __name__ == "__main__":
    main()
