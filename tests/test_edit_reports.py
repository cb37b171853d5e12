"""What a reading tells the model for a repair: which part failed and why, what the file holds, what not to resend."""

from __future__ import annotations

from mcp_tierkit.edits import Kept, read_reply

TICKS = "`" * 3
LOAD = "import os\n\n\ndef load(path):\n    return open(path)\n\n\ndef close(file):\n    file.close()\n"
FILES = {"a.py": LOAD, "src/b.py": "limit = 10\nname = 'b'\n"}


def block(search: str, new: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{new}\n>>>>>>> REPLACE\n"


def test_of_blocks_for_two_files_the_report_names_the_failed_and_the_applied() -> None:
    reply = (
        f"a.py\n{TICKS}python\n{block('import os', 'import json')}"
        f"{block('def load(name):', 'def load(file):')}{TICKS}\n"
        f"src/b.py\n{TICKS}python\n{block('limit = 10', 'limit = 20')}{block('limit = 11', 'limit = 21')}{TICKS}\n"
    )
    reading = read_reply(reply, FILES)
    assert reading.changes == {
        "a.py": LOAD.replace("import os", "import json"),
        "src/b.py": "limit = 20\nname = 'b'\n",
    }
    assert reading.kept == (Kept(path="a.py", block=1), Kept(path="src/b.py", block=3))
    assert reading.report == (
        'Block 2 for a.py, which looks for "def load(name):", was not applied: the search text is not in the file.\n'
        "The nearest lines of the file, from line 2:\n\n\ndef load(path):\n    return open(path)\n\n\n"
        'Block 4 for src/b.py, which looks for "limit = 11", was not applied: the search text is not in the file.\n'
        "The nearest lines of the file, from line 1:\nlimit = 20\nname = 'b'\n\n"
        "Read without trouble: block 1 for a.py; block 3 for src/b.py. The files hold these changes now: do not send "
        "them again, send only what was not applied."
    )


DIFF = f"""{TICKS}diff
--- a/a.py
+++ b/a.py
@@ ... @@
-import os
+import json
@@ ... @@
-def load(name):
+def load(file):
@@ ... @@
-def close(file):
+def shut(file):
--- a/src/b.py
+++ b/src/b.py
@@ ... @@
-limit = 10
+limit = 20
{TICKS}
"""


def test_of_one_diff_the_hunks_that_fit_are_kept_and_the_others_are_named() -> None:
    reading = read_reply(DIFF, FILES)
    assert reading.changes == {
        "a.py": LOAD.replace("import os", "import json").replace("def close", "def shut"),
        "src/b.py": "limit = 20\nname = 'b'\n",
    }
    assert reading.kept == (Kept(path="a.py", block=1, hunks=(1, 3)), Kept(path="src/b.py", block=2))
    assert [(each.block, each.hunk, each.begins) for each in reading.refused] == [(1, 2, "def load(name):")]
    assert reading.report.startswith('Hunk 2 of block 1 for a.py, which looks for "def load(name):", was not applied')
    assert "hunks 1, 3 of block 1 for a.py; block 2 for src/b.py" in reading.report


def test_a_repair_of_the_refused_hunk_alone_completes_the_change() -> None:
    first = read_reply(DIFF, FILES).changes
    now = {path: first.get(path) or text for path, text in FILES.items()}
    repair = f"{TICKS}diff\n--- a/a.py\n+++ b/a.py\n@@ ... @@\n-def load(path):\n+def load(file):\n{TICKS}\n"
    assert read_reply(repair, now).changes == {"a.py": (first["a.py"] or "").replace("load(path)", "load(file)")}


def test_a_diff_sent_again_in_full_applies_only_what_was_missing() -> None:
    first = read_reply(DIFF, FILES).changes
    now = {path: first.get(path) or text for path, text in FILES.items()}
    again = read_reply(DIFF.replace("load(name)", "load(path)"), now)
    assert again.refused == ()
    assert again.changes == {"a.py": (first["a.py"] or "").replace("load(path)", "load(file)")}
    assert len(again.kept) - again.applied == 1


def test_a_hunk_of_a_renamed_or_deleted_file_keeps_the_whole_patch_from_being_applied() -> None:
    moved = DIFF.replace("+++ b/a.py", "+++ b/c.py")
    reading = read_reply(moved, FILES)
    assert set(reading.changes) == {"src/b.py"}
    assert reading.kept == (Kept(path="src/b.py", block=2),)


def test_of_whole_files_the_report_names_the_refused_and_the_written() -> None:
    reply = f"a.py\n{TICKS}python\nimport json\n# ... rest unchanged\n{TICKS}\n\n"
    reply += f"src/b.py\n{TICKS}python\nlimit = 20\n{TICKS}\n"
    reading = read_reply(reply, FILES)
    assert reading.changes == {"src/b.py": "limit = 20\n"}
    assert "Block 1 for a.py was not applied: '# ... rest unchanged' stands for code" in reading.report
    assert "Read without trouble: block 2 for src/b.py." in reading.report


def test_of_an_envelope_each_file_and_hunk_is_told_apart() -> None:
    reply = (
        "*** Begin Patch\n*** Update File: a.py\n@@\n-import os\n+import json\n@@\n-def lode(path):\n+def load(file):\n"
        "*** Delete File: gone.py\n*** Update File: src/b.py\n@@\n-limit = 10\n+limit = 20\n*** End Patch\n"
    )
    reading = read_reply(reply, FILES)
    assert [(each.path, each.block, each.hunk) for each in reading.refused] == [("a.py", 1, 2), (None, 2, None)]
    assert "The nearest lines of the file, from line 2:" in reading.report
    assert "'gone.py' is not the whole path of a file that can be deleted" in reading.report
    assert "hunk 1 of block 1 for a.py; block 3 for src/b.py" in reading.report


def test_where_nothing_was_applied_the_report_says_nothing_of_it() -> None:
    assert "Read without trouble" not in read_reply(f"a.py\n{TICKS}\n{block('x', 'y')}{TICKS}\n", FILES).report


def test_what_the_files_held_before_need_not_be_sent_again_either() -> None:
    reply = f"a.py\n{TICKS}\n{block('import sys', 'import os')}{block('zero', 'x')}{TICKS}\n"
    assert "Read without trouble: block 1 for a.py." in read_reply(reply, FILES).report
