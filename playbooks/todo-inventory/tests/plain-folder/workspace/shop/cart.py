"""TODO: not in a docstring."""

TODO = "TODO: not in a string"  # TODO(ada): cents, see #12


def total(prices):
    # FIXME: prices may be None
    # We do not count a TODO in passing.
    return sum(prices)  # hack: lower case is prose
