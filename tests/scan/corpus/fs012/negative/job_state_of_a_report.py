from .db import Session
from .models import Report, render


def build(report_id):
    with Session() as session:
        rows = session.query(Report).filter_by(id=report_id).one().rows()
    try:
        document = render(rows)
    except ValueError:
        document = None
    return {"status": "failed" if document is None else "done", "document": document}
