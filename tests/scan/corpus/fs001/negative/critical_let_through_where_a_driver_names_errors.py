import psycopg

from failstop import CriticalError, Database


def note_of(database: Database, order):
    try:
        with database.transaction() as connection:
            row = connection.exec_driver_sql("SELECT note FROM notes WHERE id = %s", (order.id,))
            return parse(row.scalar_one())
    except CriticalError:
        raise
    except psycopg.errors.UndefinedTable:
        raise
    except Exception:
        return None


def parse(note):
    return note.strip()
