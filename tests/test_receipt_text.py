"""A receipt on a terminal: every figure with its unit, and unknown is never a number."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_tierkit.cli.receipt_text import receipt_lines

MEASURED = {"usd": "0.0031", "tokens": [12_000, 340], "caller_tokens": [190, 57]}
CALLER = {
    "source": "measured from the transcript, at API prices", "calls": 1, "usd": "0.02",
    "input": 10, "cache_read": 50_000, "cache_write": 300, "output": 400,
}  # fmt: skip


def receipt(measured: dict[str, Any], estimated: dict[str, Any] | None, net: Any, **more: Any) -> list[str]:
    return receipt_lines({"measured": measured, "estimated": estimated, "net": net, **more})


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (
            receipt(MEASURED, {"alone_usd": ["0.0102", "0.0400"], "schema_usd": "0.0005"}, ["-0.0010", "0.0290"]),
            [
                "measured: model calls $0.0031, 12,000 tokens in, 340 out",
                "measured: the caller read 190 and wrote 57 tokens",
                "estimated: doing it alone $0.0102 to $0.0400, our schemas $0.0005",
                "net: -$0.0010 to $0.0290",
            ],
        ),
        (
            receipt(
                {**MEASURED, "usd": None, "tokens": None, "unpriced_calls": 1, "billing": "api, subscription"}, None,
                None, key_spent="PLAN_KEY",
            ),
            [
                "measured: model calls of unknown cost, tokens not named; 1 call without a known cost; "
                "paid for: api, subscription",
                "measured: the caller read 190 and wrote 57 tokens",
                "net: unknown, like the cost of a call",
                "paid with PLAN_KEY; set a budget under [budget] in tierkit.toml",
            ],
        ),
        (
            receipt(
                {**MEASURED, "usd": None, "tokens": [9_000, 120], "unpriced_calls": 1, "billing": "subscription"}, None,
                None,
            ),
            [
                "measured: model calls within a quota, 9,000 tokens in, 120 out; paid for: subscription",
                "measured: the caller read 190 and wrote 57 tokens",
                "net: none in dollars, since a quota is counted in tokens",
            ],
        ),
        (
            receipt({**MEASURED, "quota_calls": 2, "billing": "api, subscription"}, None, None),
            [
                "measured: model calls $0.0031 and 2 calls within a quota, 12,000 tokens in, 340 out; "
                "paid for: api, subscription",
                "measured: the caller read 190 and wrote 57 tokens",
                "net: none in dollars, since a quota is counted in tokens",
            ],
        ),
        (
            receipt(MEASURED, {"alone_tokens": [900, 1_200]}, [-347, -47]),
            [
                "measured: model calls $0.0031, 12,000 tokens in, 340 out",
                "measured: the caller read 190 and wrote 57 tokens",
                "estimated: doing it alone 900 to 1,200 tokens of the caller's",
                "net: -347 to -47 tokens of the caller's",
            ],
        ),
        (
            receipt(
                {"usd": "0.0031", "tokens": [1, 1], "caller": CALLER}, {"alone_usd": ["0.0102", "0.0400"]},
                ["-0.0129", "0.0169"],
            ),
            [
                "measured: model calls $0.0031, 1 token in, 1 out",
                "measured from the transcript, at API prices: the caller's 1 call $0.0200, 10 in, 50,000 from a cache, "
                "300 into it, 400 tokens out",
                "estimated: doing it alone $0.0102 to $0.0400",
                "net: -$0.0129 to $0.0169 (the caller's calls re-read the conversation; the work alone is estimated "
                "without that)",
            ],
        ),
        (
            receipt({**MEASURED, "usd": "0.000000001", "caller_tokens": [1, 1]}, None, ["-0.0000004", "12.3456"]),
            [
                "measured: model calls $0.000000001, 12,000 tokens in, 340 out",
                "measured: the caller read 1 and wrote 1 token",
                "net: -$0.000000400 to $12.35",
            ],
        ),
    ],
    ids=[
        "paid by the token", "unknown", "a quota", "dollars and a quota", "the caller's subscription",
        "measured caller", "hardly anything",
    ],
)  # fmt: skip
def test_each_figure_has_its_unit_and_what_is_unknown_is_called_so(lines: list[str], wanted: list[str]) -> None:
    assert lines == wanted


def test_prices_that_warn_are_a_line_each_after_the_net() -> None:
    told = receipt(MEASURED, None, None, prices="cheap deprecated, mid stale")
    assert told[-2:] == [
        "prices: the cheap tier's model is withdrawn by its provider, or soon will be: tierkit doctor",
        "prices: that of the mid tier was read long ago and may have changed: tierkit prices",
    ]
    assert len(told) == len(receipt(MEASURED, None, None)) + 2
