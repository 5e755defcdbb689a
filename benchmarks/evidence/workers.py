"""Processes of one thread each, which is how every scorer here is timed."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool

import torch


@contextmanager
def workers(processes: int) -> Iterator[Pool]:
    """Start the processes; numpy's own threads would spin, and count as time spent."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by numpy where it starts, so before they do
    with multiprocessing.get_context("spawn").Pool(processes, one_thread) as pool:
        yield pool


def one_thread() -> None:
    torch.set_num_threads(1)
