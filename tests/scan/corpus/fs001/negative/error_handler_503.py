from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

app = FastAPI()


@app.exception_handler(SQLAlchemyError)
async def database_failed(request: Request, exc: SQLAlchemyError) -> JSONResponse:
    return JSONResponse({"error": "database unavailable"}, status_code=503)
