"""Giving out files: only those below a products folder, whatever a link in it points to."""

from pathlib import Path
from typing import Any

from fastapi.responses import FileResponse

from dsaflow import publish
from dsaflow.api.errors import ApiError, not_found
from dsaflow.api.settings import Service
from dsaflow.fileio import read_json
from dsaflow.names import product

# What may be asked for by name; nothing else is ever joined to a path.
MOSAIC_FILES = {
    "image": "mosaic.fits",
    "noise": "noise.fits",
    "weight": "weight.fits",
    "coverage": "coverage.fits",
    "subbands": "subbands.fits",
}


def within(root: Path, path: Path) -> Path:
    """Resolve a path, links included.

    Raises
    ------
    ApiError
        404: it is no file, or lies outside `root` (the answer does not tell which).
    """
    real = path.resolve()
    if not real.is_relative_to(root.resolve()) or not real.is_file():
        raise not_found("file", path.name)
    return real


def download(root: Path, path: Path, media_type: str, name: str) -> FileResponse:
    """Response with a file below `root`, ranges and conditions included; pictures are shown inline."""
    kind = "inline" if media_type.startswith("image/") else "attachment"
    return FileResponse(
        within(root, path), media_type=media_type, filename=name, content_disposition_type=kind
    )


def published_folder(service: Service, group_id: str, version: int | None = None) -> Path:
    """Folder of a published version (default: the newest).

    Raises
    ------
    ApiError
        410: the mosaic is retracted; 404: nothing is published, or not that version.
    """
    tombstone = publish.find_tombstone(service.published, group_id)
    if tombstone is not None:
        raise ApiError(
            410, "RETRACTED", f"{group_id} is retracted: {tombstone['reason']}",
            {"mosaic": f"/api/mosaics/{group_id}"},
        )  # fmt: skip
    for folder in publish.group_folders(service.published, group_id):
        there = publish.versions(folder)
        wanted = max(there, default=None) if version is None else version
        if wanted in there:
            return folder / f"v{wanted}"
    what = f"version {version} of {group_id}" if version else group_id
    raise ApiError(
        404, "NOT_PUBLISHED", f"{what} is not published",
        {"status": f"/api/mosaics/{group_id}/status"},
    )  # fmt: skip


def staged_folder(service: Service, group_id: str) -> Path:
    """Folder of a mosaic that is made, whether published or not; 404 where it is not."""
    image = Path(product("mosaic_image", str(service.results), group_id=group_id))
    if not image.exists():
        raise ApiError(
            404, "NOT_MADE", f"{group_id} is not made yet",
            {"status": f"/api/mosaics/{group_id}/status"},
        )  # fmt: skip
    return image.parent


def read_if_there(path: str | Path) -> dict[str, Any] | None:
    """Content of a small JSON product, or None where it is not made yet."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
