from sqlalchemy import create_engine

from .config import settings

connect_args = {}
if settings.url.startswith("postgresql"):
    connect_args["connect_timeout"] = settings.connect_timeout

engine = create_engine(settings.url, connect_args=connect_args)
