"""Independent random streams of the one seed."""

import zlib

import numpy as np

from dsaflow.simulate.settings import SimulateSettings


def random(settings: SimulateSettings, purpose: str, *numbers: int) -> np.random.Generator:
    """Stream for a purpose and numbers such as epoch, tile, subband.

    Streams depend on nothing else, so nights can be simulated in any order or in parallel, and one
    effect can be switched without changing the draws of another.
    """
    key = [settings.seed, zlib.crc32(purpose.encode()), *numbers]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))
