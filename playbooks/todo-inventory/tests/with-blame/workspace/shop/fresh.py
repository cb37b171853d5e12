# TODO: in no commit yet
