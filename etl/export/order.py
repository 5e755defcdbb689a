"""In which order a trainer reads an export: the same samples every epoch, arranged anew."""

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from longattn.etl.export.read import opened
from longattn.udfs.errors import UserError
from longattn.udfs.text.ngrams import mix

LIMIT = 1 << 63  # of numbers of 64 bits with a sign


def epoch_order(path: str | PathLike[str], epoch: int, seed: int = 0) -> NDArray[np.int64]:
    """The numbers of an export's samples in the order of an epoch; int64 [samples].

    Epoch 0 has the order of the files. That of every other epoch follows from the seed and the
    epoch alone, on any machine and with any version of numpy, so a run that stopped before its
    i-th sample goes on with `epoch_order(path, epoch)[i:]`. Raises UserError where there is no
    export, for a negative epoch, or for one or a seed that 64 bits do not hold.
    """
    _, manifest = opened(path)
    return order_of(manifest["samples"], epoch, seed)


def order_of(n_samples: int, epoch: int, seed: int = 0) -> NDArray[np.int64]:
    """As epoch_order, of so many samples."""
    for name, value in (("epoch", epoch), ("seed", seed)):
        if not isinstance(value, int | np.integer) or not -LIMIT <= int(value) < LIMIT:
            raise UserError(f"{name}: a whole number of 64 bits, got {value!r}")
    if epoch < 0:
        raise UserError(f"epoch {epoch}: epochs are numbered from 0")
    number_N = np.arange(n_samples, dtype=np.uint64)
    if epoch == 0:
        return number_N.astype(np.int64)
    # mix and ^ map distinct numbers to distinct ones, so that no two samples draw.
    key = mix(mix(np.array([seed], np.int64).view(np.uint64)) + np.uint64(epoch))
    return np.argsort(mix(number_N ^ key)).astype(np.int64)


def sample_in(path: str, place: int, epoch: int, seed: int = 0) -> int:
    """The number of the sample at a place of an epoch's order; a place beyond it is returned."""
    order_N = epoch_order(path, epoch, seed)
    return int(order_N[place]) if 0 <= place < len(order_N) else place
