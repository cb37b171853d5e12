"""The texts of tracked files: in the working tree and, where they differ from that, in the index and in HEAD."""

import hashlib
import os
import stat

import quiet_git
from quiet_git import git

MAX_READ = 2 * 1024 * 1024
MAX_BATCH = 16 * 1024 * 1024
TOO_LARGE = f"larger than {MAX_READ >> 20} MB"
SIZES = "--batch-check=%(objectname) %(objecttype) %(objectsize)"


def working_text(path, blob, folders):
    """(text, why it was not read, whether git holds just that as `blob`). No text and no reason: there is none to read."""
    above = os.path.dirname(path)
    if above not in folders:
        folders[above] = os.path.realpath(above) == os.path.join(os.getcwd(), above).rstrip("/")
    try:
        found = os.lstat(path)
        if not folders[above] or not stat.S_ISREG(found.st_mode) or is_masked(path, found):
            return None, "", False  # What git has of it is read instead.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read(MAX_READ + 1)
            is_same = blob_id(data, file, len(blob)) == blob
    except (FileNotFoundError, NotADirectoryError):
        return None, "", False
    except OSError as error:
        return None, f"cannot be read: {error.strerror}", False
    return *judged(data), is_same


def is_masked(path, found):
    """Whether the sandbox laid an empty file over it."""
    return found.st_dev != os.lstat(os.path.dirname(path) or ".").st_dev


def blob_id(data, file, length):
    """The name that git has for a file that begins with `data`, where nothing is converted."""
    made = hashlib.new("sha1" if length == 40 else "sha256", b"blob %d\0" % os.fstat(file.fileno()).st_size)
    made.update(data)
    for more in iter(lambda: file.read(MAX_READ), b""):
        made.update(more)
    return made.hexdigest()


def judged(data):
    """(the text, why there is none): neither for what is binary."""
    is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not is_wide and b"\0" in data[:8192]:
        return None, ""
    if len(data) > MAX_READ:
        return None, TOO_LARGE
    return data.decode("utf-16" if is_wide else "utf-8-sig", "replace"), ""


def committed():
    """(path, blob) of every plain file of HEAD below this folder; nothing before the first commit."""
    if quiet_git.text("rev-parse", "--verify", "--quiet", "HEAD") is None:
        return
    for entry in filter(None, git("ls-tree", "-r", "-z", "HEAD").split(b"\0")):
        head, _, path = entry.partition(b"\t")
        mode, _, blob = head.decode().split()
        if mode.startswith("100"):
            yield os.fsdecode(path), blob


def blob_sizes(blobs):
    asked = "".join(f"{blob}\n" for blob in sorted(set(blobs))).encode()
    lines = git("cat-file", SIZES, given=asked).decode().splitlines()
    return {words[0]: int(words[2]) for words in map(str.split, lines) if len(words) == 3 and words[1] == "blob"}


def blob_texts(blobs):
    """(blob, text, why it was not read) of each."""
    sizes, batch = blob_sizes(blobs), []
    for blob in blobs:
        if blob not in sizes or sizes[blob] > MAX_READ:
            yield blob, None, TOO_LARGE if blob in sizes else "not in this clone"
            continue
        if batch and sum(sizes[one] for one in batch) + sizes[blob] > MAX_BATCH:
            yield from batch_texts(batch)
            batch = []
        batch.append(blob)
    yield from batch_texts(batch)


def batch_texts(blobs):
    data, at = git("cat-file", "--batch", given="".join(f"{blob}\n" for blob in blobs).encode()), 0
    for blob in blobs:
        start = data.index(b"\n", at) + 1
        at = start + int(data[at:start].split()[2])
        yield blob, *judged(data[start:at])
        at += 1
