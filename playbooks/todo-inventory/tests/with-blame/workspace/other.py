# TODO: elsewhere
