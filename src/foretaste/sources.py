"""Where a row came from, against lists of where rows may come from. Default deny; a deny entry beats an allow entry.

A source is a URL, a hub repository, an object in a bucket, a file path or a plain name. It is brought to one form
before it is compared, so that no spelling of an address passes for another; what has no one form is refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from functools import cache
from typing import Any, Literal, TypeAlias
from urllib.parse import SplitResult, quote, unquote, urlsplit

from foretaste.deliveries import Deliveries, Signer

EntryKind: TypeAlias = Literal["auto", "uri", "domain", "host", "prefix", "hub", "bucket", "name", "signer"]
Attestation: TypeAlias = Literal["none", "pinned", "signed"]
_STRENGTHS: tuple[Attestation, ...] = ("none", "pinned", "signed")

_WEB = {"http": 80, "https": 443}
_BUCKETS = frozenset({"s3", "s3a", "gs", "az", "abfs", "abfss", "wasbs", "oci", "r2"})
_SAME_STORE = {"s3a": "s3"}
_HUB_HOSTS = frozenset({"huggingface.co", "hf.co", "www.huggingface.co"})
_KEYID = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_OBJECT_VERSION = re.compile(r"\?versionId=([^&?#]+)$|#(\d+)$")
_HUB = re.compile(r"(?:(datasets|spaces|models)/)?([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/.*)?", re.ASCII)
_HUB_URL = re.compile(r"/(?:(datasets|spaces)/)?([\w.-]+/[\w.-]+)(?:/(?:resolve|tree|blob|raw)/([^/]+).*)?/?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_UNRESERVED = re.compile(r"%(2[dDeE]|3\d|4[1-9a-fA-F]|5[\daAfF]|6[1-9a-fA-F]|7[\daAeE])")
# Cyrillic letters that look like Latin ones: a label of nothing else is read as a Latin word.
_LATIN_ALIKE = frozenset("асԁеһіјӏорԛѕԝхуъьҽпгѵѡ")
_WITH_LATIN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})


class Standing(StrEnum):
    """What the list says of a source. Only ``ALLOWED`` is a pass."""

    ALLOWED = "allowed"
    DENIED = "denied source"
    EXPIRED = "source with an expired entry"
    REFUSED = "source in disguise"
    UNATTESTED = "source with too weak an attestation"
    UNKNOWN = "unknown source"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a list.

    Attributes:
        source: what it names; see ``kind``.
        kind: ``uri`` exactly this address; ``domain`` this registrable domain (public suffix list with its private
            part) and its hosts; ``host`` this host; ``prefix`` this address or path and what lies below it; ``hub``
            ``owner/name@<40 hex digits>``, a repository at a pinned revision; ``bucket`` a bucket and prefix, with
            ``?versionId=`` one version of an object; ``name`` exactly this name. ``auto`` tells by the form. ``signer``
            whatever this signer vouches for in a delivery attestation: a Sigstore identity with its ``issuer``, or the
            id of a key (64 hex digits).
        owner: who answers for the entry.
        reason: why it stands here.
        expires: last day on which it holds, as YYYY-MM-DD; allow entries only.
        max_rows: most rows that it lets into one batch; allow entries only.
        max_rows_total: most rows that it lets in over all accepted batches and this one; needs a state to count in;
            allow entries only.
        min_attestation: how the content must be fixed: ``pinned``, by a commit or an object's version in the source
            itself; ``signed``, by a delivery attestation that vouches for the source; allow entries only.
        issuer: that vouches for the identity of a ``signer``.
    """

    source: str
    kind: EntryKind = "auto"
    owner: str = ""
    reason: str = ""
    expires: str | None = None
    max_rows: int | None = None
    max_rows_total: int | None = None
    min_attestation: Attestation = "none"
    issuer: str = ""

    def __post_init__(self) -> None:
        """Refuse an entry that could never match, or would match more than it says.

        Raises:
            ValueError: naming what is wrong with it.
        """
        if self.expires is not None:
            try:
                date.fromisoformat(self.expires)
            except ValueError:
                raise ValueError(f'expires of "{self.source}" must be YYYY-MM-DD, not "{self.expires}"') from None
        for name in ("max_rows", "max_rows_total"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f'{name} of "{self.source}" must be 1 or more; to admit no row, deny the source')
        if self.issuer and self.kind != "signer":
            raise ValueError(f'issuer of "{self.source}" goes with kind: signer')
        if self.kind == "signer" and self.max_rows_total is not None:
            raise ValueError(
                f'"{self.source}": rows are counted over batches by source, not by signer; cap the sources'
            )
        if self.kind == "signer" and not (self.issuer or _KEYID.fullmatch(self.source)):
            raise ValueError(f'signer "{self.source}" needs its issuer, or must be the id of a key (64 hex digits)')
        if self.kind != "signer":
            _key(self)

    @property
    def form(self) -> EntryKind:
        """The kind, told by the form of ``source`` where it is ``auto``."""
        if self.kind != "auto":
            return self.kind
        seen = parse(self.source)
        if seen.hub and not seen.host:
            return "hub"
        if seen.scheme in _BUCKETS:
            return "bucket"
        if seen.scheme or self.source.startswith("/"):
            return "prefix" if self.source.endswith("/") else "uri"
        if seen.host:
            if seen.path not in ("", "/"):
                return "prefix"
            return "domain" if seen.domain == seen.host else "host"
        return "name"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A source in its one form. What does not apply is empty.

    Attributes:
        text: as it stood in the data, without space at its ends.
        scheme: in lower case; empty for names, paths and addresses without one.
        host: in lower case and ASCII (IDNA), with the port where it is not the scheme's own.
        domain: registrable domain of the host.
        path: with dot segments resolved, or the key in a bucket.
        query: as it stood.
        version: version id of an object in a bucket.
        hub: ``datasets/owner/name`` of a hub repository.
        revision: of the hub repository.
        trouble: why the source is refused.
    """

    text: str
    scheme: str = ""
    host: str = ""
    domain: str = ""
    path: str = ""
    query: str = ""
    version: str = ""
    hub: str = ""
    revision: str = ""
    trouble: str = ""

    @property
    def group(self) -> str:
        """What sources of one origin share: hub repository, registrable domain, bucket, or the name itself."""
        if self.hub:
            return self.hub
        if self.scheme in _BUCKETS:
            return f"{self.scheme}://{self.host}"
        return self.domain or self.host or posixpath.dirname(self.path) or self.text

    @property
    def attestation(self) -> Attestation:
        """What the source says of its own content: whether it can change."""
        return "pinned" if _REVISION.fullmatch(self.revision) or self.version else "none"

    @property
    def uri(self) -> str:
        """The whole address."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.host}{self.path}{query}" if self.scheme else f"{self.host}{self.path}{query}"


@dataclass(frozen=True)
class Decision:
    """What the list says of one source, and by which entry: its place in the list of its kind, or -1."""

    standing: Standing
    reason: str = ""
    entry: int = -1


@dataclass
class Rules:
    """Both lists, ready to be asked. A question costs a few look-ups, whatever the length of the lists."""

    allow: tuple[Entry, ...]
    deny: tuple[Entry, ...]
    today: date
    deliveries: Deliveries = field(default_factory=Deliveries)
    _indexes: tuple[_Index, _Index] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index both lists."""
        self._indexes = (_Index(self.deny, frozenset()), _Index(self.allow, frozenset({"", *_WEB})))

    def decide(self, source: str) -> Decision:
        """The first matching deny entry, else the first allow entry that still holds, else unknown."""
        seen = parse(source)
        denied, allowed = self._indexes
        signers = self.deliveries.signers(source)
        if (first := min([*denied.matches(seen), *_signed(self.deny, signers)], default=-1)) >= 0:
            return Decision(Standing.DENIED, _because(self.deny[first]), first)
        if seen.trouble:
            return Decision(Standing.REFUSED, seen.trouble)
        expired = weak = -1
        strength = _STRENGTHS.index("signed" if signers else seen.attestation)
        for at in sorted([*allowed.matches(seen), *_signed(self.allow, signers)]):
            entry = self.allow[at]
            if entry.expires is not None and date.fromisoformat(entry.expires) < self.today:
                expired = at if expired < 0 else expired
            elif strength < _STRENGTHS.index(entry.min_attestation):
                weak = at if weak < 0 else weak
            else:
                return Decision(Standing.ALLOWED, entry=at)
        if weak >= 0:
            asked, have = self.allow[weak].min_attestation, _STRENGTHS[strength]
            return Decision(Standing.UNATTESTED, f"{_because(self.allow[weak])} asks for {asked}, it is {have}", weak)
        if expired >= 0:
            entry = self.allow[expired]
            return Decision(Standing.EXPIRED, f"{_because(entry)} expired on {entry.expires}", expired)
        if seen.hub and not _REVISION.fullmatch(seen.revision):
            return Decision(Standing.UNKNOWN, "a hub repository without a pinned revision (40 hex digits)")
        return Decision(Standing.UNKNOWN, "no entry names it" if seen.text else "the source is empty")


class _Index:
    """Entries by what they match on. Hosts and domains hold for the given schemes only, or for all where none is."""

    def __init__(self, entries: Iterable[Entry], schemes: frozenset[str]) -> None:
        self.schemes = schemes
        self.exact: dict[tuple[str, ...], list[int]] = {}
        self.below: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for at, entry in enumerate(entries):
            if entry.kind == "signer":
                continue
            key, path = _key(entry)
            if path is None:
                self.exact.setdefault(key, []).append(at)
            else:
                self.below.setdefault(key, []).append((path, at))

    def matches(self, seen: Seen) -> list[int]:
        """Numbers of the entries that name this source."""
        keys: list[tuple[str, ...]] = [("name", seen.text), ("uri", seen.uri)]
        if seen.hub:
            keys += [("hub", seen.hub, seen.revision), ("hub", seen.hub, "")]
        if seen.host and (not self.schemes or seen.scheme in self.schemes):
            keys += [("host", seen.host), ("domain", seen.domain)]
        found = [at for key in keys for at in self.exact.get(key, ())]
        places: list[tuple[str, ...]] = [("prefix", seen.scheme, seen.host)]
        if seen.host and seen.scheme in _WEB:
            places.append(("prefix", "", seen.host))
        if seen.scheme in _BUCKETS:
            places += [("bucket", seen.scheme, seen.host, seen.version), ("bucket", seen.scheme, seen.host, "")]
        for place in places:
            found += [at for path, at in self.below.get(place, ()) if _is_below(seen.path, path)]
        return found


def _signed(entries: Iterable[Entry], signers: Iterable[Signer]) -> list[int]:
    """Numbers of the entries that name one of the signers."""
    known = {(s.identity, s.issuer) for s in signers if s.identity} | {(s.keyid, "") for s in signers}
    return [at for at, e in enumerate(entries) if e.kind == "signer" and (e.source, e.issuer) in known]


def _key(entry: Entry) -> tuple[tuple[str, ...], str | None]:
    """What an entry is found by, and the prefix below which it holds, ``None`` where it has to fit exactly."""
    seen, form = parse(entry.source), entry.form
    if form == "name":
        if not seen.text:
            raise ValueError("an entry needs a source; an empty one would match rows without any")
        return ("name", seen.text), None
    if seen.trouble:
        raise ValueError(f'"{entry.source}" is refused as a source: {seen.trouble}')
    if form == "hub":
        if not seen.hub:
            raise ValueError(f'"{entry.source}" names no hub repository; write owner/name@<40 hex digits>')
        if seen.revision and not _REVISION.fullmatch(seen.revision):
            raise ValueError(
                f'"{entry.source}" is not pinned: a branch or tag can be moved; write the 40 hex digits of the commit'
            )
        return ("hub", seen.hub, seen.revision), None
    if form == "bucket":
        if seen.scheme not in _BUCKETS:
            raise ValueError(f'"{entry.source}" names no bucket; known schemes: {", ".join(sorted(_BUCKETS))}')
        return ("bucket", seen.scheme, seen.host, seen.version), seen.path
    if form in ("host", "domain"):
        if not seen.host or seen.path not in ("", "/") or seen.query:
            raise ValueError(f'"{entry.source}" is no {form}; write it as in example.org, or give kind: prefix or uri')
        if form == "domain" and seen.domain != seen.host:
            registrable = f"its registrable domain is {seen.domain}" if seen.domain else "it is a public suffix"
            raise ValueError(f'"{entry.source}" is no registrable domain: {registrable}; or give kind: host')
        return (form, seen.host), None
    if not seen.path and not seen.host:
        raise ValueError(f'"{entry.source}" is neither an address nor an absolute path; give kind: name for a name')
    return (("prefix", seen.scheme, seen.host), seen.path) if form == "prefix" else (("uri", seen.uri), None)


def pinned(entry: Entry) -> bool:
    """Whether the entry names a fixed revision where its kind has revisions."""
    if entry.kind == "signer":
        return True
    key, _ = _key(entry)
    return key[0] != "hub" or bool(key[2])


def parse(source: str) -> Seen:
    """A source in its one form; never raises, but names the trouble that it has."""
    text = unicodedata.normalize("NFC", source).strip()
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text):
        return Seen(text=text, trouble="it holds control or invisible characters")
    scheme = _SCHEME.match(text)
    try:
        if scheme is None:
            return _parse_bare(text)
        if scheme[1].lower() == "hf":
            return _parse_hub(text)
        return _parse_url(text, urlsplit(text))
    except ValueError as e:
        return Seen(text=text, trouble=f"it is no valid address ({e})")


def _parse_bare(text: str) -> Seen:
    """A path, a hub repository, an address without its scheme, or a name."""
    if text.startswith("/"):
        return Seen(text=text, path=_resolved(text))
    hub = _HUB.fullmatch(text)
    if hub and hub[3] and _REVISION.fullmatch(hub[3].lower()):
        return Seen(text=text, hub=f"{hub[1] or 'datasets'}/{hub[2]}", revision=hub[3].lower())
    head = re.split(r"[/?#]", text, maxsplit=1)[0]
    if "." not in head or "@" in head or any(c.isspace() for c in head):
        return Seen(text=text)
    try:
        url = urlsplit(f"//{text}")
        host, trouble = _host(url, "")
    except ValueError:
        return Seen(text=text)
    if not _known_suffixes().publicsuffix(_without_port(host)):
        return Seen(text=text)  # such as vendor.2024: no host ends like that
    path = _resolved(url.path) if url.path else ""
    return Seen(text=text, host=host, domain=_registrable(host), path=path, query=url.query, trouble=trouble)


def _parse_hub(text: str) -> Seen:
    match = _HUB.fullmatch(text[len("hf://") :])
    if not match:
        return Seen(text=text, trouble="hf:// needs owner/name@revision")
    return Seen(text=text, scheme="hf", hub=f"{match[1] or 'models'}/{match[2]}", revision=(match[3] or "").lower())


def _parse_url(text: str, url: SplitResult) -> Seen:
    scheme = _SAME_STORE.get(url.scheme.lower(), url.scheme.lower())
    if "\\" in text:
        return Seen(text=text, scheme=scheme, trouble="it holds a backslash, which programs read differently")
    if scheme in _BUCKETS:
        return _parse_bucket(text, scheme)
    if "@" in url.netloc:
        return Seen(text=text, scheme=scheme, trouble="it carries user information, which can pass for a host")
    if scheme == "file":
        return Seen(text=text, path=_resolved(unquote(url.path)))
    host, trouble = _host(url, scheme)
    seen = Seen(
        text=text, scheme=scheme, host=host, domain=_registrable(host), path=_resolved(url.path or "/"),
        query=url.query, trouble=trouble,
    )  # fmt: skip
    hub = _HUB_URL.fullmatch(seen.path) if host in _HUB_HOSTS else None
    if hub is None:
        return seen
    named = {"hub": f"{hub[1] or 'models'}/{hub[2]}", "revision": (hub[3] or "").lower()}
    return Seen(**(vars(seen) | named))


def _parse_bucket(text: str, scheme: str) -> Seen:
    # Keys are opaque to the store: nothing is resolved, and what a tool might resolve is refused.
    bucket, _, key = text.split("://", 1)[1].partition("/")
    version = _OBJECT_VERSION.search(key)
    if version:
        key = key[: version.start()]
    return Seen(
        text=text, scheme=scheme, host=bucket, path=f"/{key}", version=(version[1] or version[2]) if version else "",
        trouble="its key holds dot segments" if {".", ".."} & set(key.split("/")) else "",
    )  # fmt: skip


def _host(url: SplitResult, scheme: str) -> tuple[str, str]:
    """The host in lower-case ASCII with a port that is not the scheme's own, and why it is refused, if it is.

    Raises:
        ValueError: if it is no host.
    """
    raw = unquote(url.hostname or "")
    port = "" if url.port in (None, _WEB.get(scheme)) else f":{url.port}"
    try:
        return f"{ipaddress.ip_address(raw).compressed}{port}", ""
    except ValueError:
        host = _ascii(raw)
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("its host is not valid")
    return host + port, next((t for label in labels if (t := _disguise(label))), "")


def _ascii(host: str) -> str:
    if host.isascii():
        return host.lower().rstrip(".")
    import idna

    return idna.encode(host, uts46=True).decode().rstrip(".")


def _disguise(label: str) -> str:
    """Why a label of a host can be taken for another one."""
    if not label.startswith("xn--"):
        return ""
    import idna

    shown = idna.decode(label)
    # The first word of a character's Unicode name is its script, for the scripts in question.
    scripts = {unicodedata.name(c, "UNKNOWN").split()[0].split("-")[0] for c in shown if c.isalpha()}
    alphabets = {s for s in scripts if s not in _WITH_LATIN}
    if len(alphabets) > 1 or (alphabets - {"LATIN"} and len(scripts) > 1):
        return f'its host mixes scripts ("{shown}": {", ".join(sorted(s.title() for s in scripts))})'
    if set(shown) - set("0123456789-") and set(shown) - set("0123456789-") <= _LATIN_ALIKE:
        return f'its host looks like Latin letters and is not ("{shown}")'
    return ""


def _registrable(host: str) -> str:
    name = _without_port(host)
    if ":" in name or name.replace(".", "").isdigit():
        return ""  # an IP address has no domain
    return _suffixes().privatesuffix(name) or ""


def _without_port(host: str) -> str:
    return host.rsplit(":", 1)[0] if host.count(":") == 1 else host


@cache
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


@cache
def _known_suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=False)


def list_digest(allow: Iterable[Entry], deny: Iterable[Entry]) -> str:
    """``sha256:<hex>`` over both lists: the version that stands in a report as evidence."""
    plain = [[asdict(e) for e in entries] for entries in (allow, deny)]
    return f"sha256:{hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}"


def suffix_list_version() -> str:
    """Version of the public suffix list in use, as evidence for a decision about domains."""
    from importlib.metadata import version

    return f"publicsuffixlist {version('publicsuffixlist')}"


def _resolved(path: str) -> str:
    """A path with the escapes of plain characters and the dot segments resolved; a slash at the end stays."""
    plain = _UNRESERVED.sub(lambda m: chr(int(m[1], 16)), path)
    normal = posixpath.normpath("/" + plain.lstrip("/"))
    return quote(normal + ("/" if plain.endswith("/") and normal != "/" else ""), safe="/%:@!$&'()*+,;=~-._")


def _is_below(path: str, prefix: str) -> bool:
    stem = prefix.rstrip("/")
    return path == stem or path.startswith(stem + "/")


def _because(entry: Entry) -> str:
    return f'entry "{entry.source}"' + (f" ({entry.reason})" if entry.reason else "")
