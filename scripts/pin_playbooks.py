"""Write the digests of the shipped playbooks into the package; run it after changing any file of one."""

from __future__ import annotations

from pathlib import Path

from mcp_tierkit.playbook.folder import digest, read_folder

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "mcp_tierkit" / "data" / "playbook_digests.toml"
HEAD = """# The playbooks that come with the package, by the digest of all their bytes: they are trusted by these and by
# nothing else. Written by scripts/pin_playbooks.py; a test holds it to the folders.

[digests]
"""


def pinned() -> str:
    folders = sorted(path for path in (ROOT / "playbooks").iterdir() if path.is_dir())
    lines = [f'{path.name} = "{digest(read_folder(path, shipped=True), shipped=True)}"\n' for path in folders]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(pinned(), "utf-8")
