import json
from decimal import Decimal as D
import os

import shop.prices
from shop import _names

_RATE = 3


def total(prices):
    return sum(prices) + len(os.sep) + len(_names.LABEL)
    print("never")
    print("never either")


def _round(price):
    import math

    return _round(price)
