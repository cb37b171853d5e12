"""The run that a printed log tells of."""

from compiled_logs import read_cargo, read_go
from javascript_logs import read_javascript
from python_logs import read_pytest, read_unittest
from runs import Run, lines_of

READERS = (read_pytest, read_unittest, read_javascript, read_cargo, read_go)


def read_log(text):
    """The run of all runners whose results are in the log, None where no runner is known in it."""
    lines = lines_of(text)
    runs = [run for run in (reader(lines) for reader in READERS) if run]
    if len(runs) < 2:
        return runs[0] if runs else None
    passed = [run.passed for run in runs if run.passed is not None]
    return Run(
        framework=" + ".join(run.framework for run in runs),
        failures=[one for run in runs for one in run.failures],
        passed=sum(passed) if passed else None,
        said=sum(run.failed for run in runs),
        broken=next((run.broken for run in runs if run.broken), ""),
    )
