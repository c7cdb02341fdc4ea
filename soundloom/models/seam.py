"""Where a recording ends and what was made of it goes on: no click between them.

What a codec decodes has its own phase, so it does not meet a recording at its last sample. The recording is carried on
for some milliseconds by what its last samples say of each next one, and fades into the new sound meanwhile.
"""

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

ORDER = 96  # samples from which the next is told
HEARD = 4096  # last samples of the recording
SEAM_S = 0.025
RIDGE = 1e-6  # of the energy: a pure tone alone would have no unique prediction


def joined(recording: Tensor, new: Tensor, *, sample_rate: int) -> Tensor:
    """A recording [T] and the sound that follows it [T'] -> the latter with a beginning that joins on."""
    n = min(round(SEAM_S * sample_rate), len(new))
    heard = recording[-HEARD:].detach().cpu().double().numpy()
    if n == 0 or len(heard) <= 4 * ORDER or not np.abs(heard).max() > 0:
        return new
    on = torch.from_numpy(carried_on(heard, n)).to(new)
    fade = torch.sin(torch.linspace(0, torch.pi / 2, n + 2, device=new.device)[1:-1]).square().to(new)
    return torch.cat([on * (1 - fade) + new[:n] * fade, new[n:]])


def carried_on(heard: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The next n samples by linear prediction (autocorrelation method, which never grows; Makhoul, 1975).

    >>> tone = np.sin(0.2 * np.arange(4096))
    >>> bool(np.abs(carried_on(tone, 100) - np.sin(0.2 * np.arange(4096, 4196))).max() < 0.1)
    True
    """
    windowed = heard * np.hanning(2 * len(heard))[: len(heard)] ** 0.5  # the latest samples weigh most
    lags = np.array([windowed[: len(windowed) - k] @ windowed[k:] for k in range(ORDER + 1)])
    lags[0] *= 1 + RIDGE
    taps = scipy.linalg.solve_toeplitz(lags[:-1], lags[1:])[::-1]
    line = np.concatenate([heard[-ORDER:], np.zeros(n)])
    for i in range(ORDER, len(line)):
        line[i] = taps @ line[i - ORDER : i]
    return line[ORDER:]
