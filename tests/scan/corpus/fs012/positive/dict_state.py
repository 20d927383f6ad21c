import httpx


class Router:
    def __init__(self, gateway_client: httpx.AsyncClient):
        self.client = gateway_client

    async def place_order(self, body):
        response = await self.client.post("/orders", json=body)
        response.raise_for_status()
        return response.json()

    async def route(self, order: dict) -> dict:
        try:
            order["ticket"] = (await self.place_order(order))["id"]
            order["status"] = "live"
        except httpx.HTTPError:  # expect: FS012
            order["status"] = "cancelled"
        return order
