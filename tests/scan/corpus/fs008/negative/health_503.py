from fastapi import FastAPI, Response
from sqlalchemy import text

from .db import engine

app = FastAPI()


@app.get("/health")
def health(response: Response):
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except Exception:
        response.status_code = 503
        return {"status": "down"}
    return {"status": "up"}
