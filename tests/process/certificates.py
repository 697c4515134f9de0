"""Certificates for a test: a CA and what it signs, as PEM files that a server can be given."""
from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
SPIFFE = "spiffe://example.org/ns/test/sa/"
WORKER, ROUTER, COORDINATOR = SPIFFE + "sheaf-worker", SPIFFE + "sheaf-router", SPIFFE + "sheaf-coordinator"
ADMIN = SPIFFE + "sheaf-admin"


@dataclass(frozen=True)
class Pair:
    cert: Path
    key: Path

    def cert_bytes(self) -> bytes:
        return self.cert.read_bytes()

    def key_bytes(self) -> bytes:
        return self.key.read_bytes()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path: Path, data: bytes) -> Path:
    """Whole or not at all, as an orchestrator replaces a mounted secret."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    os.replace(fresh, path)
    return path


class Authority:
    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self.folder, self._name, self._serial = folder, _name(name), 0
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        self._cert = (x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
                      .public_key(self._key.public_key()).serial_number(x509.random_serial_number())
                      .not_valid_before(now - 2 * DAY).not_valid_after(now + 30 * DAY)
                      .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                      .sign(self._key, hashes.SHA256()))
        self.cert = _write(folder / "ca.pem", self._cert.public_bytes(serialization.Encoding.PEM))

    def end_of(self, name: str) -> float:
        """Unix seconds of the end of NAME.pem."""
        cert = x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
        return cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()

    def issue(self, name: str, uris: Sequence[str] = (), dns: Sequence[str] = ("localhost",),
              until: datetime.timedelta = DAY, since: datetime.timedelta = -2 * DAY) -> Pair:
        """Files NAME.pem and NAME.key, written over earlier ones of that name; for both ends of a connection."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(one) for one in dns]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        cert = (x509.CertificateBuilder().subject_name(_name(name)).issuer_name(self._name)
                .public_key(key.public_key()).serial_number(x509.random_serial_number())
                .not_valid_before(now + since).not_valid_after(now + until)
                .add_extension(x509.SubjectAlternativeName(names), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                               critical=False)
                .sign(self._key, hashes.SHA256()))
        key_bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())
        return Pair(_write(self.folder / f"{name}.pem", cert.public_bytes(serialization.Encoding.PEM)),
                    _write(self.folder / f"{name}.key", key_bytes))
