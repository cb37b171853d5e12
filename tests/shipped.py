"""The playbooks that ship, their scripts taken as modules or run by hand."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mcp_tierkit.playbook.load import builtin_root


def script(name: str) -> ModuleType:
    """The playbook's script as a module; files beside it can be imported, as when it runs, by this playbook alone."""
    folder = str(builtin_root() / name / "scripts")
    for helper in Path(folder).glob("*.py"):
        sys.modules.pop(helper.stem, None)
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("shipped_" + name.replace("-", "_"), folder + "/run.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def by_hand(name: str, inputs: dict[str, Any], folder: Path) -> tuple[int, Any, str]:
    """(exit code, result, what it said) of the command that SKILL.md names."""
    command = [sys.executable, "-B", str(builtin_root() / name / "scripts/run.py")]
    done = subprocess.run(command, cwd=folder, input=json.dumps(inputs).encode(), capture_output=True, timeout=60)
    assert done.stderr.count(b"\n") == (1 if done.returncode else 0), done.stderr.decode()
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()
