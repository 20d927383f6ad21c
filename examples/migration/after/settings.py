"""Where the service finds its database and its venue: nothing has a default that trades."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment says; `database_url` may be missing, and is then refused by name."""

    database_url: str | None
    venue_url: str
    store: str

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the settings; a missing VENUE_URL is a KeyError."""
        return cls(
            database_url=os.environ.get("DATABASE_URL"),
            venue_url=os.environ["VENUE_URL"],
            store=os.environ.get("FAILSTOP_STORE", "var/failstop.db"),
        )
