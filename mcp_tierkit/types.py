"""Every record that crosses a room: frozen, closed to unknown fields, `None` for unknown."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TierName = Literal["cheap", "mid", "strong"]
Door = Literal["mcp", "pipe", "terminal"]
"""What is asked through: an agent's client, a command whose output a program takes, or one that a person reads."""
Stage = Literal["plan", "draft", "repair", "climb", "continue", "review", "playbook", "doctor"]
Category = Literal[
    "code", "refactor", "tests", "docs", "classify", "extract", "summarize", "analyse", "review", "plan",
]  # fmt: skip
Shown = Literal["whole", "parts", "outline", "left_out"]
Billing = Literal["api", "subscription", "local"]
Proof = Literal["turns_green", "stays_green"]
Latency = Literal["interactive", "async"]
Isolation = Literal["sandbox", "in_place"]
Network = Literal["none", "loopback", "full"]
Decision = Literal["run_playbook", "single_cheap", "draft", "do_it_yourself", "ask", "needs_human", "blocked"]
CheckOutcome = Literal["green", "red", "vacuous", "flaky", "unrunnable", "not_run"]
CallStatus = Literal["reserved", "settled", "failed", "cancelled", "interrupted"]
TaskState = Literal["open", "running", "done", "cancelled", "interrupted"]
DraftStatus = Literal[
    "applied", "ready", "unproven", "needs_work", "question", "conflict", "rejected", "unrunnable",
    "over_budget", "stop_rule", "running", "cancelled", "interrupted",
]  # fmt: skip
GIVEN: tuple[DraftStatus, DraftStatus] = ("applied", "ready")
"""How a draft ends whose change the caller has: in the tree, or as a patch that it may apply."""
AttemptOutcome = Literal[
    "green", "red", "unreadable", "out_of_scope", "question", "cut_short", "empty", "unproven", "failed",
]  # fmt: skip
Verdict = Literal["clean", "findings", "blocked", "uninformative"]
FindingClass = Literal["edge_case", "assumption", "test", "drift", "security", "requirement", "nit"]
Severity = Literal["blocker", "major", "minor", "nit"]
Outcome = Literal["accepted", "edited", "reverted"]
PlaybookOrigin = Literal["project", "user", "package"]
PlaybookStatus = Literal[
    "ok", "declined", "failed", "timeout", "cancelled", "output_limit", "bad_output", "write_outside",
    "conflict", "suspect",
]  # fmt: skip

Tokens = Annotated[int, Field(ge=0)]
NanoUsd = Annotated[int, Field(ge=0, description="Billionths of a US dollar; sums of these are exact.")]
Rate = Annotated[str, Field(description="US dollars a million tokens, in and out, such as `0.1/0.5`.")]


class Record(BaseModel):
    """A frozen value: two with the same fields are equal, and an unknown field is refused."""

    # Validators are built on first use: most processes touch few of these records, and start-up pays for none.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Check(Record):
    """A command that can prove a change: split like a shell splits words, never given to a shell."""

    argv: tuple[str, ...] = Field(min_length=1)
    cwd: str = Field(default=".", description="Folder it runs in, relative to the project.")
    timeout_s: float = Field(default=300, gt=0, le=3600)

    @property
    def name(self) -> str:
        """The command as a person would type it, its program without a folder; then where it runs, if elsewhere."""
        program, *rest = self.argv
        command = shlex.join([program.rsplit("/", 1)[-1] or program, *rest] if program.startswith("/") else self.argv)
        return command if self.cwd == "." else f"{command} ({self.cwd})"


class Task(Record):
    """What the caller wants, as it was asked."""

    task_id: str
    project: str = Field(description="Real path of the project.")
    repository: str | None = Field(default=None, description="Worktrees of one share a budget; None: the project.")
    goal: str
    files: tuple[str, ...] = Field(default=(), description="Paths or globs the draft may change or create.")
    context: tuple[str, ...] = Field(default=(), description="Paths the draft may read, not change.")
    steps: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    proof: Proof = "turns_green"
    assume: tuple[str, ...] = Field(default=(), description="Answers to open questions.")
    latency: Latency = "async"
    tier: TierName | None = Field(default=None, description="A pin of the drafting tier.")
    client: str | None = Field(default=None, description="Name and version the MCP client gave.")
    created_at: datetime


class Route(Record):
    """What was decided before anything was spent. Every call row points to one."""

    route_id: str
    task_id: str
    decision: Decision | Literal["review"]
    tier: TierName | None = Field(description="The one tier that calls under this route may use.")
    rule: str = Field(description="Name of the rule that decided.")
    reason: str = Field(description="One sentence.")
    category: Category = "code"
    override: str | None = Field(default=None, description="Why it may use a tier above the stage's pin; None: not so.")
    playbook: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)


class Handoff(Record):
    """The one structure that plan, draft and review all read and write (version 1)."""

    version: Literal[1] = 1
    task_id: str
    summary: str
    files: tuple[str, ...]
    context: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    proof: Proof = "turns_green"
    open_questions: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    draft_diff: str | None = Field(default=None, description="Project-relative path of the last draft's diff.")


class PackedFile(Record):
    """How much of one file a request holds."""

    path: str
    shown: Shown
    tokens: Tokens = Field(description="Of what is shown, its label and fence included.")


class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str
    ends_prefix: bool = Field(default=False, description="What comes up to here is sent again: worth caching.")


class Request(Record):
    """One model call as it is about to be sent. It holds the name of a key, never a key."""

    task_id: str
    route_id: str
    stage: Stage
    tier: TierName
    model: str = Field(description="The routed model, by litellm's name, such as `openai/some-model`.")
    requested_model: str | None = Field(default=None, description="What the tier names first; None: the routed one.")
    requested_price: Rate | None = None
    routed_price: Rate | None = None
    billing: Billing | None = Field(default=None, description="How its tier is paid for; None: not told.")
    category: Category = "code"
    packed: tuple[PackedFile, ...] = Field(default=(), description="The project's files in it, left out ones too.")
    base_url: str | None = None
    api_key_env: str | None = None
    served: tuple[str, ...] = Field(default=(), description="Other names the provider may answer with.")
    messages: tuple[Message, ...]
    max_output_tokens: int = Field(gt=0)
    timeout_s: float = Field(gt=0)
    prompt_id: str = Field(description="`name.vN@digest` of the prompt text.")
    digest: str | None = Field(default=None, description="Of what is asked of whom: the breaker knows a loop by it.")


class Usage(Record):
    """Tokens of one call in four buckets that never overlap; `None` where the provider did not say."""

    input: Tokens | None = Field(default=None, description="Input read fresh.")
    cached_input: Tokens | None = Field(default=None, description="Input read from the provider's cache.")
    cache_write: Tokens | None = Field(default=None, description="Input written to the provider's cache.")
    cache_write_1h: Tokens | None = Field(default=None, description="The part of `cache_write` kept for an hour.")
    output: Tokens | None = Field(default=None, description="Output, reasoning included.")
    reasoning: Tokens | None = Field(default=None, description="The part of `output` that was reasoning.")
    level: str | None = Field(default=None, description="Level of service it ran at; None for the standard one.")


class Completion(Record):
    """What came back from a model."""

    text: str
    finish: Literal["stop", "length", "filter", "other"] = "stop"
    usage: Usage = Usage()
    served_model: str | None = None
    reported_cost_nanousd: NanoUsd | None = Field(default=None, description="Cost the provider itself stated.")
    duration_ms: int | None = Field(default=None, description="From request to reply, nothing of ours in it.")


class Call(Record):
    """How a reserved call ended; written over its row by `Ledger.settle`."""

    status: CallStatus
    served_model: str | None = None
    served_price: Rate | None = None
    usage: Usage = Usage()
    cost_nanousd: NanoUsd | None = None
    cache_saved_nanousd: int | None = Field(
        default=None, description="What it would have cost with all input fresh, less its cost; None is unknown."
    )
    most_nanousd: NanoUsd | None = Field(
        default=None, description="Of an unknown cost: the most it can be, where less than was reserved; it is kept."
    )
    price_digest: str | None = None
    finish: str | None = None
    error: str | None = Field(default=None, description="Class and status of a failure; no text of the provider.")
    duration_ms: int | None = None
    model_mismatch: bool = False
    alert: str | None = Field(default=None, description="One sentence on what the user should look at.")


class Budgets(Record):
    """Spending limits in nanodollars; `None` is no limit."""

    call: NanoUsd | None = None
    task: NanoUsd | None = None
    day: NanoUsd | None = None
    project: NanoUsd | None = None
    month: NanoUsd | None = None
    unpriced_calls: int = Field(default=50, ge=0, description="Calls of unknown price in one UTC day, at most.")
    breaker: bool = Field(default=True, description="Refuse loops and runaway spending, whatever is left.")


class Spend(Record):
    """What a set of calls cost. `cost_nanousd` sums the known; the rest is counted, not guessed."""

    calls: int = 0
    cost_nanousd: NanoUsd = 0
    unpriced_calls: int = Field(default=0, description="Calls that ended with an unknown cost.")
    unknown_nanousd: NanoUsd = Field(default=0, description="The most that the unknown ones can have cost.")
    input_tokens: Tokens = Field(default=0, description="All input: fresh, cached and written.")
    cached_tokens: Tokens = 0
    output_tokens: Tokens = 0


class Content(Record):
    """A file's bytes; `mode` is the permission bits, None to keep (or default for a new file)."""

    data: bytes
    mode: int | None = None


Changes = dict[str, Content | None]
"""Project-relative POSIX path to new content, None for a deleted file."""


class FileChange(Record):
    path: str
    added: int
    removed: int
    ranges: str = Field(default="", description="New line ranges, such as `3-9,40-41`; `deleted` for a deleted file.")


class CheckRun(Record):
    """One run of one check, as seen: an exit code and counts, no opinion of a model."""

    name: str
    outcome: Literal["green", "red", "unrunnable"]
    reason: str = Field(default="", description="Why it is unrunnable, in a few words.")
    exit_code: int | None = None
    tests: int | None = Field(default=None, description="Tests run, where the runner reports it.")
    passed: int | None = None
    failing: tuple[str, ...] = Field(default=(), description="Names of failing tests, where reported.")
    digest: str = Field(default="", description="The telling lines, ten at most.")
    log: str | None = Field(default=None, description="Project-relative path of the whole output.")
    duration_ms: int = 0


class CheckResult(Record):
    """A check before and after a change."""

    name: str
    role: Proof
    before: CheckOutcome
    after: CheckOutcome = "not_run"
    digest: str = ""
    log: str | None = None


class Attempt(Record):
    """One model call of a draft and what its reply was worth."""

    call_id: str
    stage: Stage = "draft"
    tier: TierName
    model: str = Field(description="The served model, or the requested one where none was reported.")
    outcome: AttemptOutcome
    why: str = Field(default="", description="Of a reply that is no edit, or not one that may be made: what is wrong.")
    overrun: bool = Field(default=False, description="Its text is longer than the cap of its category.")
    cost_nanousd: NanoUsd | None = None
    billing: Billing | None = Field(default=None, description="How it was paid for; None: an older version wrote it.")


class Draft(Record):
    """The end of a drafting task."""

    task_id: str
    status: DraftStatus
    note: str = Field(default="", description="One sentence: why this status.")
    files: tuple[FileChange, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    proof: Proof = "turns_green"
    guards: tuple[CheckResult, ...] = Field(default=(), description="The project's known checks, run once at the end.")
    attempts: tuple[Attempt, ...] = ()
    reverted: tuple[str, ...] = Field(default=(), description="Files the replies edited outside the task; not kept.")
    alerts: tuple[str, ...] = Field(default=(), description="What of its calls the user should look at.")
    patch: str | None = Field(default=None, description="Project-relative path of the diff.")
    isolation: Isolation | None = None
    question: str | None = None
    ask: str | None = Field(default=None, description="What the user is to raise for it to go on; None: it does not.")
    way_on: str | None = Field(default=None, description="Of one that a budget ended: what would have admitted it.")


class Finding(Record):
    """One remark of a review, anchored to a line of the diff. It never holds replacement code."""

    file: str
    line: int = Field(ge=1)
    severity: Severity
    klass: FindingClass
    claim: str = Field(max_length=300)
    evidence: str = Field(max_length=300)


class Review(Record):
    task_id: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    checked: dict[str, str] = Field(default_factory=dict, description="Each class: `findings`, or why none.")
    dropped: int = Field(default=0, description="Findings that pointed at no line of the diff, or held code.")
    tier: TierName | None = Field(default=None, description="The tier that reviewed; None where no model was asked.")
    model: str | None = Field(default=None, description="The served model, or the requested one where none answered.")
    rounds_left: int = 0
    note: str = ""


class PlaybookRun(Record):
    """One run of a playbook. A script's costs 0 tokens and 0; a skill's is what its model calls cost."""

    task_id: str
    playbook: str
    version: str
    digest: str
    status: PlaybookStatus
    origin: PlaybookOrigin = "project"
    hides: tuple[PlaybookOrigin, ...] = Field(default=(), description="Where trusted ones of the same name lie behind.")
    kind: Literal["script", "skill"] = "script"
    dry_run: bool = False
    tokens: Tokens | None = Field(default=0, description="In and out, over every call; None where one is unknown.")
    cost_nanousd: NanoUsd | None = Field(default=0, description="None where a call's cost is unknown.")
    billing: Billing | None = Field(default=None, description="How a skill's calls are paid for.")
    output: dict[str, Any] | None = None
    changed: tuple[str, ...] = ()
    diff: str | None = Field(default=None, description="Project-relative path of the diff.")
    log_tail: str = ""
    sandbox: Literal["sandbox", "none"] = "sandbox"
    ms: int = 0
    fallback: Literal["model", "error"] = "model"


class Score(Record):
    """What became of a task's change, as the caller or a person reported it."""

    task_id: str
    outcome: Outcome
    cleanup_minutes: float | None = Field(default=None, ge=0)
    defects: int | None = Field(default=None, ge=0)
    note: str = ""
    is_undone: bool = Field(default=False, description="Its files were put back as they were before it, by us.")
    changed_lines: int | None = Field(default=None, ge=0, description="Lines of the change, as measured from git.")
    rewritten_lines: int | None = Field(default=None, ge=0, description="Of these, those that were rewritten so far.")
