"""The books of the drill: what was answered, against what the table holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from failstop.drill._report import Reconciliation
from failstop.drill._traffic import NO_EFFECT, Order

__all__ = ["reconcile"]

Row = tuple[str, int]
"""An order's id and its quantity, as the table holds them."""


def reconcile(
    orders: Sequence[Order], rows: Iterable[Row], left: Iterable[Row] = ()
) -> Reconciliation:
    """Compare every order with its rows; `left` are those that a failover left behind."""
    found = defaultdict(list)
    for order_id, quantity in rows:
        found[order_id].append(quantity)
    books = Reconciliation(sent=len(orders), rows=sum(map(len, found.values())))
    for order in orders:
        _enter(order, found.pop(order.order_id, []), books)
    books.invented += found
    behind = {order_id for order_id, _ in left}
    books.failed_over = [each for each in books.lost if each in behind]
    books.lost = [each for each in books.lost if each not in behind]
    return books


def _enter(order: Order, quantities: list[int], books: Reconciliation) -> None:
    last = order.answers[-1] if order.answers else None
    outcome = last.details.get("outcome") if last else None
    if last is None or last.status is None:
        books.unanswered.append(order.order_id)
    elif order.is_accepted or outcome == "COMMITTED":
        books.accepted += 1
    elif outcome in NO_EFFECT:
        books.refused += 1
    else:
        books.unknown += 1
    _judge(order, outcome, quantities, books)


def _judge(order: Order, outcome: str | None, quantities: list[int], books: Reconciliation) -> None:
    is_promised = order.is_accepted or outcome == "COMMITTED"
    if is_promised and not quantities:
        books.lost.append(order.order_id)
    if len(quantities) > 1:
        books.duplicated.append(order.order_id)
    if set(quantities) - {order.quantity}:
        books.invented.append(order.order_id)
    if quantities and not order.is_accepted and outcome in NO_EFFECT:
        books.contradicted.append(order.order_id)
