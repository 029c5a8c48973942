"""From the products to the record: mosaics and their outcome, published versions, rejected inputs.

Products are the truth; what they say becomes events only where the record says something else.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaflow.errors import ReasonCode
from dsaflow.fileio import read_json
from dsaflow.names import PRODUCTS, WILDCARD_PATTERNS, product
from dsaflow.planning import Plan, PlannedMosaic
from dsaflow.publish import MANIFEST, find_tombstone, group_folders, versions
from dsaflow.runs.states import ErrorClass, State

if TYPE_CHECKING:
    from dsaflow.config import Config
    from dsaflow.runs.record import Record

_REASONS = frozenset(map(str, ReasonCode))
_VERDICTS = {key: path for key, path in PRODUCTS.items() if key.endswith("_verdict")}
_VERDICTS["mosaic_qa"] = PRODUCTS["mosaic_qa"]


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    named = [f"(?P<{part}>{WILDCARD_PATTERNS[part]})" for part in parts[1::2]]
    literal = [re.escape(part) for part in parts[::2]]
    return re.compile("".join(a + b for a, b in zip(literal, [*named, ""], strict=True)))


_PATTERNS = {key: _pattern(path) for key, path in _VERDICTS.items()}


class Scanner:
    """Reads one results folder into one record.

    Parameters
    ----------
    record : Record
    results, published : str
        ``paths.results`` and ``paths.published``.
    run_id : str
        The run that made what is read; empty if it is not known.
    """

    def __init__(self, record: "Record", results: str, published: str, run_id: str = "") -> None:
        self.record, self.results, self.published, self.run_id = record, results, published, run_id
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the newest run; empty if there is none."""
        if self._plan is None:
            path = Path(product("plan", self.results))
            self._plan = Plan.read(path) if path.exists() else Plan()
        return self._plan

    def outputs(self, paths: Iterable[str]) -> None:
        """Read those of a job's outputs that say something: verdicts and publications."""
        groups = set()
        for path in paths:
            self.verdict(path)
            match = re.search(rf"mosaics/({WILDCARD_PATTERNS['group_id']})/[^/]+\.json$", path)
            if match:
                groups.add(match[1])
        for group_id in sorted(groups):
            self.group(group_id)

    def verdict(self, path: str) -> None:
        """Note what a verdict rejects, or that it rejects no longer; other files are left alone."""
        found = self._stage(path)
        if found is None:
            return
        try:
            mtime_ns = Path(path).stat().st_mtime_ns
        except FileNotFoundError:
            return
        if self.record.scanned.get(path) == mtime_ns:
            return
        try:
            content = read_json(path)
        except (OSError, ValueError):  # removed meanwhile, or no verdict of ours
            return
        stage, name = found
        row = self._quarantined(f"{stage}/{name}")
        code = content.get("reason_code")
        if content.get("verdict") != "reject":
            if row is not None and row["state"] != "resolved":
                self._resolved(row["item"], "no longer rejected")
        elif code != ReasonCode.UPSTREAM_REJECTED:
            self._rejected(stage, name, str(code), content.get("detail", ""), path, row)
        self.record.scanned[path] = mtime_ns

    def left_out(self) -> None:
        """Note what planning could not use, with a reason code."""
        for skipped in self.plan.skipped:
            code, _, detail = skipped.reason.partition(": ")
            # too few tiles is a wait, not an input that somebody has to look at
            if code in _REASONS and code != ReasonCode.TOO_FEW_TILES:
                name = Path(skipped.what).name
                row = self._quarantined(f"plan/{name}")
                if row is None or (row["reason_code"], row["detail"]) != (code, detail):
                    self._rejected("plan", name, code, detail, skipped.what, None)

    def group(self, group_id: str) -> None:
        """Note what a mosaic's products say of it."""
        self._products(group_id)
        row = self.record.group(group_id)
        fields = self._group_fields(group_id)
        if not fields:
            return
        if row is None:
            publication = _read(product("publication", self.results, group_id=group_id))
            if not publication and not self.run_id:
                return  # half made, by nobody that is known
            fields["state"] = State.COMPLETE if publication else State.RUNNING
        changed = {k: v for k, v in fields.items() if row is None or row[k] != v}
        if changed:
            self.record.emit("group", self.run_id, group_id=group_id, **changed)

    def _stage(self, path: str) -> tuple[str, str] | None:
        """Stage and item of a verdict's path."""
        try:
            relative = str(Path(path).relative_to(self.results))
        except ValueError:
            return None
        for key, pattern in _PATTERNS.items():
            match = pattern.fullmatch(relative)
            if match:
                return key.removesuffix("_verdict"), next(iter(match.groupdict().values()))
        return None

    def _quarantined(self, item: str) -> dict[str, Any] | None:
        return self.record.one("SELECT * FROM quarantine WHERE item = ?", (item,))

    def _rejected(
        self, stage: str, name: str, code: str, detail: str, path: str, row: dict | None
    ) -> None:
        seen_s = Path(path).stat().st_mtime if row is not None else 0.0
        if row is None or seen_s > row["last_seen_s"]:
            self.record.emit(
                "quarantine.seen", self.run_id, item=f"{stage}/{name}", stage=stage,
                reason_code=code, detail=detail, path=path,
            )  # fmt: skip

    def _resolved(self, item: str, note: str) -> None:
        self.record.emit("quarantine.state", self.run_id, item=item, state="resolved", note=note)

    def _group_fields(self, group_id: str) -> dict[str, Any]:
        """Columns of ``mosaic_groups`` that the plan and the products know."""
        verdict = _read(product("mosaic_verdict", self.results, group_id=group_id))
        publication = _read(product("publication", self.results, group_id=group_id))
        if not verdict and not publication:
            return {}
        fields: dict[str, Any] = {}
        if any(mosaic.group_id == group_id for mosaic in self.plan.mosaics):
            fields |= planned_fields(self.plan, self.plan.mosaic(group_id))
        numbers = verdict.get("numbers", {})
        if "tiles_used" in numbers:
            used = numbers["tiles_used"]
            fields |= {"tiles_used": used, "tiles_rejected": numbers["tiles_offered"] - used}
        elif verdict.get("verdict") == "reject":
            fields["tiles_used"] = 0
        if publication:
            tombstone = find_tombstone(self.published, group_id)
            fields["outcome"] = "retracted" if tombstone else publication["state"]
            fields["published_path"] = publication["path"]
            if fields["outcome"] == "withheld":
                fields |= {"error_message": publication["reason"]}
                fields |= {"error_class": str(ErrorClass.PERMANENT)}
        return fields

    def _products(self, group_id: str) -> None:
        publication = _read(product("publication", self.results, group_id=group_id))
        tombstone = find_tombstone(self.published, group_id)
        for folder in group_folders(self.published, group_id):
            for number in versions(folder):
                version = folder / f"v{number}"
                manifest = read_json(version / MANIFEST)
                self._product(
                    product_id=f"{group_id}.v{number}", group_id=group_id, path=str(version),
                    state="retracted" if tombstone else "published", version=number,
                    checksum=manifest["checksums"].get("mosaic.fits", ""),
                    reason=tombstone["reason"] if tombstone else "",
                )  # fmt: skip
        image = product("mosaic_image", self.results, group_id=group_id)
        if Path(image).exists() and publication.get("state") not in ("published", "retracted"):
            self._product(
                product_id=group_id, group_id=group_id, path=image, version=0, checksum="",
                state=publication.get("state", "staged"), reason=publication.get("reason", ""),
            )  # fmt: skip

    def _product(self, product_id: str, **fields: Any) -> None:
        row = self.record.one("SELECT * FROM products WHERE product_id = ?", (product_id,))
        if row is None or any(row[key] != value for key, value in fields.items()):
            made_by = self.run_id or (row or {}).get("run_id") or ""
            self.record.emit("product", made_by, product_id=product_id, **fields)


def planned_fields(plan: Plan, mosaic: PlannedMosaic) -> dict[str, Any]:
    """Columns of ``mosaic_groups`` that a plan knows."""
    tiles = [plan.tile(tile) for tile in mosaic.tiles]
    centred = mosaic.kind == "centred"
    return {
        "centre": mosaic.centre,
        "calibrator": mosaic.centre if centred else None,
        "transit_mjd": mosaic.mid_mjd,
        "start_mjd": min(tile.start_mjd for tile in tiles),
        "end_mjd": max(2 * tile.mid_mjd - tile.start_mjd for tile in tiles),
        "strip": mosaic.strip,
        "tiles": mosaic.tiles,
    }


def sync(
    record: "Record",
    config: "Config",
    run_id: str = "",
    group_ids: Iterable[str] | None = None,
) -> None:
    """Bring the record up to what the products say.

    Parameters
    ----------
    record : Record
    config : Config
    run_id : str
        Read only what the jobs of this run wrote.
    group_ids : iterable of str, optional
        Read also (with `run_id`) or only (without) these mosaics and their tiles. Neither: all.
    """
    scanner = Scanner(record, config.paths.results, config.paths.published, run_id)
    groups = set(group_ids or ())
    if run_id:
        for job in record.select("SELECT DISTINCT outputs FROM jobs WHERE run_id = ?", (run_id,)):
            scanner.outputs(job["outputs"])
    elif group_ids is None:
        for path in _every_verdict(config.paths.results):
            scanner.verdict(path)
        groups |= {path.parent.name for path in Path(config.paths.results).glob("mosaics/*/*.json")}
    else:
        for tile in {t for m in scanner.plan.mosaics if m.group_id in groups for t in m.tiles}:
            for found in Path(config.paths.results).glob(f"*/{tile}/*.json"):
                scanner.verdict(str(found))
    scanner.left_out()
    for group_id in sorted(groups):
        if re.fullmatch(WILDCARD_PATTERNS["group_id"], group_id):
            scanner.verdict(product("mosaic_verdict", config.paths.results, group_id=group_id))
            scanner.verdict(product("mosaic_qa", config.paths.results, group_id=group_id))
            scanner.group(group_id)


def _every_verdict(results: str) -> Iterator[str]:
    for template in _VERDICTS.values():
        for path in sorted(Path(results).glob(re.sub(r"\{\w+\}", "*", template))):
            yield str(path)


def _read(path: str) -> dict[str, Any]:
    """Content of a JSON file, or an empty mapping where it is not there (or is being replaced)."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}
