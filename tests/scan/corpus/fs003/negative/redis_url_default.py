import os

import redis
from sqlalchemy import create_engine

cache = redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
engine = create_engine(
    os.environ["DATABASE_URL"], connect_args={"connect_timeout": 2, "options": "-c statement_timeout=2000"}
)
