"""Streams that walk through long recordings crop by crop, each on from where it was: what truncated back-propagation
needs (Williams and Peng, 1990).

A bank holds a long recording as pieces that overlap. A walk that reaches the end of a piece goes on in the next one of
the same recording, at the same moment; where there is none, it begins anew in the clip that the loop has drawn.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from soundloom.bank import SoundBank


@dataclass(frozen=True)
class Onward:
    """The piece that follows another, and the frames by which it begins later."""

    clip: int
    frames: int


def onward(bank: SoundBank, *, frame_rate: float) -> dict[int, Onward]:
    """Of each clip trained on the piece that goes on where it ends, if the bank has one."""
    path, start_s, seconds = (bank.column(name) for name in ("path", "start_s", "seconds"))
    clips = sorted((int(clip) for clip in bank.clips("train")), key=lambda clip: (path[clip], start_s[clip]))
    found = {}
    for this, following in itertools.pairwise(clips):
        later_s = float(start_s[following] - start_s[this])
        if path[this] == path[following] and 0 < later_s < seconds[this]:
            found[this] = Onward(following, round(later_s * frame_rate))
    return found


class Walks(nn.Module):
    """Where each of B streams is, and the hidden state that it has come to. These are buffers, so that they are saved
    with the weights, and a resumed run goes on in the middle of a recording as if it had not been cut."""

    clip: Tensor  # [B], -1: nowhere
    at: Tensor  # [B], the frame that comes next
    hidden: Tensor  # [L, B, H]

    def __init__(self, streams: int, layers: int, width: int) -> None:
        super().__init__()
        self.register_buffer("clip", torch.full((streams,), -1, dtype=torch.int64))
        self.register_buffer("at", torch.zeros(streams, dtype=torch.int64))
        self.register_buffer("hidden", torch.zeros(layers, streams, width))

    @torch.no_grad()
    def set_out(
        self,
        drawn: Tensor,
        length: Callable[[int], int],
        ways: Mapping[int, Onward],
        crop: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Brings every stream to a place from which a crop can be taken; says which ones begin anew there, [B] bool.

        `drawn`: the clips of the loop's batch, where those begin that cannot go on; `length`: of a clip, in frames.
        """
        draw = torch.rand(len(self.clip), generator=generator, device=generator.device).cpu()
        places = list(zip(self.clip.tolist(), self.at.tolist(), strict=True))
        anew = []
        for stream, (clip, at) in enumerate(places):
            while clip >= 0 and at + crop > length(clip):
                way = ways.get(clip)
                clip, at = (-1, 0) if way is None or at <= way.frames else (way.clip, at - way.frames)
            anew.append(clip < 0)
            if clip < 0:
                clip = int(drawn[stream])
                at = int(draw[stream] * (max(0, length(clip) - crop) + 1))
            places[stream] = (clip, at)
        now = torch.from_numpy(np.array(places, np.int64)).to(self.clip.device)
        self.clip.copy_(now[:, 0])
        self.at.copy_(now[:, 1])
        begins = torch.tensor(anew, device=self.hidden.device)
        self.hidden.masked_fill_(begins[None, :, None], 0.0)
        return begins

    @torch.no_grad()
    def arrive(self, hidden: Tensor, crop: int) -> None:
        """The streams have gone through a crop and come to a hidden state [L, B, H]."""
        self.hidden.copy_(hidden.detach())
        self.at.add_(crop)
