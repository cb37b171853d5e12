import json; import sys  # both
import os, re
from typing import (
    Any,  # any
    Dict,
    List,  # list
)

import shop.prices


def total(prices: List[int]):
    import math

    if prices:
        import decimal
    return sum(prices) + len(re.escape(os.sep))
