"""URLs in the one form that all their spellings share: inputs as JSON on stdin, JSON to PLAYBOOK_RESULT."""

import html
import ipaddress
import json
import os
import re
import stat
import sys
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
MAX_URL = 4000
MAX_FORMS = 5
MAX_PORT = 65535
PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
IN_PATH = UNRESERVED | frozenset("!$&'()*+,;=:@/")
IN_QUERY = IN_PATH | frozenset("?")
IN_USER = UNRESERVED | frozenset("!$&'()*+,;=:")
PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?")
HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
TRIPLET_OR_MARK = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)
# These four have one address under the rules of 2003, which Python has, and another under those of 2008.
DISPUTED = frozenset("\u00df\u03c2\u200c\u200d")
IN_TEXT = re.compile(r"(?<![A-Za-z0-9+.-])(?:https?|wss?|ftp)://[^\s<>\"'`\\^{|}\x00-\x20]{1,4001}", re.IGNORECASE)
CLOSERS = {")": "(", "]": "["}


class NotForMe(Exception):
    """This is a task for somebody else."""


class BadUrl(ValueError):
    """No address of a kind that is known here."""


def canonical(url, *, tracking=(), sort_query=False, drop_fragment=False):
    """The canonical form; raises BadUrl. It leads to the same place, and is its own canonical form."""
    found = PARTS.fullmatch(url)
    if not found or len(url) > MAX_URL or re.search(r"[\s\\\x00-\x20\x7f\ud800-\udfff]", url):
        raise BadUrl("is no absolute URL")
    scheme, place, path, query, fragment = found.groups()
    scheme = scheme.lower()
    if scheme not in PORTS:
        raise BadUrl("has a scheme that is not known here")
    text = f"{scheme}://{authority(place, PORTS[scheme])}{without_dots(escaped(path, IN_PATH)) or '/'}"
    query = None if query is None else cleaned(escaped(query, IN_QUERY), tracking, sort_query)
    text += "" if query is None else "?" + query
    return text if fragment is None or drop_fragment else f"{text}#{escaped(fragment, IN_QUERY)}"


def authority(text, default_port):
    user, at, rest = text.rpartition("@")
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?", rest)
    if not found or not found[1] or int("0" + (found[2] or "").lstrip("0")[:6]) > MAX_PORT:
        raise BadUrl("has a host or port that cannot be")
    port = int(found[2]) if found[2] else default_port
    kept = "" if port == default_port else f":{port}"
    return (escaped(user, IN_USER) + at if user else "") + host(found[1]) + kept


def host(text):
    if text.startswith("["):
        return f"[{address(text[1:-1])}]"
    text = decoded(text)
    if DISPUTED & set(text):
        raise BadUrl("has a host whose letters stand for two addresses")
    try:
        text = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        raise BadUrl("has a host that is no domain name") from None
    text = text.lower()
    if not HOST.fullmatch(text) or len(text) > 253:
        raise BadUrl("has a host that is no domain name")
    return text


def address(text):
    try:
        found = ipaddress.IPv6Address(text)
    except ValueError:
        raise BadUrl("has no IPv6 address between its brackets") from None
    if found.scope_id is not None:
        raise BadUrl("has an address that holds on one machine only")
    return found.compressed


def decoded(text):
    try:
        raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
        return raw.decode()
    except UnicodeError:
        raise BadUrl("has a host that is no domain name") from None


def escaped(text, allowed):
    """Percent signs only where they are needed, in capitals, and never where they stand for an unreserved character."""
    return "".join(one_escaped(found[0], allowed) for found in TRIPLET_OR_MARK.finditer(text))


def one_escaped(text, allowed):
    if len(text) == 3:
        plain = chr(int(text[1:], 16))
        return plain if plain in UNRESERVED else text.upper()
    return text if text in allowed else "".join(f"%{byte:02X}" for byte in text.encode())


def without_dots(path):
    """The path without `.` and `..`, none of which climbs above the root."""
    kept, steps = [], path.split("/")[1:]
    for step in steps:
        if step == "..":
            kept = kept[:-1]
        elif step != ".":
            kept.append(step)
    if steps and steps[-1] in (".", ".."):
        kept.append("")
    return "".join("/" + step for step in kept)


def cleaned(query, tracking, sort_query):
    """The query without tracking parameters; None where nothing else was in it."""
    kept = [part for part in query.split("&") if not is_tracking(part.partition("=")[0], tracking)]
    if query and not kept:
        return None
    return "&".join(sorted(kept, key=lambda part: part.partition("=")[0]) if sort_query else kept)


def is_tracking(name, tracking):
    name = name.lower()
    return any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in tracking)


def urls_in(text):
    """The URLs of a text in their order, without the marks that end a sentence or close a bracket around them."""
    for found in IN_TEXT.finditer(text):
        url = found[0]
        while url[-1] in ".,;:!?*" or (url[-1] in CLOSERS and url.count(url[-1]) > url.count(CLOSERS[url[-1]])):
            url = url[:-1]
        yield url


def read_text(path):
    root = os.path.realpath(".")
    if "\0" in path or os.path.isabs(path) or os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise NotForMe(f"{path[:80]!a} leads out of the project")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotForMe(f"{path[:80]!a} is no file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotForMe(f"{path[:80]!a} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise NotForMe(f"{path[:80]!a} is larger than {MAX_BYTES >> 20} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotForMe(f"{path[:80]!a} is not UTF-8 (byte {error.start})") from None
    is_markup = path.casefold().endswith((".html", ".htm", ".xml", ".svg", ".rss", ".atom", ".xhtml"))
    return html.unescape(text) if is_markup else text


def tracking_names():
    assets = Path(__file__).resolve().parent.parent / "assets"
    lines = (assets / "tracking.txt").read_text(encoding="utf-8").split("\n")
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def grouped(urls, rules):
    """(the spellings under each canonical form in the order they came, what is wrong with each bad one)"""
    forms, bad = {}, {}
    for url in urls:
        try:
            forms.setdefault(canonical(url, **rules), []).append(url)
        except BadUrl as error:
            bad[url] = str(error)
    return forms, bad


def report(inputs):
    given = inputs.get("urls", "").split()
    urls = given or list(urls_in(read_text(inputs.get("file", "README.md"))))
    if not urls:
        raise NotForMe("there are no URLs")
    rules = {name: inputs.get(name, False) for name in ("sort_query", "drop_fragment")}
    forms, bad = grouped(urls, rules | {"tracking": tracking_names() if inputs.get("drop_tracking", True) else ()})
    limit = inputs.get("limit", 20)
    again = sorted((form for form in forms if len(forms[form]) > 1), key=lambda form: (-len(forms[form]), form))
    return {
        "found": len(urls),
        "distinct": len(forms),
        "rewritten": sum(url != form for form, spellings in forms.items() for url in spellings),
        "canonical": list(forms)[:limit],
        "duplicates": [duplicate(form, forms[form]) for form in again[:limit]],
        "invalid": [f"{url[:200]} {why}" for url, why in list(bad.items())[:limit]],
        "more": sum(max(0, len(found) - limit) for found in (forms, again, bad)),
    }


def duplicate(form, spellings):
    return {"canonical": form, "count": len(spellings), "spellings": list(dict.fromkeys(spellings))[:MAX_FORMS]}


def main():
    try:
        output = report(json.load(sys.stdin))
    except NotForMe as why:
        print(why, file=sys.stderr)
        sys.exit(10)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(output, out)


if __name__ == "__main__":
    main()
