"""Taking out of texts what must not be kept or shown: keys, and the part of a link that opens it."""

import re

_SHOWN = 400
_KEY = re.compile(r"\bsk_[a-z]+_[A-Za-z0-9]{8,}")
# Links without a query match too: otherwise each of many in a row would be looked through to the end of all.
_LINK = re.compile(r"""(\bhttps?://[^\s"'<>?#]*)([?#][^\s"'<>]*)?""", re.IGNORECASE)
_USER = re.compile(r"""(\bhttps?://)[^\s/"'<>?#@]*@""", re.IGNORECASE)
_WEB = re.compile("https?://", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|token|key)([ =:]+)[A-Za-z0-9._~+/-]{16,}=*", re.IGNORECASE)


def redacted(text: str, secret: str | None = None) -> str:
    """A message for people, in one line of bounded length, without the secret and anything that looks like one."""
    if secret:
        text = text.replace(secret, "***")
    text = _BEARER.sub(r"\1\2***", _KEY.sub("***", without_link_secrets(text)))
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def without_link_secrets(text: str) -> str:
    """The text with every web link cut where its query begins: signatures and tokens stand there."""
    if _WEB.search(text) is None:
        return text
    return _LINK.sub(lambda link: f"{link[1]}?***" if link[2] else link[1], _USER.sub(r"\1***@", text))


def holds_link(value: object) -> bool:
    """Whether there is a web link anywhere in a decoded JSON value."""
    match value:
        case str():
            return "://" in value and _WEB.search(value) is not None
        case list():
            return any(map(holds_link, value))
        case dict():
            return any(map(holds_link, value.values()))
        case _:
            return False
