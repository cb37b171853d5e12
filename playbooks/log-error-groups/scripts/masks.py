"""What varies from one error to the next replaced by placeholders, and secrets by `<hidden>`."""

import re

MAX_TEXT = 2000

HIDDEN = "<hidden>"
_VALUE = r"""(?:"[^"\n]{1,300}"?|'[^'\n]{1,300}'?|[^\s"',;&]+)"""
_ASSIGNED = re.compile(
    r"(?i)(passw(?:or)?d|passphrase|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|authorization|cookie|session[_-]?id)"
    r"""([\w-]{0,20}(?:["']?\s{0,4}=\s{0,4}|["']\s{0,4}:\s{0,4}|\s{0,4}:\s{0,4}(?=\S{0,60}[0-9!@#$%^*+/"']))"""
    r"(?:(?:bearer|basic)\s{1,4})?)" + _VALUE
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s{1,4}(?=[A-Za-z._~+/=-]{0,200}[0-9])[A-Za-z0-9._~+/=-]{8,}")
_LOGIN = re.compile(r"://[^\s/:@]{0,100}:[^\s/@]{1,200}@")
_KNOWN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w.-]{8,}|SG\.[\w-]{16,}\.[\w-]{16,}|\d{8,10}:AA[\w-]{30,}"
    r"|(?:gh[opsur]|github_pat|glpat|xox[abeprs]|[srp]k|hf|npm|pypi|whsec)[_-][A-Za-z0-9_-]{16,})"
)
_RANDOM = re.compile(r"[A-Za-z0-9_+/=-]{20,}")

_QUOTED = r"""(?<!\w)"[^"\n]{0,300}"|(?<!\w)'[^'\n]{0,300}'(?!\w)|`[^`\n]{0,300}`"""
_STEP = r"[\w.@%+~$=-]+"
_MASK = re.compile(
    rf"""
    (?P<hidden><hidden>)
  | (?P<time>\d{{4}}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d{{1,9}})?(?:Z|[+-]\d\d:?\d\d)?)
  | (?P<uuid>(?<![0-9A-Za-z])[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}(?![0-9A-Za-z]))
  | (?P<url>\b[A-Za-z][A-Za-z0-9+.-]{{1,15}}://(?:<hidden>|[^\s"'<>])+)
  | (?P<email>(?<![\w.+-])[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{1,8}})
  | (?P<text>{_QUOTED})
  | (?P<ip>(?<![\w.])\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?::\d{{1,5}})?(?![\w.]))
  | (?P<path>(?<![\w>/.])(?:[A-Za-z]:|\.{{1,2}}|~)?[\\/]{_STEP}(?:[\\/]{_STEP})*[\\/]?|(?<![\w>/.])\w[\w.-]*(?:/[\w.-]+){{2,}})
  | (?P<hex>0x[0-9a-fA-F]+|(?<![\w-])(?=[a-fA-F]{{0,40}}[0-9])[0-9a-fA-F]{{8,}}(?![\w-]))
  | (?P<id>(?<![A-Za-z0-9])[A-Za-z0-9]{{4,}}(?![A-Za-z0-9]))
  | (?P<n>(?:(?<![\w-])[+-])?\d+(?:[.,:]\d+)*)
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_LIST = re.compile(r"(<\w+>)(?:, ?\1)+")
_CONTROL = re.compile(r"\x1b\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SWITCH = re.compile(r"(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]")


def plain(text):
    """The text without colours and control characters."""
    return text if text.isprintable() else _CONTROL.sub("", text)


def hide(text):
    """The text with what looks like a password or a key replaced."""
    text = _LOGIN.sub(f"://{HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _KNOWN.sub(HIDDEN, text)
    return _RANDOM.sub(lambda found: HIDDEN if _is_random(found[0]) else found[0], text)


def shape(text):
    """The text with every value replaced by what kind of value it is. Give it hidden text."""
    return _LIST.sub(r"\1, …", _MASK.sub(_placeholder, " ".join(text[:MAX_TEXT].split())))


def _placeholder(found):
    kind = found.lastgroup
    if kind == "id" and len(_SWITCH.findall(found[0])) < 3:
        return _NUMBER.sub("<n>", found[0])  # A word, perhaps with a number at its end.
    return f"<{kind}>"


def _is_random(word):
    upper, lower = sum(map(str.isupper, word)), sum(map(str.islower, word))
    return min(upper, lower, sum(map(str.isdigit, word))) >= 3 and word.count("/") <= 3
