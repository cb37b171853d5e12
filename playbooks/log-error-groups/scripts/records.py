"""The lines of a log as events: a record of level warning or above, with the stack trace that follows it."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from masks import plain

RANKS = {"info": 0, "warning": 1, "error": 2, "critical": 3}
FRAMES = 3
MAX_HEAD = 4000

_LOW = ("trace", "verbose", "debug", "dbg", "info", "inf", "information", "notice", "log", "deprecated")
_WORDS = {word: "info" for word in _LOW} | {
    "warn": "warning", "wrn": "warning", "warning": "warning",
    "error": "error", "err": "error", "severe": "error", "failure": "error", "parse": "error",
    "critical": "critical", "crit": "critical", "fatal": "critical", "ftl": "critical", "alert": "critical",
    "emerg": "critical", "emergency": "critical", "panic": "critical",
}  # fmt: skip
_GLOG = {"I": "info", "W": "warning", "E": "error", "F": "critical"}

_ANY = r"trace|verbose|debug|dbg|info|notice|warn|warning|wrn|error|err|severe|critical|crit|fatal|alert|emerg|panic"
_LEVEL = re.compile(
    r"(?<![\w./-])(?:"
    r"(?P<upper>TRACE|VERBOSE|DEBUG|DBG|INFO|INF|NOTICE|WARN|WARNING|WRN|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|FTL)(?![\w./-])"
    rf"|[\[(<|]\s?(?:\w{{1,30}}:)?(?P<boxed>(?i:{_ANY}))\s?[\])>|]"
    rf"|(?i:level|severity|lvl|loglevel)[\"']?\s?[=:]\s?[\"']?(?P<named>(?i:{_ANY}|information))\b"
    r"|PHP (?P<php>Fatal|Parse|Warning|Notice|Deprecated)\b"
    r")"
    rf"|^(?P<first>(?i:{_ANY}))(?:\[[^\]\s]{{1,40}}\])?\s?[:!]"
    r"|^(?P<glog>[IWEF])\d{4} \d\d:\d\d:\d\d"
    r"|^thread '[^']{0,100}' (?:\(\d{1,12}\) )?(?P<rust>panic)ked at"
)
_TIME = (
    r"(?:\d{4}[-/]\d\d[-/]\d\d[T _]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
    r"|\d\d[-/](?:[A-Z][a-z]{2}|\d\d)[-/]\d{4}[ :T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: (?:[+-]\d{4}|[A-Z]{3,4}))?"
    r"|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?(?: \d{4})?"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)"
)
_COMPOSE = re.compile(r"([\w.-]{1,60}[-_]\d{1,4}) {1,40}\| ?")
_HEAD = re.compile(
    rf"[\[(]?({_TIME})[\])]?"
    r"(?: (?:stdout|stderr) [FP](?= )| [\w.-]{1,64} (?P<source>[\w./@-]{1,64})(?:\[\d{1,10}\]:| \d{1,10} - -| -))?(?: |(?=\t)|$|(?=\S))"
)
_ANYWHERE = re.compile(_TIME)

_NAME = r"(?:[A-Za-z_$][\w$]{0,100}\.){0,12}"
_FAULT = re.compile(
    r"(?:Exception in thread \"[^\"]{0,200}\" |Uncaught |Unhandled (?:exception|rejection)[.:]? |\[cause\]: )?"
    rf"({_NAME}(?:[A-Z][\w$]{{0,100}})?(?:Error|Exception|Throwable|Failure|KeyboardInterrupt|SystemExit))(?: \[[A-Z_]{{1,60}}\])?(?::|$)"
)
_CAUSE = re.compile(rf"Caused by: ({_NAME}[A-Z][\w$]{{0,100}})")
_ENDING = re.compile(rf"({_NAME}[A-Za-z_][\w$]{{0,100}})(?:: |:?$)")
_PYTHON = re.compile(r"[ |+]{0,40}File \"([^\"]{1,300})\", line (\d{1,9})(?:, in (.{1,100}))?")
_AT = re.compile(r"\s{0,40}at (.{1,300})$")
_GO = re.compile(r"\t([^\s:]{1,300}\.go):(\d{1,9})")
_TRACEBACK = re.compile(r"[ |+]{0,40}(?:Exception Group )?Traceback \(most recent call last\)")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
# A line with none of these cannot start an event. Plain searches: far quicker than one pattern for all.
_HINTS = (
    "err", "crit", "fatal", "severe", "alert", "emerg", "panic", "exception", "traceback", "warn", "wrn", "ftl", "failure",
    "throwable", "interrupt", "systemexit", "level", "severity", "lvl", "php", "stack", '"log"', "@l",
)  # fmt: skip


@dataclass
class Event:
    """One error: its first line, and what the trace behind it says."""

    line: int
    level: str
    head: str
    time: str = ""
    source: str = ""
    fault: str = ""
    said: str = ""
    frames: list[tuple[str, str]] = field(default_factory=list)
    bare: bool = False
    python: bool = False
    chained: bool = False

    def innermost(self):
        """The innermost calls, innermost first, as (what is compared, what is shown)."""
        return tuple(reversed(self.frames[-FRAMES:])) if self.python else tuple(self.frames[:FRAMES])


class Reader:
    """Feed it lines; it answers each event once the line after it is known."""

    def __init__(self):
        self.event = None
        self.has_levels = False

    def feed(self, number, line):
        """The event that this line ended, or None."""
        if self.event is None and self.has_levels and not _may_start(line):
            return None
        line = plain(line)
        source = ""
        if compose := _COMPOSE.match(line):
            source, line = compose[1], line[compose.end() :]
        time, named, body = _split(line)
        if body.startswith("{") and (record := _json(body)) is not None:
            return self._object(number, record, time)
        return self._text(number, body, time, source or named)

    def close(self):
        event, self.event = self.event, None
        return event

    def _text(self, number, body, time, source=""):
        if self._goes_on(body, source):
            _extend(self.event, body)
            return None
        fault = _FAULT.match(body)
        if fault or _TRACEBACK.match(body) or body.startswith("panic: "):
            self.has_levels = True
            kind = "critical" if body.startswith("panic: ") else "error"
            return self._open(Event(number, kind, body[:MAX_HEAD], time, source, bare=True), body)
        level = level_of(body)
        if level:
            self.has_levels = True
            head = f"{source}: {body}" if source else body
            return self._open(Event(number, level, head[:MAX_HEAD], time or _time_in(body), source))
        if time:
            return self.close()
        if self.event is not None:
            _extend(self.event, body)
        return None

    def _goes_on(self, body, source):
        """Whether the line plainly belongs to the trace of the open event, whatever stands before it."""
        event = self.event
        if event is None or event.source != source:
            return False
        if _TRACEBACK.match(body):
            return event.chained or not (event.fault or event.frames)
        if _PYTHON.match(body) or _AT.match(body) or _CAUSE.match(body) or _GO.match(body):
            return True
        if event.python and not event.fault:
            return not level_of(body) or _FAULT.match(body) is not None
        if event.frames and (not body.strip() or body[0].isspace() or body.startswith(_CHAINED)):
            return not level_of(body)
        return not event.fault and not event.frames and _FAULT.match(body) is not None

    def _open(self, event, body=None):
        ended = self.close()
        if event.level != "info":
            self.event = event
            if body is not None:
                _extend(event, body)
        return ended

    def _object(self, number, record, time):
        time = _time_of(_first(record, "time", "timestamp", "ts", "@timestamp", "@t", "date", "asctime") or time)
        if isinstance(record.get("log"), str) and "stream" in record:
            source_time, source, body = _split(record["log"].rstrip("\n"))
            return self._text(number, body, source_time or time, source)
        said = _first(record, "msg", "message", "event", "@m", "@mt", "textPayload", "error.message", "err.message", "error")
        said = "" if said is None else str(said)
        level = _level_in(record) or level_of(said)
        stack = _first(record, "stack", "stack_trace", "exc_info", "exception", "@x", "error.stack", "err.stack", "error.stack_trace")
        stack = stack if isinstance(stack, str) else ""
        if not level and not stack:
            return self.close()
        self.has_levels = True
        head = plain(said.split("\n")[0])[:MAX_HEAD]
        ended = self._open(Event(number, level or "error", head, time))
        event = self.event
        if event is not None:
            for line in stack.split("\n")[:2000]:
                _extend(event, plain(line))
        return ended


def _may_start(line):
    low = line.lower()
    return any(hint in low for hint in _HINTS) or line[:1] in ("E", "F", "W")


def level_of(body):
    """info, warning, error or critical by the first level word of a line; None where there is none."""
    found = _LEVEL.search(body[:200])
    if not found:
        return None
    word = found[found.lastgroup]
    return _GLOG[word] if found.lastgroup == "glog" else _WORDS["fatal" if word == "Fatal" else word.lower()]


def _split(line):
    """(time, program, rest) of a line; whitespace that begins the rest is kept, a trace is known by it."""
    found = _HEAD.match(line)
    return (found[1], found["source"] or "", line[found.end() :]) if found else ("", "", line)


def _time_in(body):
    found = _ANYWHERE.search(body[:120])
    return found[0] if found else ""


def _time_of(value):
    """A time as text; a count of seconds or milliseconds since 1970 as ISO in UTC."""
    if type(value) not in (int, float):
        return plain(str(value)[:40])
    seconds = value / 1000 if value > 1e11 else value
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(value)[:40]


def _extend(event, body):
    """Take what one more line says of the event's trace."""
    if any(text in body for text in _CHAINED):
        event.chained = True
    elif _TRACEBACK.match(body):
        event.python, event.frames, event.fault, event.chained = True, [], "", False
    elif found := _PYTHON.match(body):
        event.python = True
        event.frames = [*event.frames[1 - FRAMES :], _frame(found[1], found[2], found[3] or "")]
    elif found := _CAUSE.match(body):
        event.fault, event.said, event.frames = found[1], body[:MAX_HEAD], []
    elif found := _AT.match(body):
        if len(event.frames) < FRAMES:
            event.frames.append(_call(found[1]))
    elif found := _GO.match(body):
        if len(event.frames) < FRAMES:
            event.frames.append(_frame(found[1], found[2], ""))
    elif not event.fault and (found := (_ENDING if event.python and event.frames else _FAULT).match(body)):
        event.fault, event.said = found[1], body[:MAX_HEAD]


def _frame(path, line, name):
    short = "/".join(path.replace("\\", "/").split("/")[-2:])
    return f"{short} {name}", f"{short}:{line}" + (f" in {name}" if name else "")


def _call(text):
    """`pkg.Shop.save(Shop.java:12)`, `save (/app/shop.js:3:9)`, `Shop.Save() in C:\\Shop.cs:line 12`"""
    short = re.sub(r"[^\s(]{0,200}[\\/](?=[^\\/]{1,100}$)", "", text.strip())
    return re.sub(r"0x[0-9a-f]+|\d+", "", short), short[:160]


def _json(body):
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _first(record, *keys):
    """The first of the keys that has a value; `a.b` is also looked for as b inside a."""
    for key in keys:
        outer, _, inner = key.partition(".")
        value = record.get(key)
        if value is None and inner and isinstance(record.get(outer), dict):
            value = record[outer].get(inner)
        if value not in (None, ""):
            return value
    return None


def _level_in(record):
    value = _first(record, "level", "severity", "lvl", "levelname", "log.level", "loglevel", "log_level", "@l", "level_name")
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    if type(value) is not int:
        return None
    if value < 8:  # syslog counts down
        return "critical" if value < 3 else "error" if value == 3 else "warning" if value == 4 else "info"
    return "critical" if value >= 60 else "error" if value >= 50 else "warning" if value >= 40 else "info"
