"""What every rule's script does around its one function: log, refuse rejected inputs, write the verdict last."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from dsaflow.config import Config, load_config
from dsaflow.errors import DataRejected, ReasonCode
from dsaflow.fileio import atomic_file, write_json
from dsaflow.names import PRODUCTS
from dsaflow.verdict import Verdict

LOG = logging.getLogger("dsaflow")


def start_log(path: str | os.PathLike) -> None:
    """Send the package's log, warnings, and what ends the process to the rule's log file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Log an exception that nobody caught: the rule's log must say why the job failed."""
    LOG.critical("failed: %s", error, exc_info=(kind, error, trace))
    sys.__excepthook__(kind, error, trace)


def usable(verdict_paths: Iterable[str]) -> list[str]:
    """Verdict files, in order, whose verdict allows the product's use."""
    return [path for path in verdict_paths if Verdict.read(path).usable]


def beside(verdict_path: str, key: str) -> str:
    """Path of product `key` in the same folder as one of its verdicts."""
    return str(Path(verdict_path).parent / Path(PRODUCTS[key]).name)


def require(verdict_path: str) -> Verdict:
    """Read an upstream verdict.

    Raises
    ------
    DataRejected
        UPSTREAM_REJECTED, with the first cause, where it is a rejection.
    """
    verdict = Verdict.read(verdict_path)
    if not verdict.usable:
        raise DataRejected(ReasonCode.UPSTREAM_REJECTED, first_cause(verdict))
    return verdict


def first_cause(verdict: Verdict) -> str:
    """Reason that a chain of rejections started with, e.g. ``TRUNCATED_HDF5: ...``."""
    if verdict.reason_code == ReasonCode.UPSTREAM_REJECTED:
        return verdict.detail
    return f"{verdict.reason_code}: {verdict.detail}"


def write_rejected_fits(path: str, verdict: Verdict) -> None:
    """Write a header-only FITS file that says why there is no image."""
    from astropy.io import fits

    header = fits.Header()
    header["VERDICT"] = ("reject", "this product holds no data")
    header["REASON"] = (str(verdict.reason_code), "reason code")
    header["DETAIL"] = verdict.detail.encode("ascii", "replace").decode()[:60]
    with atomic_file(path) as temporary:
        fits.PrimaryHDU(header=header).writeto(temporary)


def write_rejected_hdf5(path: str, verdict: Verdict) -> None:
    """Write an HDF5 file that holds only the reason why there are no solutions or flags."""
    import h5py

    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["verdict"] = "reject"
        file.attrs["reason_code"] = str(verdict.reason_code)
        file.attrs["detail"] = verdict.detail


def run_stage(
    snakemake: Any,
    work: Callable[[Config], Verdict],
    upstream: Iterable[str] = (),
    on_reject: Callable[[Verdict], None] | None = None,
    directory: str | os.PathLike | None = None,
) -> Verdict:
    """Run one stage for one item, so that data problems are results and machine problems failures.

    Parameters
    ----------
    snakemake : object
        The script's `snakemake` (its `log`, `output` and `config` are used).
    work : callable
        Takes the configuration, writes the products, returns the verdict.
    upstream : iterable of str
        Verdict files, all of which must be usable.
    on_reject : callable, optional
        Writes the declared products that are neither FITS nor HDF5 when the item is rejected.
    directory : path, optional
        Directory product that ``snakemake.output.manifest`` stands for: what reads it depends on the
        manifest, and whoever removes the one removes the other.

    Returns
    -------
    Verdict
        As written to ``snakemake.output.verdict``, after every other product.
    """
    start_log(snakemake.log[0])
    started = time.perf_counter()
    try:
        for path in upstream:
            require(path)
        verdict = work(load_config(snakemake.config))
    except DataRejected as error:
        LOG.warning("rejected: %s", error)
        verdict = Verdict.rejected(error)
        for path in snakemake.output:
            if str(path).endswith(".fits"):
                write_rejected_fits(path, verdict)
            elif str(path).endswith(".h5"):
                write_rejected_hdf5(path, verdict)
        if on_reject is not None:
            on_reject(verdict)
    LOG.info("%s in %.2f s: %s", verdict.verdict, time.perf_counter() - started, verdict.detail)
    for gate in verdict.gates:
        LOG.info("gate %s", gate)
    if directory is not None:
        write_json(
            snakemake.output.manifest,
            {"directory": Path(directory).name, "present": verdict.usable},
        )
    verdict.write(snakemake.output.verdict)
    return verdict
