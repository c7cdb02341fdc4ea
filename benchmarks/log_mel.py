"""Log-mel spectra

60 s of noise at 44.1 kHz into 128 bands, windows of 2048 at a hop of 512; seconds of sound per CPU-second.
"""

import librosa
import torch

from benchmarks import common
from soundloom import spectral

SECONDS, RATE = 60, 44100
N_FFT, HOP, N_MELS = 2048, 512, 128


def main() -> list[dict]:
    common.one_thread()
    audio = torch.randn(1, SECONDS * RATE, generator=torch.Generator().manual_seed(0))
    mono = audio[0].numpy()
    window = torch.hann_window(N_FFT)
    filters = spectral.mel_filterbank(sample_rate=RATE, n_fft=N_FFT, n_mels=N_MELS)
    pieces = torch.split(spectral.frame(audio, n_fft=N_FFT, hop_length=HOP)[0].contiguous(), 64)
    training = audio[:, : 8 * RATE].clone().requires_grad_()

    def torch_stft() -> torch.Tensor:
        spectrum = torch.stft(audio, N_FFT, HOP, window=window, return_complex=True)
        return (filters @ spectrum.abs().square()).clamp(min=1e-10).log()

    def framed_rfft() -> torch.Tensor:
        spectrum = torch.fft.rfft(spectral.frame(audio, n_fft=N_FFT, hop_length=HOP) * window)
        return (spectrum.abs().square() @ filters.T).clamp(min=1e-10).log()

    def there_and_back() -> None:
        spectral.log_mel(training, sample_rate=RATE).mean().backward()

    jobs = {
        "Soundloom log_mel": (lambda: spectral.log_mel(audio, sample_rate=RATE), SECONDS, 1500),
        "Soundloom log_mel and its gradient": (there_and_back, 8, None),
        "librosa melspectrogram and log": (
            lambda: librosa.power_to_db(librosa.feature.melspectrogram(y=mono, sr=RATE, n_fft=N_FFT, hop_length=HOP)),
            SECONDS,
            None,
        ),
        "torch.stft, abs, product, log": (torch_stft, SECONDS, None),
        "framed rfft, abs, product, log": (framed_rfft, SECONDS, None),
        "the FFT alone, frames at hand": (lambda: [torch.fft.rfft(piece) for piece in pieces], SECONDS, None),
    }
    return [
        {"what": what, "× real time": seconds / common.cpu_seconds(work), "target": target}
        for what, (work, seconds, target) in jobs.items()
    ]


if __name__ == "__main__":
    common.print_table(main())
