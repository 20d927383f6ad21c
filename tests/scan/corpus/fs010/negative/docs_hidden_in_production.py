from fastapi import FastAPI

from .config import settings


def make_app():
    if settings.environment == "production":
        return FastAPI(docs_url=None, redoc_url=None)
    return FastAPI()
