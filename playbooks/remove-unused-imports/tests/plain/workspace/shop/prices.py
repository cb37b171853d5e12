import sqlite3
from decimal import Decimal

PRICES = [Decimal(1)]
