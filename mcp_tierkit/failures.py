"""Which kind of failure a call met, and what to tell of it. Repeats none of the provider's words: they may quote us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.types import Record

Kind = Literal[
    "auth", "rate_limit", "timeout", "overloaded", "server", "bad_request", "context_window", "connection",
    "content_filter", "bad_reply",
]  # fmt: skip
Break = Literal["timeout", "unreachable", "cut", "unreadable"]


class Trouble(Record):
    """What was seen on the wire when a call did not end well."""

    was_sent: bool = False
    status: int | None = None
    broke: Break | None = None
    body: dict[str, Any] | None = None
    retry_after_s: int | None = None


_BY_STATUS: Mapping[int, Kind] = {
    401: "auth", 402: "auth", 403: "auth", 408: "timeout", 413: "context_window", 429: "rate_limit",
    503: "overloaded", 504: "timeout", 529: "overloaded",
}  # fmt: skip

_TOO_LONG = (
    "context_length", "context length", "context window", "context_window", "context size", "exceed_context",
    "maximum context", "prompt is too long", "input is too long", "too many tokens", "input token count",
)  # fmt: skip
_FILTERED = ("content_filter", "content_policy", "content management policy", "responsibleai", "moderation")

_SAID: Mapping[Kind, str] = {
    "auth": "refused the key or the account",
    "rate_limit": "refused the call because of a rate limit or a used-up quota",
    "timeout": "did not answer in time",
    "overloaded": "is overloaded",
    "server": "failed on its side",
    "bad_request": "refused the request as wrong",
    "context_window": "refused the request because it is longer than the model reads",
    "connection": "could not be reached",
    "content_filter": "refused the content by its own policy",
    "bad_reply": "broke off, or answered with something that is not a completion",
}
# Only a plan takes a tier; a review's is the user's to set.
_ELSEWHERE = "plan with another `tier` ([stages] names a review's)"
_NEXT: Mapping[Kind, str] = {
    "auth": "Check the key, and the account's credit.",
    "rate_limit": f"Wait a minute and call again, or {_ELSEWHERE}.",
    "timeout": f"Call again, raise `timeout_s` of the tier, or {_ELSEWHERE}.",
    "overloaded": f"Wait a minute and call again, or {_ELSEWHERE}.",
    "server": f"Call again later, or {_ELSEWHERE}.",
    "bad_request": "Check the model's name and the base_url of the tier.",
    "context_window": f"Name fewer files, or {_ELSEWHERE}, one with a larger context.",
    "connection": "Check base_url and the network; a local engine must be running.",
    "content_filter": f"Do this step yourself, or {_ELSEWHERE}, one of another provider.",
    "bad_reply": "Check that base_url points at an API the model's prefix names, then call again.",
}


def failure(model: str, trouble: Trouble, *, key: str | None = None) -> ModelFailed:
    """The error to raise: kind and status from the wire, text of our own. `key` names the variable whose key was sent.

    Without one none was sent, which a server that refuses it may have wanted.
    """
    kind = _kind(trouble)
    status = _status(trouble)
    code = f" (HTTP {status})" if status is not None else ""
    wait = trouble.retry_after_s
    next_step = f"Wait {wait} s and call again, or {_ELSEWHERE}." if wait else _NEXT[kind]
    said = _SAID[kind]
    if kind == "auth":
        said = said if key else "refused the call, and no key is sent to it"
        next_step = _check_key(key)
    return ModelFailed(
        f"The provider of {model!r} {said}{code}. {_cost(trouble, kind)}",
        next_step=next_step, status=status, kind=kind, was_sent=trouble.was_sent,
    )  # fmt: skip


def _check_key(key: str | None) -> str:
    if key:
        return f"Check the key in {key}, and the account's credit."
    return "Set a variable in the environment or in keys.env, and name it as `api_key_env` of the tier in tierkit.toml."


def _kind(trouble: Trouble) -> Kind:
    if trouble.broke == "unreachable":
        return "connection"
    if trouble.broke in ("cut", "unreadable"):
        return "bad_reply"  # Not `connection`: the model may have run.
    if trouble.broke == "timeout":
        return "timeout"
    status = _status(trouble)
    if status is None:
        return "bad_reply" if trouble.was_sent else "bad_request"
    if status < 300:
        return "bad_reply"
    if status in (400, 413, 422, 500) and (told := _told(trouble.body)) is not None:
        return told
    return _BY_STATUS.get(status) or ("server" if status >= 500 else "bad_request")


def _told(body: Mapping[str, Any] | None) -> Kind | None:
    """What the error object names, by words that providers use for these two and nothing else."""
    words = repr((body or {}).get("error", body)).lower()
    if any(word in words for word in _TOO_LONG):
        return "context_window"
    return "content_filter" if any(word in words for word in _FILTERED) else None


def _status(trouble: Trouble) -> int | None:
    """HTTP's status, or the one inside a reply that carries an error under status 200, as gateways do."""
    error = (trouble.body or {}).get("error")
    inner = error.get("code") if isinstance(error, Mapping) else None
    if trouble.status == 200 and isinstance(inner, int) and 400 <= inner < 600:
        return inner
    return trouble.status


def _cost(trouble: Trouble, kind: Kind) -> str:
    if not trouble.was_sent or trouble.broke == "unreachable":
        return "No model was called."
    if kind in ("timeout", "bad_reply"):
        return "It may still have been charged, and no usage was reported."
    return "One request was sent and no usage was reported."
