class Box:
    def __init__(self, value):
        self.value = value


def read(box):
    return getattr(box, "value")
