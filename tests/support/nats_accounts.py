"""Operators, accounts and users of NATS with their keys, as `nsc` makes them."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs
import nkeys

_UNLIMITED = -1


@attrs.define
class Identity:
    """Somebody with a key."""

    seed: str

    @classmethod
    def user(cls) -> "Identity":
        return cls._new(nkeys.PREFIX_BYTE_USER)

    @classmethod
    def account(cls) -> "Identity":
        return cls._new(nkeys.PREFIX_BYTE_ACCOUNT)

    @classmethod
    def operator(cls) -> "Identity":
        return cls._new(nkeys.PREFIX_BYTE_OPERATOR)

    @classmethod
    def _new(cls, prefix: int) -> "Identity":
        return cls(nkeys.encode_seed(os.urandom(32), prefix).decode())

    @property
    def public(self) -> str:
        key: bytes = nkeys.from_seed(bytearray(self.seed.encode())).public_key
        return key.decode()

    def says(self, subject: "Identity", **claims: Any) -> str:
        """A JWT in which this one vouches for another."""
        whole = {"iat": 1, "iss": self.public, "name": "test", "sub": subject.public}
        whole |= {"nats": {"version": 2, **claims}}
        digest = hashlib.sha256(json.dumps(whole).encode()).digest()
        whole["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        said = ".".join(_encoded(json.dumps(part).encode()) for part in (head, whole))
        signature = nkeys.from_seed(bytearray(self.seed.encode())).sign(said.encode())
        return f"{said}.{_encoded(signature)}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class Organisation:
    """An operator with one account that has JetStream."""

    def __init__(self) -> None:
        self._operator, self._account = Identity.operator(), Identity.account()
        self._system = Identity.account()

    def configuration(self) -> str:
        """For the server."""
        limits = dict.fromkeys(
            ["subs", "data", "payload", "imports", "exports", "conn", "leaf"], _UNLIMITED
        )
        storage = dict.fromkeys(["mem_storage", "disk_storage", "streams", "consumer"], _UNLIMITED)
        vouch = self._operator.says
        account = vouch(self._account, type="account", limits=limits | storage)
        system = vouch(self._system, type="account", limits=limits)
        return (
            f"operator: {vouch(self._operator, type='operator')}\n"
            f"system_account: {self._system.public}\nresolver: MEMORY\n"
            f"resolver_preload {{ {self._account.public}: {account}\n"
            f"{self._system.public}: {system} }}\n"
        )

    def creds(self) -> str:
        """The file of a new user."""
        user = Identity.user()
        limits = dict.fromkeys(["subs", "data", "payload"], _UNLIMITED)
        jwt = self._account.says(user, type="user", **limits)
        return creds_text(jwt, user.seed)


def creds_text(jwt: str, seed: str) -> str:
    """A creds file, as `nsc` lays it out."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def secret_file(path: Path, text: str) -> Path:
    """A file that its owner alone may read."""
    path.write_text(text)
    path.chmod(0o600)
    return path
