import unittest

from rota.shifts import merge, parse, total_minutes


def merged(*texts):
    return [str(shift) for shift in merge(map(parse, texts))]


class MergeTest(unittest.TestCase):
    def test_overlapping_shifts_are_joined(self):
        self.assertEqual(merged("9:00-12:00", "11:00-13:00"), ["09:00-13:00"])

    def test_touching_shifts_are_joined(self):
        self.assertEqual(merged("9:00-12:00", "12:00-13:00"), ["09:00-13:00"])

    def test_a_shift_inside_another_shortens_nothing(self):
        self.assertEqual(merged("9:00-17:00", "10:00-11:00"), ["09:00-17:00"])

    def test_order_does_not_matter(self):
        self.assertEqual(merged("14:00-15:00", "9:00-10:00"), ["09:00-10:00", "14:00-15:00"])

    def test_minutes_are_counted_once(self):
        self.assertEqual(total_minutes(map(parse, ["9:00-11:00", "10:00-12:00"])), 180)


if __name__ == "__main__":
    unittest.main()
