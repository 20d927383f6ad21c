from failstop import Database
from failstop.errors import DatabaseUnavailableError


def hydrate(database: Database, model):
    try:
        model.fill(database.query("SELECT key, value FROM features"))
    except DatabaseUnavailableError:  # expect: FS002
        model.fill_with_nothing()
