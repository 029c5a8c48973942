"""Publishing: passed mosaics in versioned folders that appear complete or not at all; retraction.

``<published>/<strip>/<group_id>/v<N>/`` holds the files and, written last, ``manifest.json`` with
their checksums. ``retracted.json`` beside the versions is a tombstone: while it stands, nothing of
that group_id is offered or published again.
"""

import os
import re
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ConfigError, DsaflowError
from dsaflow.fileio import DamagedFile, digest, fsync_path, read_json, sha256, write_json
from dsaflow.names import parse_group_id
from dsaflow.verdict import Verdict

if TYPE_CHECKING:
    from dsaflow.config import Config

MANIFEST = "manifest.json"
TOMBSTONE = "retracted.json"
PREVIEW = "preview.png"
_VERSION = re.compile(r"^v(\d+)$")


class PublicationError(DsaflowError):
    """Published files do not have the checksums of their manifest."""


def publish_mosaic(
    products: dict[str, str],
    qa_verdict_path: str | os.PathLike,
    group_id: str,
    config: "Config",
    published_dir: str | os.PathLike,
    out_path: str | os.PathLike,
    strip: str = "",
) -> dict[str, Any]:
    """Publish a mosaic that passed its gates, or say why not.

    Parameters
    ----------
    products : dict
        Files to publish: image, noise, weight and others, by key.
    qa_verdict_path : path
        Verdict of the gates; published with the mosaic.
    group_id : str
    config : Config
    published_dir : path
        Root of the published tree.
    out_path : path
        ``publication.json`` to write, last.
    strip : str
        Folder of the strip; default: from the image's STRIP card or its centre's declination.

    Returns
    -------
    dict
        What is written: state (published, withheld, retracted), reason, group_id, path, version,
        checksums (file name -> SHA-256).

    Notes
    -----
    The same content gives the same version again; new content of the same group_id (more tiles, a
    new release) the next one. Another configuration has another group_id and lies beside it.
    """
    parse_group_id(group_id)
    verdict = Verdict.read(qa_verdict_path)
    publication: dict[str, Any] = {
        "state": "withheld", "reason": "", "group_id": group_id, "path": "", "version": 0,
        "checksums": {},
    }  # fmt: skip
    allowed = ("pass", "warn") if config.publish.warned else ("pass",)
    tombstone = find_tombstone(published_dir, group_id)
    if tombstone is not None:
        publication |= {"state": "retracted", "reason": tombstone["reason"]}
    elif verdict.verdict not in allowed:
        code = verdict.reason_code or "QA_WARNED"
        publication["reason"] = f"{code}: {verdict.detail}"
    else:
        folder = Path(published_dir) / (strip or strip_of(products["image"])) / group_id
        publication |= _publish_in(folder, products, qa_verdict_path, config.publish.link)
    write_json(out_path, publication)
    return publication


def strip_of(image_path: str | os.PathLike) -> str:
    """Strip folder of a mosaic, from its header: STRIP, or the declination of its centre.

    Raises
    ------
    ConfigError
        The header has neither.
    """
    from astropy.io import fits

    from dsaflow.names import strip_name

    header = fits.getheader(image_path)
    if "STRIP" in header:
        return str(header["STRIP"])
    if "CRVAL2" not in header:
        raise ConfigError(f"{image_path}: neither STRIP nor CRVAL2: cannot tell its strip")
    return strip_name(float(header["CRVAL2"]))


def _publish_in(
    folder: Path, products: dict[str, str], qa_verdict_path: str | os.PathLike, link: bool
) -> dict[str, Any]:
    """Find or make the version folder with this content."""
    sources = {Path(path).name: Path(path) for path in products.values()}
    sources[Path(qa_verdict_path).name] = Path(qa_verdict_path)
    if len(sources) != len(products) + 1:
        raise ConfigError(f"products of one name: {sorted(products.values())}")
    checksums = {name: sha256(path) for name, path in sorted(sources.items())}
    content = digest(checksums, 64)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    for version in versions(folder):
        manifest = read_json(folder / f"v{version}" / MANIFEST)
        if manifest["content"] == content:
            return _published(folder / f"v{version}", version, manifest)
    version = max(_numbers(folder), default=0) + 1
    manifest = {"group_id": folder.name, "version": version, "content": content}
    hidden = folder / f".building-{os.getpid()}-{uuid.uuid4().hex[:8]}-{gethostname()}"
    try:
        hidden.mkdir()
        for name, path in sources.items():
            _place(path, hidden / name, link, checksums[name])
        draw_preview(products["image"], hidden / PREVIEW)
        manifest["checksums"] = checksums | {PREVIEW: sha256(hidden / PREVIEW)}
        for file in hidden.iterdir():
            fsync_path(file)
        write_json(hidden / MANIFEST, manifest)
        fsync_path(hidden)
        # fails, rather than replaces, where another process made this version meanwhile
        os.rename(hidden, folder / f"v{version}")
        fsync_path(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return _published(folder / f"v{version}", version, manifest)


def _published(path: Path, version: int, manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": "published",
        "path": str(path),
        "version": version,
        "checksums": manifest["checksums"],
    }


def _place(source: Path, target: Path, link: bool, checksum: str) -> None:
    """Hard-link where wanted and possible, else copy; the copy's checksum is proved."""
    if link:
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    if sha256(target) != checksum:
        raise PublicationError(f"{source} changed while it was copied, or the copy is bad")


def versions(folder: Path) -> list[int]:
    """Complete versions in a group's folder."""
    return [n for n in _numbers(folder) if (folder / f"v{n}" / MANIFEST).exists()]


def _numbers(folder: Path) -> list[int]:
    """Version numbers taken, by complete versions or by what is left of them."""
    if not folder.is_dir():
        return []
    matches = [_VERSION.match(entry.name) for entry in folder.iterdir()]
    return sorted(int(match[1]) for match in matches if match)


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half built."""
    for entry in folder.glob(".building-*"):
        _, pid, _, host = entry.name.split("-", 3)
        # a process of another machine on a shared disk cannot be seen from here
        if host == gethostname() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(entry, ignore_errors=True)


def draw_preview(image_path: str | os.PathLike, out_path: str | os.PathLike) -> None:
    """Quick look at a mosaic as a grey PNG, at most 1600 pixels wide, north up and east left."""
    import numpy as np
    from astropy.io import fits
    from PIL import Image

    with fits.open(image_path) as hdus:
        data = np.asarray(hdus[0].data, dtype=np.float32)
    step = max(1, int(np.ceil(max(data.shape) / 1600)))
    ny, nx = (n // step * step for n in data.shape)
    tiles = data[:ny, :nx].reshape(ny // step, step, nx // step, step)
    # the brightest pixel of each cell: averaging would hide compact sources
    filled = np.where(np.isfinite(tiles), tiles, -np.inf).max(axis=(1, 3))
    finite = filled[np.isfinite(filled)]
    middle, rms = np.median(finite), 1.4826 * np.median(np.abs(finite - np.median(finite)))
    scaled = np.arcsinh((filled - middle) / max(rms, np.finfo(np.float32).tiny))
    grey = np.clip((scaled + 1.5) / 6.5, 0, 1)
    grey = np.where(np.isfinite(filled), 255 - (215 * grey).astype(np.uint8), 255)
    Image.fromarray(grey[::-1].astype(np.uint8)).save(out_path, format="PNG")


def group_folders(published_dir: str | os.PathLike, group_id: str) -> list[Path]:
    """Folders of a group in the published tree (one, whatever its strip)."""
    parse_group_id(group_id)
    return sorted(Path(published_dir).glob(f"*/{group_id}"))


def list_published(published_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """Every complete version in the published tree.

    Returns
    -------
    list of dict
        strip, group_id, version, state (published or retracted), reason, path; by group and version.
    """
    rows = []
    for manifest in Path(published_dir).glob(f"*/*/v*/{MANIFEST}"):
        folder = manifest.parent
        if not _VERSION.match(folder.name):
            continue
        tombstone = folder.parent / TOMBSTONE
        reason = read_json(tombstone)["reason"] if tombstone.exists() else ""
        rows.append(
            {
                "strip": folder.parent.parent.name,
                "group_id": folder.parent.name,
                "version": int(folder.name[1:]),
                "state": "retracted" if tombstone.exists() else "published",
                "reason": reason,
                "path": str(folder),
            }
        )
    return sorted(rows, key=lambda row: (row["strip"], row["group_id"], row["version"]))


def find_tombstone(published_dir: str | os.PathLike, group_id: str) -> dict[str, Any] | None:
    """Tombstone of a retracted group, or None."""
    for folder in group_folders(published_dir, group_id):
        if (folder / TOMBSTONE).exists():
            return read_json(folder / TOMBSTONE)
    return None


def retract(group_id: str, reason: str, published_dir: str | os.PathLike) -> dict[str, Any]:
    """Retract a published mosaic: all its versions, and any that would follow.

    Parameters
    ----------
    group_id : str
    reason : str
        For whoever finds the tombstone; not empty.
    published_dir : path

    Returns
    -------
    dict
        The tombstone: state, reason, group_id, retracted_utc, versions. The files stay where they
        are, for whoever has used them.

    Raises
    ------
    ConfigError
        Nothing of that group_id is published, or no reason is given.
    """
    if not reason.strip():
        raise ConfigError("a retraction needs a reason")
    folders = group_folders(published_dir, group_id)
    if not folders:
        raise ConfigError(f"nothing published as {group_id} below {published_dir}")
    tombstone = find_tombstone(published_dir, group_id)
    if tombstone is None:
        tombstone = {
            "state": "retracted",
            "reason": reason,
            "group_id": group_id,
            "retracted_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": sorted(n for folder in folders for n in versions(folder)),
        }
    for folder in folders:
        if not (folder / TOMBSTONE).exists():
            write_json(folder / TOMBSTONE, tombstone)
    return tombstone


def read_publication(path: str | os.PathLike) -> dict[str, Any]:
    """Read a ``publication.json``.

    Raises
    ------
    DamagedFile
        It holds no JSON, or lacks what `publish_mosaic` writes.
    """
    publication = read_json(path)
    fields = ("state", "reason", "group_id", "path", "checksums")
    missing = [f for f in fields if not isinstance(publication, dict) or f not in publication]
    if missing:
        raise DamagedFile(f"{path} is damaged, it lacks {', '.join(missing)}")
    return publication


def verify(publication: dict[str, Any] | str | os.PathLike) -> None:
    """Recompute the checksums of a publication.

    Parameters
    ----------
    publication : dict or path
        What `publish_mosaic` returned, or its ``publication.json``, or a version's folder.

    Raises
    ------
    PublicationError
        Naming the files that are missing, changed or unlisted.
    """
    if not isinstance(publication, dict):
        path = Path(publication)
        publication = (
            {"path": str(path), "checksums": read_json(path / MANIFEST)["checksums"]}
            if path.is_dir()
            else read_publication(path)
        )
    if not publication["path"]:
        raise PublicationError(f"not published: {publication['reason']}")
    folder = Path(publication["path"])
    problems = []
    for name, checksum in publication["checksums"].items():
        if not (folder / name).exists():
            problems.append(f"{name} is missing")
        elif sha256(folder / name) != checksum:
            problems.append(f"{name} has changed")
    listed = set(publication["checksums"]) | {MANIFEST}
    if folder.is_dir():
        problems += [
            f"{entry.name} is not listed"
            for entry in sorted(folder.iterdir())
            if entry.name not in listed
        ]
    if problems:
        raise PublicationError(f"{folder}: " + "; ".join(problems))
