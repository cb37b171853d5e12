# TODO: x
