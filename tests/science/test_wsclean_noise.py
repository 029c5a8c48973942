"""Noise of our images beside WSClean's on the same Measurement Set: the reference sky, and an empty one.

The sky is config/reference_sky.yaml. Both engines have the same weights, pixels and CLEAN thresholds; noise is
the robust scatter of the residual at the same pixels, away from every source (benchmarks/wsclean_noise.py).
"""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from dsaflow.catalog import read_catalog
from dsaflow.simulate.schedule import true_sky
from dsaflow.simulate.truth import write_reference_catalog


@pytest.fixture(scope="module")
def bench(repository):
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location(
        "wsclean_noise", repository / "benchmarks/wsclean_noise.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_sky_is_what_the_forward_model_draws(bench, tmp_path):
    """300 sources, one of 3 Jy, remade from the seed: nobody has chosen them by hand."""
    settings = bench.reference_config().simulate
    sky = true_sky(settings)
    assert len(sky.flux_jy) == 300
    assert np.sum(sky.flux_jy == 3.0) == 1
    drawn = bench.draw_sources(settings)
    for name in bench.FIELDS:
        values = [row[name] for row in drawn]
        np.testing.assert_allclose(getattr(sky, name), values, atol=2e-6)
    write_reference_catalog(settings, tmp_path / "catalog.parquet")
    spoilt = read_catalog(tmp_path / "catalog.parquet")
    assert not np.isin(spoilt.flux_jy, sky.flux_jy).any(), "the pipeline has the truth"


# On an empty sky there is nothing to CLEAN, so that pixels fine enough for every baseline cost little: with
# coarser ones both engines leave baselines out, ours in a square of the uv plane, WSClean in a circle.
EMPTY = {
    "size": 2400, "pixel_arcsec": 8.0, "uv_fraction": 1.0, "channel_blocks": 1, "beam_terms": 1,
    "minor_iterations": 1, "major_iterations": 1,
}  # fmt: skip


def needs_wsclean():
    if shutil.which("wsclean") is None:
        pytest.skip("wsclean is not on PATH (Debian package wsclean)")


@pytest.mark.slow
@pytest.mark.wsclean
def test_noise_of_the_reference_sky_is_at_most_0_6_of_wscleans(bench, tmp_path):
    """The beam's motion and its slope over the band are in our major cycle, and not in WSClean's."""
    needs_wsclean()
    found = bench.compare(tmp_path, bench.reference_config())
    print(json.dumps(found))
    assert found["pixels"] > 0.2
    assert found["ratio"] <= 0.6


@pytest.mark.slow
@pytest.mark.wsclean
def test_noise_of_an_empty_sky_is_wscleans(bench, tmp_path):
    needs_wsclean()
    found = bench.compare(tmp_path, bench.reference_config(**EMPTY), empty=True)
    print(json.dumps(found))
    assert found["pixels"] > 0.2
    assert found["ratio"] == pytest.approx(1, abs=0.02)
