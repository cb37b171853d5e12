"""Pieces of a page: elements whose texts are always escaped, and figures as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape

from mcp_tierkit.amounts import plain

LONG = 160
VOID = {"rect", "line", "input", "meta", "link"}


class Html(str):
    """Markup, as against a text that is still to be escaped."""

    __slots__ = ()


Child = str | Html | None | Iterable["Child"]


def el(_name: str, *children: Child, **attributes: object) -> Html:
    """An element. Attributes: `klass` is `class`, `_` is `-`, True stands alone, None and False are left out."""
    given = "".join(_attribute(name, value) for name, value in attributes.items())
    if _name in VOID:
        return Html(f"<{_name}{given}>" if _name in ("input", "meta", "link") else f"<{_name}{given}/>")
    return Html(f"<{_name}{given}>{join(children)}</{_name}>")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    label = {"klass": "class"}.get(name, name.rstrip("_").replace("_", "-"))
    return f" {label}" if value is True else f' {label}="{escape(plain(str(value), instead=" "))}"'


def join(children: Iterable[Child]) -> Html:
    """Children one after the other, texts escaped."""
    made = []
    for child in children:
        if isinstance(child, Html):
            made.append(str(child))
        elif isinstance(child, str):
            made.append(escape(plain(child, instead=" ")))
        elif child is not None:
            made.append(str(join(child)))
    return Html("".join(made))


def foreign(text: str) -> Html:
    """A text from elsewhere in one line, cut where it is long, whose direction of writing stays its own."""
    line = " ".join(text.split())
    return el("bdi", line if len(line) <= LONG else line[: LONG - 1] + "…")


def dollars_alike(amounts: Sequence[int]) -> list[str]:
    """Amounts with as many places each as the finest of them needs, as the marks of an axis."""
    exact = [Decimal(amount).scaleb(-9).normalize() for amount in amounts]
    finest = max(-int(one.as_tuple().exponent) for one in exact)
    places = 0 if finest <= 0 else max(finest, 2)
    return ["$0" if one == 0 else f"${one:,.{places}f}" for one in exact]
