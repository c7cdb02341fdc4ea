"""Soundloom turns a folder of sounds into instruments that can be played.

    import soundloom as sl

    bank = sl.scan("my-sounds", "my-bank")
    run = sl.train(bank, "my-run", family="vae", minutes=10)
    for i, sound in enumerate(run.sample(16, seed=1)):
        sl.write(f"new-{i:03d}.wav", sound)

Nothing heavy is imported before it is used: torch loads on the first call that needs it.
"""

import os

# Before torch or numpy load: waiting threads sleep instead of spinning (on two busy cores spinning is up to 60 times
# slower), and OpenBLAS stays out of the way of numba's loops.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
