"""Keys and a trust file, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from foretaste.provenance import signers
from foretaste.provenance.keys import ROLES, Role, TrustRoot, trusted


@dataclass(frozen=True)
class Keys:
    """Private keys ``alice``, ``bob`` (ECDSA), ``carol`` and ``mallory`` in a folder; all but the last are trusted."""

    folder: Path
    trust: TrustRoot

    def pem(self, name: str) -> Path:
        """Path of a private key."""
        return self.folder / f"{name}.pem"

    def trusting(self, *names: str, threshold: int = 1, max_age_days: int | None = None) -> TrustRoot:
        """A trust root in which these keys have every role."""
        role = Role(keys=names, threshold=threshold, max_age_days=max_age_days)
        return TrustRoot(keys={n: self.trust.keys[n] for n in names}, roles=dict.fromkeys(ROLES, role))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name in ("alice", "bob", "carol", "mallory"):
        public = signers.generate(folder / f"{name}.pem", "ecdsa" if name == "bob" else "ed25519")
        made[name] = trusted(public, name)
    del made["mallory"]
    role = Role(keys=tuple(made))
    return Keys(folder, TrustRoot(keys=made, roles=dict.fromkeys(ROLES, role)))
