"""WSClean as the other back-end gives the same products, and agrees with our own engine."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from dsaflow.errors import EnvironmentProblem
from dsaflow.imaging.tile import image_visibilities
from dsaflow.visibilities.ms import write_ms


def _truth():
    """The synthetic sky of test_imaging_truth.py, which no package holds."""
    path = Path(__file__).with_name("test_imaging_truth.py")
    spec = importlib.util.spec_from_file_location("imaging_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.wsclean
def test_both_engines_agree_with_the_sky(repository, tmp_path):
    if shutil.which("wsclean") is None:
        pytest.skip("wsclean is not on PATH (Debian package wsclean)")
    truth = _truth()
    sky = truth.scattered(9, np.geomspace(0.2, 2, 8), reach_deg=1.5)
    vis = truth.observe(repository, sky, noise=0.5)
    write_ms(tmp_path / "tile.ms", vis)
    before = sorted(p.name for p in tmp_path.iterdir())
    found = {}
    for engine in ("dsaflow", "wsclean"):
        options = truth.OPTIONS.model_copy(update={"engine": engine})
        images = image_visibilities(
            vis, options, truth.BEAM, truth.SEFD_JY, ms_path=tmp_path / "tile.ms"
        )
        found[engine] = truth.measure(images, vis, sky)
        assert len(images.subbands) == 4
        assert images.psf[330, 330] == pytest.approx(1, abs=1e-3)
        planes = [np.median(truth.measure(images, vis, sky, k)[:, 0]) for k in range(4)]
        assert np.abs(np.array(planes) - 1).max() < 0.03, engine
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert np.abs(np.median(found["wsclean"][:, 0]) - 1) < 0.02
    assert np.abs(found["wsclean"][:, 1:3] - found["dsaflow"][:, 1:3]).max() < 0.1
    assert np.abs(found["wsclean"][:, 0] / found["dsaflow"][:, 0] - 1).max() < 0.06


def test_without_the_program_the_error_says_what_to_install(repository, monkeypatch):
    truth = _truth()
    monkeypatch.setenv("PATH", "")
    vis = truth.observe(repository, [], noise=1.0)
    options = truth.OPTIONS.model_copy(update={"engine": "wsclean"})
    with pytest.raises(EnvironmentProblem, match="install it"):
        image_visibilities(vis, options, truth.BEAM, truth.SEFD_JY, ms_path="any.ms")
