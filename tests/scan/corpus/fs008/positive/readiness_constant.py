from fastapi import FastAPI

app = FastAPI()


@app.get("/ready")
async def ready():  # expect: FS008
    return {"ready": True}
