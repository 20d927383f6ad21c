from __future__ import annotations

import logging

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.models import Invoice

LOG = logging.getLogger(__name__)


class InvoiceRepository:
    def __init__(self, session: Session):
        self.session = session

    def page(self, offset: int, limit: int) -> tuple[list[Invoice], int]:
        try:
            rows = self.session.scalars(select(Invoice).offset(offset).limit(limit)).all()
            total = self.session.scalar(select(func.count()).select_from(Invoice))
            return rows, total
        except Exception:  # expect: FS001
            LOG.exception("page failed")
            return [], 0
