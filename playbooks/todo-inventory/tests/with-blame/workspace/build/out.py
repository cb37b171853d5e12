# TODO: ignored
