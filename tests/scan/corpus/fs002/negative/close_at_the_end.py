from failstop import Database, FailSafe

failsafe = FailSafe("worker")
database = Database.connect("postgresql+psycopg://db/worker", failsafe)


def stop(engine):
    try:
        engine.dispose()
    except Exception:
        pass
    failsafe.close()
