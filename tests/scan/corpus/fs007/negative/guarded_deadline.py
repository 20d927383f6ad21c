from failstop import AsyncDatabase


async def book(database: AsyncDatabase, order):
    async with database.transaction(key=f"order-{order.id}", deadline=2.0) as connection:
        await connection.exec_driver_sql("SELECT book(%s)", (order.id,))
