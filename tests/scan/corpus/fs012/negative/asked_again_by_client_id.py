def send(broker, order):
    try:
        order.ticket = broker.submit_order(order.symbol, order.qty, client_id=order.id)
        order.status = "open"
    except TimeoutError:
        found = broker.find_by_client_id(order.id)
        order.status = "open" if found else "pending_check"
        if found is None:
            raise
