"""The guard over SQLAlchemy: queries and transactions that trip the latch where it fails."""

from failstop.database._async import AsyncDatabase
from failstop.database._database import Database
from failstop.database._health import DatabaseHealth

__all__ = ["AsyncDatabase", "Database", "DatabaseHealth"]
