from app.storage import MockDatabase, PostgresDatabase, ping

DB_AVAILABLE = ping()


def get_database():
    if not DB_AVAILABLE:  # expect: FS003
        return MockDatabase()
    return PostgresDatabase()
