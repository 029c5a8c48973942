"""Compile the search's kernels: ``python -m dsaflow.variability.compiled``.

numba keeps what it compiles beside the source files, as Python keeps bytecode. It takes a minute, on
one core, which the first light curves of a fresh installation would wait for.
"""

import numpy as np

from dsaflow.variability.search import SearchRules, search
from dsaflow.variability.templates import build_bank, event_shapes

_N_EPOCH = 40


def compile_search() -> None:
    """Search one short, constant light curve, for which every kernel is compiled."""
    mjd = np.arange(float(_N_EPOCH))
    bank = build_bank(mjd, event_shapes((1.0,), 0.2, (0.5,), 0.1))
    search(np.ones((1, _N_EPOCH)), np.full((1, _N_EPOCH), 1e-4), bank, SearchRules(), threads=1)


if __name__ == "__main__":
    compile_search()
