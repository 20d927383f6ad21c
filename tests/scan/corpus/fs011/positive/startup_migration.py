import logging

from fastapi import FastAPI

from .db import Base, engine

log = logging.getLogger("app")
app = FastAPI()


@app.on_event("startup")
def create_schema():
    try:
        Base.metadata.create_all(bind=engine)
    except Exception as exc:  # expect: FS011
        log.error("schema not created: %s", exc)
