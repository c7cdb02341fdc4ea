"""Where a recording ends and what was made of it goes on: no click between them.

What a codec decodes has its own phase, so it does not meet a recording at its last sample. The recording is carried on
for some milliseconds by what its last samples say of each next one, and fades meanwhile into the new sound, which
begins where it is most like that (as in WSOLA; Verhelst and Roelands, 1993).
"""

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

ORDER = 96  # samples from which the next is told
HEARD = 4096  # last samples of the recording
SEAM_S = 0.025
SEARCH_S = 0.0125  # of the new sound may be left out: a period of 80 Hz
RIDGE = 1e-6  # of the energy: a pure tone alone would have no unique prediction
LEAST_ALIKE = -0.5  # cancellation that is made up for


def joined(recording: Tensor, new: Tensor, *, sample_rate: int) -> Tensor:
    """A recording [T] and the sound that follows it [T'] -> the latter with a beginning that joins on, and shorter by
    `SEARCH_S` at most; as it was, where the recording is too short to tell, or silent."""
    n, search = round(SEAM_S * sample_rate), round(SEARCH_S * sample_rate)
    heard = recording[-HEARD:].detach().cpu().double().numpy()
    if len(heard) <= 4 * ORDER or len(new) < n + search or not np.abs(heard).max() > 0:
        return new
    on = torch.from_numpy(carried_on(heard, n)).to(new)
    places = new[: n + search].unfold(0, n, 1)
    alike = places @ on / (places.norm(dim=1) * on.norm()).clamp_min(1e-9)
    lag = int(alike.argmax())
    up = torch.sin(torch.linspace(0, torch.pi / 2, n + 2, device=new.device)[1:-1]).square().to(new)
    # Two sounds of one level, alike by r, have together the level √(f² + g² + 2·r·f·g): that is divided out.
    level = ((1 - up).square() + up.square() + 2 * alike[lag].clamp_min(LEAST_ALIKE) * up * (1 - up)).sqrt()
    return torch.cat([(on * (1 - up) + places[lag] * up) / level, new[lag + n :]])


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
