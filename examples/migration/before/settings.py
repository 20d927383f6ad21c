"""Where the service finds its database and its venue."""

import os

ENVIRONMENT = os.environ.get("APP_ENV", "development")
DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///trading.db")
ASYNC_DATABASE_URL = DATABASE_URL.replace("postgresql://", "postgresql+asyncpg://")
VENUE_URL = os.environ.get("VENUE_URL", "http://localhost:9000")
