"""What is compiled at set-up is what the search takes, however its curves lie in memory."""

import numpy as np

from dsaflow.variability.assess import assess_block
from dsaflow.variability.compiled import compile_search
from dsaflow.variability.search import SearchRules, search
from dsaflow.variability.templates import build_bank, event_shapes


def test_other_curves_need_no_other_kernels() -> None:
    compile_search()
    before = set(assess_block.signatures)
    mjd = 60000.3 + np.arange(50.0)
    bank = build_bank(mjd, event_shapes((1.0, 3.0), 0.2, (0.5,), 0.1))
    curve = np.asfortranarray(1 + 0.02 * np.random.default_rng(1).standard_normal((3, 50)))
    search(curve, np.full((50, 3), 4e-4).T, bank, SearchRules(), threads=1)
    search(curve[:, ::1], np.full((3, 50), 4e-4), bank, SearchRules(), threads=1)
    assert set(assess_block.signatures) == before
