import unittest

import box


class BoxTest(unittest.TestCase):
    def test_read(self):
        self.assertEqual(box.read(box.Box(3)), 3)
