import os

from .repositories import InMemoryOrderRepository, SqlOrderRepository
from .session import SessionLocal


def order_repository():
    if os.getenv("ENV") in ("local", "dev"):  # expect: FS010
        return InMemoryOrderRepository()
    return SqlOrderRepository(SessionLocal())
