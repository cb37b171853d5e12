// TODO: theirs
