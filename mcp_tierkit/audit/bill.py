"""All sheets as one bill: each answer once, each with the prompt it served, and what tools put into the context."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from mcp_tierkit.audit.money import SCALE, Pricer
from mcp_tierkit.audit.owners import Kept, begun, lineage, sort_out
from mcp_tierkit.audit.sheet import CALL, RESULT, Call, Sheet, Tokens, unpacked

MAX_TOOLS = 100
"""Each is weighed again with every call; of more names than anybody has tools, the others are told together."""
OTHERS = "(other tools)"
FIRST = 2
"""So many calls of a job are remembered each by itself."""


@dataclass(slots=True)
class Sum:
    """Calls together. `cost` is of those whose price is known; the others are counted in `unpriced`."""

    calls: int = 0
    tokens: list[int] = field(default_factory=lambda: [0] * 5)
    cost: int = 0
    unpriced: int = 0

    def add(self, tokens: Tokens, cost: int | None) -> None:
        self.calls += 1
        mine = self.tokens
        for at, count in enumerate(tokens):
            mine[at] += count
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost

    def take(self, other: Sum) -> None:
        self.calls += other.calls
        self.tokens = [one + two for one, two in zip(self.tokens, other.tokens, strict=True)]
        self.cost += other.cost
        self.unpriced += other.unpriced


NOTHING = Sum()
"""Of side conversations that a job did not have: most have none."""


@dataclass(slots=True)
class Job:
    """A prompt and all that followed until the next. `text` is empty where no prompt is in the files. `costs` are of
    its first calls."""

    key: str
    session: str
    client: str
    project: str
    at: str
    text: str
    spent: Sum = field(default_factory=Sum)
    by_sub: Sum = field(default_factory=lambda: NOTHING)
    costs: list[tuple[str, int]] = field(default_factory=list)
    uses: list[tuple[str, str]] = field(default_factory=list)

    def rounds(self, count: int) -> int:
        """What its first calls cost, `FIRST` at most, of those with a known price."""
        return sum(cost for _, cost in sorted(self.costs)[:count])


@dataclass(slots=True)
class ToolSum:
    """What the results of one tool put into the context. Tokens are estimated from their length."""

    results: int = 0
    tokens: int = 0
    read_again: int = 0
    cost: int = 0
    unpriced: int = 0


@dataclass(slots=True)
class Bill:
    """`days` is by day and model, `kinds` what each kind of token cost, as `Tokens` has them; `unknown` are models that
    have no price. Jobs are in the order of their time; those without a counted call are left out."""

    jobs: list[Job]
    days: dict[tuple[str, str], Sum]
    tools: dict[str, ToolSum]
    delegated: dict[str, Sum]
    copies: int
    versions: dict[str, tuple[str, ...]]
    misdated: int = 0
    kinds: tuple[int, ...] = (0,) * 5
    unknown: tuple[str, ...] = ()


def settle(
    sheets: Sequence[Sheet], pricer: Pricer, *, since: str = "", until: str = "~",
    wanted: Callable[[str], bool] = lambda project: True,
) -> Bill:  # fmt: skip
    """The bill of all calls from `since` on and before `until`, ISO times in UTC, in the `wanted` projects.

    The same sheets in any order give the same bill.
    """
    order = sorted(sheets, key=lambda sheet: (begun(sheet), sheet.path))
    kept, copies, misdated = sort_out(order, pricer, since, until)
    jobs = _Jobs(order)
    days: dict[tuple[str, str], Sum] = defaultdict(Sum)
    kinds = [0] * 5
    for sheet, own in zip(order, kept, strict=True):
        for call, cost in own.values():
            if wanted(jobs.charge(sheet, call, cost).project):
                days[call.at[:10], call.model].add(call.tokens, cost)
                if cost is not None:
                    pricer.add_parts(kinds, call)
        jobs.note_uses(sheet, own)
    paid = [job for job in jobs.by_key.values() if job.spent.calls and wanted(job.project)]
    paid.sort(key=lambda job: (job.at, job.key))
    chosen = [(sheet, own) for sheet, own in zip(order, kept, strict=True) if wanted(sheet.project)]
    versions: dict[str, set[str]] = {sheet.client: set() for sheet, _ in chosen}
    for sheet, _ in chosen:
        versions[sheet.client].update(sheet.versions)
    told = {client: tuple(sorted(found)) for client, found in sorted(versions.items())}
    parts = tuple(round(Fraction(kind, SCALE)) for kind in kinds)
    unknown = tuple(sorted({model for _, model in days if not pricer.knows(model)}))
    return Bill(paid, dict(days), _tools(chosen, pricer), delegated(chosen), copies, told, misdated, parts, unknown)


class _Jobs:
    """Prompts, and to which of them a call belongs: by its place in the file, a side conversation's by the time."""

    def __init__(self, order: Sequence[Sheet]) -> None:
        self._above = lineage(order, subs_only=True)
        self.by_key: dict[str, Job] = {}
        self._asked: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._told: dict[tuple[str, str], tuple[str, str]] = {}
        for sheet in order:
            for prompt in () if sheet.is_sub else sheet.prompts:
                job = Job(prompt.key, sheet.session, sheet.client, sheet.project, prompt.at, prompt.text)
                self.by_key.setdefault(prompt.key, job)
                self._asked[sheet.session].append((prompt.at, prompt.key))
        for asked in self._asked.values():
            asked.sort()

    def charge(self, sheet: Sheet, call: Call, cost: int | None) -> Job:
        """The job that a call belongs to, with its cost added."""
        job = self._of(sheet, call)
        job.spent.add(call.tokens, cost)
        if call.is_sub:
            if job.by_sub is NOTHING:
                job.by_sub = Sum()
            job.by_sub.add(call.tokens, cost)
        elif cost is not None:
            job.costs.append((call.at, cost))
            if len(job.costs) > FIRST:
                job.costs.sort()
                job.costs.pop()
        return job

    def note_uses(self, sheet: Sheet, own: Kept) -> None:
        """The tools that a job's own conversation asked for, in order."""
        for use in sheet.uses:
            if (held := own.get(use.call)) is not None and not held[0].is_sub:
                told = self._told.setdefault((use.name, use.command), (use.name, use.command))
                self._of(sheet, held[0]).uses.append(told)

    def _of(self, sheet: Sheet, call: Call) -> Job:
        if not call.is_sub and call.prompt >= 0:
            return self.by_key[sheet.prompts[call.prompt].key]
        session = self._above.get(sheet.session, sheet.session)
        asked = self._asked.get(session, [])
        before = bisect_right(asked, (call.at, "\U0010ffff"))
        if call.is_sub and asked:
            return self.by_key[asked[max(before - 1, 0)][1]]
        key = f"{session}:"
        if key not in self.by_key:
            self.by_key[key] = Job(key, session, sheet.client, sheet.project, call.at, "")
        job = self.by_key[key]
        job.at = min(job.at, call.at)
        return job


def _tools(chosen: Sequence[tuple[Sheet, Kept]], pricer: Pricer) -> dict[str, ToolSum]:
    """What each tool's results cost: written once into the context, then read again by every later call in it."""
    found: dict[str, ToolSum] = defaultdict(ToolSum)
    seen: set[str] = set()
    names: dict[str, str] = {}
    for sheet, own in chosen:
        contexts: dict[bool, _Context] = {False: _Context(), True: _Context()}
        for event in map(unpacked, sheet.events):
            context = contexts[event.is_sub]
            if event.kind == CALL:
                call = sheet.calls[event.at]
                if not call.is_part:  # Another model's reading is not the conversation's.
                    context.read(call, own.get(event.at), found, pricer)
            elif event.kind == RESULT:
                use = sheet.uses[event.at] if event.at >= 0 else None
                names.setdefault(name := use.name if use else "unknown", name if len(names) < MAX_TOOLS else OTHERS)
                context.add(names[name], event.tokens, is_new=use is None or use.id not in seen)
                seen.add(use.id if use else "")
            else:
                context.cut()
    return dict(found)


class _Context:
    """What tools have put before the next call of one conversation, by tool."""

    def __init__(self) -> None:
        self._old: dict[str, int] = defaultdict(int)
        self._new: list[tuple[str, int, bool]] = []

    def add(self, tool: str, tokens: int, *, is_new: bool) -> None:
        self._new.append((tool, tokens, is_new))

    def cut(self) -> None:
        self._old.clear()
        self._new.clear()

    def read(self, call: Call, own: tuple[Call, int | None] | None, found: dict[str, ToolSum], pricer: Pricer) -> None:
        """One call reads all of it, the new part for the first time. Copies and older calls cost nothing here."""
        size = call.tokens[0] + call.tokens[1] + call.tokens[2] + call.tokens[3]
        if sum(self._old.values()) > size:
            self._old.clear()  # More than the call read: the client had cut it without a word.
        if own is not None:
            self._pay(own[0], found, pricer)
        for tool, tokens, _ in self._new:
            self._old[tool] += tokens
        self._new.clear()

    def _pay(self, call: Call, found: dict[str, ToolSum], pricer: Pricer) -> None:
        for tool, tokens, is_new in self._new:
            if is_new:
                found[tool].results += 1
                found[tool].tokens += tokens
                _charge(found[tool], pricer.write_cost(call, tokens))
        for tool, tokens in self._old.items():
            if tokens:
                found[tool].read_again += tokens
                _charge(found[tool], pricer.cost(call.model, Tokens(cache_read=tokens)))


def _charge(tool: ToolSum, cost: int | None) -> None:
    if cost is None:
        tool.unpriced += 1
    else:
        tool.cost += cost


def delegated(chosen: Sequence[tuple[Sheet, Kept]]) -> dict[str, Sum]:
    """What the caller's own calls cost that handed each of our tasks over: from the first that asked for it to the
    one that read the last reply."""
    found: dict[str, Sum] = {}
    for sheet, own in chosen:
        spans: dict[str, list[int]] = defaultdict(list)
        for ours in sheet.ours:
            spans[ours.task_id].append(sheet.uses[ours.use].call)
        for task_id, calls in spans.items():
            total = found.setdefault(task_id, Sum())
            side = sheet.calls[calls[0]].is_sub if calls[0] < len(sheet.calls) else sheet.is_sub
            for position in range(min(calls), _after_reading(sheet.calls, max(calls))):
                held = own.get(position)
                if held is not None and held[0].is_sub == side:
                    total.add(held[0].tokens, held[1])
    return found


def _after_reading(calls: Sequence[Call], last: int) -> int:
    """The position behind the answer that read what the one at `last` asked for, and behind its parts."""
    reads = 0
    for position in range(last + 1, len(calls)):
        reads += not calls[position].is_part
        if reads > 1:
            return position
    return len(calls)
