"""A project's own files: no link is followed, and no hidden folder, environment or cache is entered."""

import os

SKIPPED = {"node_modules", "__pycache__", "site-packages", "dist-packages"}
MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")


def shown(path):
    """A path as one printable line."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def clean_folder(text):
    """The folder as a path below the project; None where it is not one."""
    folder = os.path.normpath(text or ".").replace(os.sep, "/")
    is_inside = not os.path.isabs(folder) and folder.split("/")[0] != ".." and "\0" not in folder
    root = os.path.realpath(".")
    real = os.path.realpath(folder) if is_inside else ""
    return folder if is_inside and (real == root or real.startswith(root + os.sep)) and os.path.exists(real) else None


def files_below(folder, wanted, skipped=()):
    """Regular files of wanted names by path order; folders of the `skipped` names are left out too."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in skipped and _is_ours(here, name))
        for name in sorted(names):
            path = os.path.join(here, name)
            if wanted(name) and os.path.isfile(path) and not os.path.islink(path):
                yield os.path.normpath(path).replace(os.sep, "/")


def _is_ours(here, name):
    inside = os.path.join(here, name)
    is_marked = any(os.path.exists(os.path.join(inside, mark)) for mark in MARKS)
    is_made_up = os.path.exists(os.path.join(here, "case.json"))  # The project of a playbook's test.
    is_plain = not name.startswith(".") and name not in SKIPPED and not os.path.islink(inside)
    return is_plain and not is_marked and not is_made_up
