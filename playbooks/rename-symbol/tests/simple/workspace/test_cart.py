import unittest

from shop import cart


class CartTest(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(cart.total([100, 250]), 350)

    def test_empty(self):
        self.assertEqual(cart.total([]), 0)
