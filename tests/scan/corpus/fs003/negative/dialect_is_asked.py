from sqlalchemy import create_engine, event


def make(url: str):
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
        return engine
    return create_engine(url, connect_args={"connect_timeout": 3, "options": "-c statement_timeout=3000"})
