from .errors import GatewayError


class Transfers:
    def __init__(self, bank_api, repository):
        self.bank_api = bank_api
        self.repository = repository

    def send(self, transfer):
        try:
            reference = self.bank_api.submit_transfer(transfer.iban, transfer.cents)
        except Exception as exc:  # expect: FS012
            self.repository.update(transfer.id, status="failed")
            raise GatewayError("bank") from exc
        self.repository.update(transfer.id, status="sent", reference=reference)
