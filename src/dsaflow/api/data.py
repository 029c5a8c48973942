"""Products (staged, published, withheld, retracted) and their lineage; transits."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Path as InPath
from pydantic import Field

from dsaflow.api.errors import documented, not_found
from dsaflow.api.lineage import lineage
from dsaflow.api.models import Answer, Page, Product, page_of
from dsaflow.api.settings import GROUP_PATTERN, Here, NameInQuery, Pages, Since, select_page
from dsaflow.runs.record import Row

router = APIRouter(tags=["data"], responses=documented(422))
ProductInPath = Annotated[
    str, InPath(pattern=GROUP_PATTERN[:-1] + "([.]v[0-9]{1,6})?$", max_length=130)
]


class Step(Answer):
    """One stage's verdict on one item, and the job that wrote it."""

    stage: str
    item: str
    path: str
    verdict: str
    reason_code: str | None
    detail: str
    version: str = Field(description="of dsaflow")
    config_hash: str | None
    input_hash: str | None
    provenance: dict[str, Any]
    job_id: str | None = Field(description="null where the record does not know the run")
    run_id: str | None
    rule: str | None
    inputs: list[str]
    ended_s: float | None


class TracedTile(Answer):
    """A tile of a mosaic, from its raw files to its image."""

    tile: str
    raw_files: list[str]
    steps: list[Step]


class Lineage(Answer):
    """Everything that went into a mosaic."""

    group_id: str
    config_hash: str
    versions: list[str]
    product: Product
    mosaic: list[Step]
    tiles: list[TracedTile]


class Transit(Answer):
    """A transit of a calibrator, past or coming."""

    calibrator: str
    strip: str
    transit_utc: str
    transit_mjd: float
    status: str = Field(description="ready, few, waiting, no data, coming")
    tiles: int
    wanted: int = Field(description="tiles of a whole window")
    group_id: str
    state: str = Field(description="of its mosaic: published, withheld, retracted, or empty")
    reason: str
    apparent_jy: float | None


class Transits(Answer):
    """Transits, ascending in time."""

    items: list[Transit]


def _product(here: Here, product_id: ProductInPath) -> Row:
    """Product by its id, or a mosaic's newest one by its group_id."""
    row = here.record.one(
        "SELECT * FROM products WHERE product_id = ? OR group_id = ? "
        "ORDER BY product_id = ? DESC, version DESC LIMIT 1",
        (product_id, product_id, product_id),
    )
    if row is None:
        raise not_found("product", product_id)
    return row


@router.get("/api/data")
def list_data(
    here: Here,
    paging: Pages,
    state: Literal["staged", "published", "withheld", "retracted"] | None = None,
    group_id: NameInQuery = None,
    since_s: Since = None,
) -> Page[Product]:
    """Products, those that changed last first."""
    filters = [("state = ?", state), ("group_id = ?", group_id), ("updated_s >= ?", since_s)]
    order = "updated_s DESC, product_id DESC"
    rows, total = select_page(here.record, "products", filters, order, paging)
    return page_of(Product, rows, total, paging)


@router.get("/api/data/{product_id}", responses=documented(404))
def show_product(here: Here, product_id: ProductInPath) -> Product:
    """One product; a group_id stands for its newest version."""
    return Product.model_validate(_product(here, product_id))


@router.get("/api/data/{product_id}/lineage", responses=documented(404))
def show_lineage(here: Here, product_id: ProductInPath) -> Lineage:
    """Inputs, configuration hash, versions and jobs of a product, back to the raw files."""
    found = _product(here, product_id)
    group = here.record.group(found["group_id"])
    tiles = group["tiles"] if group else []
    traced = lineage(here.record, here.results, found["group_id"], tiles)
    return Lineage.model_validate(traced | {"product": found})


@router.get("/api/transits", responses=documented(503))
def list_transits(
    here: Here,
    calibrator: NameInQuery = None,
    status: Literal["ready", "few", "waiting", "no data", "coming"] | None = None,
) -> Transits:
    """Transits of one calibrator, or of all in reach: past, with data or not, and the next."""
    from dsaflow.runs import mosaics

    rows = mosaics.transits(here.config, calibrator)
    if status is not None:
        rows = [row for row in rows if row["status"] == status]
    return Transits.model_validate({"items": rows})
