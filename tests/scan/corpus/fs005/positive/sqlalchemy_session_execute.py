from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session


def archive(session: Session, before):
    session.execute(text("INSERT INTO old_orders SELECT * FROM orders WHERE ts < :b"), {"b": before})
    try:
        session.execute(text("DELETE FROM order_notes WHERE ts < :b"), {"b": before})
    except SQLAlchemyError as exc:  # expect: FS005
        print("notes stay", exc)
    session.execute(text("DELETE FROM orders WHERE ts < :b"), {"b": before})
    session.commit()
