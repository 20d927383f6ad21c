from .gate import decide
from .repository import LatchRepository


class Router:
    def __init__(self, repo: LatchRepository):
        self.repo = repo

    def route(self, order):
        try:
            latched = self.repo.is_latched(order.desk)
        except Exception:  # expect: FS001
            latched = False
        return decide(order, latched=latched)
