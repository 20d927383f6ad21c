from fastapi import FastAPI, Response

from .checks import database_is_reachable

app = FastAPI()


@app.get("/readyz")
async def readyz(response: Response):
    ok = await database_is_reachable()
    response.status_code = 200 if ok else 503
    return {"ready": ok}
