"""A typed function: the framework makes the order and writes the receipt."""

from dataclasses import asdict, dataclass

import functions_framework

from trace_guard_gcf import guard_handler

PRICES = {"tea": 3, "cake": 5}


@dataclass
class Order:
    item: str
    count: int

    @staticmethod
    def from_dict(fields):
        return Order(fields["item"], int(fields["count"]))


@dataclass
class Receipt:
    total: int

    def to_dict(self):
        return asdict(self)


@functions_framework.typed
@guard_handler
def main(order: Order):
    return Receipt(PRICES[order.item] * order.count)
