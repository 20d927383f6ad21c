from .postgres import PostgresStore
from .store import MemoryStore


def make_store(kind, dsn):
    stores = {"memory": lambda: MemoryStore(), "postgres": lambda: PostgresStore(dsn)}
    return stores[kind]()
