"""Rejected inputs and products: list, show, process again, note what was done."""

from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi import Path as InPath

from dsaflow.api.errors import documented
from dsaflow.api.models import Accepted, Page, QuarantineItem, Resolution, page_of
from dsaflow.api.mosaics import REQUESTED_BY
from dsaflow.api.runs import accepted
from dsaflow.api.settings import NAME_PATTERN, Here, NameInQuery, Pages, Since, select_page

router = APIRouter(prefix="/api/quarantine", tags=["quarantine"], responses=documented(422))
Stage = Annotated[str, InPath(pattern="^[a-z_]+$", max_length=40)]
Item = Annotated[str, InPath(pattern=NAME_PATTERN, max_length=160)]


@router.get("")
def list_quarantine(
    here: Here,
    paging: Pages,
    state: Literal["open", "retrying", "resolved"] | None = None,
    stage: NameInQuery = None,
    reason_code: NameInQuery = None,
    since_s: Since = None,
) -> Page[QuarantineItem]:
    """Rejected items, those seen last first."""
    filters = [
        ("state = ?", state),
        ("stage = ?", stage),
        ("reason_code = ?", reason_code),
        ("last_seen_s >= ?", since_s),
    ]
    rows, total = select_page(here.record, "quarantine", filters, "last_seen_s DESC, item", paging)
    return page_of(QuarantineItem, rows, total, paging)


@router.get("/{stage}/{name}", responses=documented(404))
def show_item(here: Here, stage: Stage, name: Item) -> QuarantineItem:
    """One rejected item."""
    from dsaflow.runs import quarantine

    return QuarantineItem.model_validate(quarantine.find(here.record, f"{stage}/{name}"))


@router.post("/{stage}/{name}/retry", status_code=202, responses=documented(404, 409, 429))
def retry(here: Here, stage: Stage, name: Item) -> Accepted:
    """Judge a rejected item again, and make its mosaics anew; refused while a run is live."""
    from dsaflow.runs import quarantine

    run_id = quarantine.retry(
        here.record,
        here.config,
        f"{stage}/{name}",
        profile=here.profile,
        configfiles=here.configfiles,
        workdir=here.workdir,
        requested_by=REQUESTED_BY,
    )
    return accepted(here, run_id)


@router.post("/{stage}/{name}/resolve", responses=documented(404))
def resolve(here: Here, stage: Stage, name: Item, body: Resolution) -> QuarantineItem:
    """Note that a rejected item was dealt with."""
    from dsaflow.runs import quarantine

    quarantine.resolve(here.record, f"{stage}/{name}", body.note)
    return QuarantineItem.model_validate(quarantine.find(here.record, f"{stage}/{name}"))
