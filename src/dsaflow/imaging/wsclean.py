"""WSClean (Offringa et al. 2014) as the other back-end: same options and products, static beam."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsaflow.errors import EnvironmentProblem
from dsaflow.imaging.clean import CleanResult, depth_reached
from dsaflow.imaging.skymodel import BeamModel, part_edges_hz

if TYPE_CHECKING:
    from dsaflow.config.sections import Image


def run_wsclean(
    ms_path: str | os.PathLike | None, sky: BeamModel, options: "Image", threads: int = 1
) -> tuple[NDArray, CleanResult]:
    """Deconvolve a Measurement Set in a scratch folder of its own.

    Parameters
    ----------
    ms_path : path
    sky : BeamModel
        For the frequency blocks alone: WSClean's model follows the beam's slope over the band by a
        straight line in frequency, and knows nothing of its motion.
    options : Image
    threads : int

    Returns
    -------
    psf : float32 ndarray, shape (size, size)
    CleanResult
        With a model for each block.

    Raises
    ------
    EnvironmentProblem
        WSClean is not on PATH, no Measurement Set was named, or the program failed.
    """
    program = shutil.which("wsclean")
    if program is None:
        raise EnvironmentProblem(
            "image.engine is wsclean but there is no wsclean on PATH: install it (Debian: "
            "wsclean), or set image.engine to dsaflow"
        )
    if ms_path is None:
        raise EnvironmentProblem("engine wsclean reads a Measurement Set: name its path")
    used = [k for k, block in enumerate(sky.blocks) if sky.channels_used(block).any()]
    with tempfile.TemporaryDirectory(prefix="dsaflow-wsclean-") as scratch:
        command = [program, *_arguments(sky, options, len(used), scratch, threads), str(ms_path)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
            raise EnvironmentProblem(f"wsclean ended with code {done.returncode}:\n{lines}")
        folder = Path(scratch)
        prefix = "tile-MFS" if len(used) > 1 else "tile"
        psf, model, residual = (
            _read(folder / f"{prefix}-{kind}.fits") for kind in ("psf", "model", "residual")
        )
        empty = np.full_like(residual, np.nan)
        residuals, models = [empty] * len(sky.blocks), [empty] * len(sky.blocks)
        for number, k in enumerate(used):
            stem = f"tile-{number:04d}" if len(used) > 1 else "tile"
            residuals[k] = _read(folder / f"{stem}-residual.fits")
            models[k] = _read(folder / f"{stem}-model.fits")
    iterations = [int(n) for n in re.findall(r"Performed (\d+) iterations in total", done.stdout)]
    result = CleanResult(
        model,
        residual,
        residuals,
        iterations=max(iterations, default=0),
        major_iterations=len(iterations),
        depth_sigma=depth_reached(model, residual),
        block_models=models,
    )
    return psf, result


def _arguments(
    sky: BeamModel, options: "Image", n_blocks: int, scratch: str, threads: int
) -> list[str]:
    pixel_rad = np.radians(options.pixel_arcsec / 3600)
    arguments = [
        "-name", "tile", "-temp-dir", scratch, "-no-update-model-required", "-no-dirty",
        "-use-wgridder", "-wgridder-accuracy", f"{options.gridding_accuracy:g}",
        "-size", str(options.size), str(options.size), "-scale", f"{options.pixel_arcsec:.9g}asec",
        "-weight", "briggs", f"{options.robust:g}", "-pol", "i", "-data-column", "DATA",
        "-maxuv-l", f"{options.uv_fraction * 0.5 / pixel_rad:.6g}",
        "-gain", f"{options.minor_gain:g}", "-mgain", f"{options.major_gain:g}",
        "-niter", str(options.minor_iterations), "-nmiter", str(2 * options.major_iterations),
        "-auto-mask", f"{options.clean_sigma:g}", "-auto-threshold", f"{options.mask_sigma:g}",
        "-j", str(threads),
    ]  # fmt: skip
    if n_blocks > 1:
        edges = part_edges_hz(sky.channel_hz, len(sky.blocks))[1:-1]
        inside = [f"{edge:.0f}" for edge in edges if sky.channel_hz[0] < edge < sky.channel_hz[-1]]
        arguments += [
            "-channels-out", str(n_blocks), "-join-channels", "-fit-spectral-pol", "2",
            "-channel-division-frequencies", ",".join(inside),
        ]  # fmt: skip
    return arguments


def _read(path: Path) -> NDArray:
    from astropy.io import fits

    with fits.open(path) as hdus:
        return np.ascontiguousarray(hdus[0].data[0, 0], dtype=np.float32)
