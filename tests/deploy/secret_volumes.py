"""Secrets as pods see them: cert-manager's Certificates kept filled, and volumes that change as a kubelet changes them.

    secret = SecretVolume(folder, group=65532)
    secret.write({"token": b"..."})             # later writes replace every file at once
    issuer = Issuer(folder / "ca")
    secret.write(issuer.issue(certificate))     # an object of kind Certificate; a new key each time
    issuer.renewals                             # how often

The folder holds links to a hidden one; a write makes a new hidden one and renames one link, so that a reader sees the old files
or the new ones. Issuer needs python3-cryptography.
"""
from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

_NOW = "..data"  # the kubelet's name of the link


class SecretVolume:
    def __init__(self, folder: Path, group: int) -> None:
        self.folder, self._group = folder, group
        folder.mkdir(mode=0o755)

    def write(self, files: dict[str, bytes]) -> None:
        fresh = self.folder / f"..{secrets.token_hex(4)}"
        fresh.mkdir(mode=0o755)
        for name, data in files.items():
            (fresh / name).write_bytes(data)
            os.chown(fresh / name, 0, self._group)
            (fresh / name).chmod(0o440)
        link = self.folder / _NOW
        old = os.readlink(link) if link.is_symlink() else None
        (self.folder / "..data_tmp").symlink_to(fresh.name)
        os.replace(self.folder / "..data_tmp", link)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"{_NOW}/{name}")
        if old is not None:
            shutil.rmtree(self.folder / old)


class Issuer:
    """A CA; what it issues has the names that the Certificate asks for."""

    def __init__(self, folder: Path) -> None:
        from certificates import Authority  # here: not everybody has its library
        self._authority = Authority(folder)
        self.ca = self._authority.cert.read_bytes()
        self.renewals = 0

    def issue(self, certificate: dict[str, Any]) -> dict[str, bytes]:
        self.renewals += 1
        spec = certificate["spec"]
        pair = self._authority.issue(certificate["metadata"]["name"], uris=spec.get("uris", []), dns=spec.get("dnsNames", []))
        return {"tls.crt": pair.cert_bytes(), "tls.key": pair.key_bytes(), "ca.crt": self.ca}
