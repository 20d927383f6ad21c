from failstop import Database, FailSafe, with_fail_fast_protection

failsafe = FailSafe("api")
database = Database.connect("postgresql+psycopg://db/api", failsafe)


@with_fail_fast_protection(failsafe=failsafe)
def orders():
    return [dict(row._mapping) for row in database.query("SELECT * FROM orders")]
