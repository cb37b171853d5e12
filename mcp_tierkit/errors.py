"""Failures worth explaining. Each says what happened, what it cost, and what to do next."""

from __future__ import annotations


class TierkitError(Exception):
    """A foreseen refusal. Its text is two sentences (what, what it cost); `next_step` is the third.

    `shell_step` is that sentence for a terminal, where it may name places. `code` is a stable word for programs;
    `exit_code` is what the command line ends with:
    1 finding or failure, 2 wrong usage, 3 refused for trust or policy.
    """

    code = "error"
    exit_code = 1

    def __init__(self, what: str, *, next_step: str) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.shell_step: str | None = None

    def __str__(self) -> str:
        return f"{self.what} {self.next_step}"


class InvalidInput(TierkitError):
    """An argument, a path, a check or a configuration file that cannot be used."""

    code = "invalid_input"
    exit_code = 2


class PathRefused(InvalidInput):
    """A path outside the project, through a link, on the deny list, or not a regular file."""

    code = "path_refused"


class NotFound(TierkitError):
    code = "not_found"
    exit_code = 2


class Untrusted(TierkitError):
    code = "untrusted"
    exit_code = 3


class PolicyRefused(TierkitError):
    """Refused by the user's policy: a risk tag, a guarded file, a missing sandbox, a secret."""

    code = "refused_policy"
    exit_code = 3


class NoModel(TierkitError):
    """No usable model for a tier: no key, no engine, or no price."""

    code = "no_model"


class OverBudget(TierkitError):
    """A budget or the breaker does not admit a call. What could be waited for has been waited for.

    `budget` is its name, or `breaker`; `needed_usd` is what it would have to be raised to, None where that is no help.
    Of the limit, `held_nanousd` is spent or outstanding. `may_settle`: only calls in flight stand in the way.
    """

    code = "over_budget"
    exit_code = 3
    retryable = False

    def __init__(
        self, what: str, *, next_step: str, budget: str, needed_usd: str | None = None, limit_nanousd: int = 0,
        held_nanousd: int = 0, may_settle: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(f"{what} (retryable=false). This call was not made.", next_step=next_step)
        self.budget = budget
        self.needed_usd = needed_usd
        self.limit_nanousd = limit_nanousd
        self.held_nanousd = held_nanousd
        self.may_settle = may_settle


class StopRule(TierkitError):
    code = "stop_rule"
    exit_code = 3


class ModelFailed(TierkitError):
    """The provider refused, failed, timed out, or answered with another model. `status` is HTTP's where known.

    `was_sent` is False where the request never left this machine, and so cost nothing.
    """

    code = "model_failed"

    def __init__(
        self, what: str, *, next_step: str, status: int | None = None, kind: str = "error", was_sent: bool = True
    ) -> None:
        super().__init__(what, next_step=next_step)
        self.status = status
        self.kind = kind
        self.was_sent = was_sent
        self.duration_ms: int | None = None  # set by the gateway, from the request on
        self.call_id: str | None = None  # set by metering once the row is settled


class EditRefused(TierkitError):
    """A reply that cannot be read as edits with certainty. Nothing is written."""

    code = "rejected"


class Conflict(TierkitError):
    """Files moved since they were read; nothing was changed."""

    code = "conflict"


class LedgerError(TierkitError):
    code = "ledger"


class LedgerDamaged(LedgerError):
    """The ledger's file is not readable as one. `aside` is the command that moves it out of the way."""

    def __init__(self, why: str, *, aside: str) -> None:
        super().__init__(
            f"The ledger's file is damaged ({why}). What it says cannot be trusted, so no model is called.",
            next_step="Run `tierkit doctor` in a terminal: it gives the command that moves the file aside. "
            "A new one is then made, and budgets begin at zero.",
        )
        self.shell_step = (
            f"End every server of tierkit, then move the file aside: {aside}\n"
            "A new one is then made, and budgets begin at zero."
        )
