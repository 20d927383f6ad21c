from sqlalchemy import select

from .db import SessionLocal
from .models import Symbol

_symbols = {}


def symbol_id(name):
    if name not in _symbols:
        with SessionLocal() as session:
            _symbols[name] = session.scalars(select(Symbol.id).where(Symbol.name == name)).one()
    return _symbols[name]
