import tenacity

from .models import Withdrawal


class WithdrawalService:
    def __init__(self, session_factory):
        self.session_factory = session_factory

    def _persist(self, user_id, amount):
        with self.session_factory() as session:
            session.add(Withdrawal(user_id=user_id, amount=amount))
            session.commit()

    @tenacity.retry(stop=tenacity.stop_after_attempt(3))  # expect: FS004
    def request(self, user_id, amount):
        if amount <= 0:
            raise ValueError("amount")
        self._persist(user_id, amount)
