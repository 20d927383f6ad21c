"""Create the tables, once for each deployment: `DATABASE_URL=… python -m trading.schema`.

Run it as a role that may create tables; the services themselves need no such right.
"""

import os

from failstop import Database, FailSafe
from trading.models import Model


def create(url: str | None) -> None:
    """Create the tables of the trading system, and failstop's own, where they are missing."""
    failsafe = FailSafe("trading-schema")
    database = Database.connect(url, failsafe)
    with failsafe:
        database.create_schema()
        with database.transaction() as connection:
            Model.metadata.create_all(connection)


if __name__ == "__main__":
    create(os.environ.get("DATABASE_URL"))
