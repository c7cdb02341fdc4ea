"""What a workshop does in tests: light work, so that its process is there in a moment."""

import os
import time

import numpy as np

from soundloom.errors import ModelError


def echo(settings, bench):
    """Sends back what it is told, with a sound of as many samples as asked; does as told otherwise."""
    print("this is for no player")
    bench.ready(settings["word"])
    while True:
        message = bench.next(wait=True)
        if "die" in message:
            raise RuntimeError(message["die"])
        if "refuse" in message:
            raise ModelError(message["refuse"])
        if "stop" in message:
            os._exit(3)
        if "sleep" in message:
            time.sleep(message["sleep"])
        bench.send(message, np.arange(message.get("samples", 0), dtype=np.float32))
