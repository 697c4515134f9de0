#!/usr/bin/env python3
"""The bill of materials of an image: what Cargo.lock pins and what dpkg says is installed, as SPDX 2.3 JSON.

    deploy/container/sbom.py ROOT > sbom.spdx.json

ROOT is the image's file system (/ within the image). Equal inputs give equal bytes: no time of day, no random name.
"""
from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def paragraphs(text: str) -> list[dict[str, str]]:
    """Debian's control format: one dictionary a paragraph, continuation lines left out."""
    return [dict(line.split(": ", 1) for line in block.splitlines() if re.match(r"[A-Za-z-]+: ", line))
            for block in text.split("\n\n") if block.strip()]


def debian_packages(root: Path) -> list[dict[str, Any]]:
    status = root / "var/lib/dpkg/status"
    found = []
    for entry in paragraphs(status.read_text(encoding="utf-8")):
        if entry.get("Status") != "install ok installed":
            continue
        name, version, machine = entry["Package"], entry["Version"], entry["Architecture"]
        found.append(package(f"Debian-{name}", name, version,
                             f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={machine}&distro=bookworm"))
    return found


def rust_crates(lock: Path) -> list[dict[str, Any]]:
    found = []
    for block in lock.read_text(encoding="utf-8").split("[[package]]")[1:]:
        fields = dict(re.findall(r'^(\w+) = "([^"]*)"', block, re.MULTILINE))
        if "source" not in fields:  # our own
            continue
        crate = package(f"Crate-{fields['name']}", fields["name"], fields["version"],
                        f"pkg:cargo/{fields['name']}@{fields['version']}")
        crate["checksums"] = [{"algorithm": "SHA256", "checksumValue": fields["checksum"]}]
        found.append(crate)
    return found


def package(identifier: str, name: str, version: str, locator: str) -> dict[str, Any]:
    return {"SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{identifier}-{version}"), "name": name,
            "versionInfo": version, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}]}


def bill(root: Path, lock: Path) -> dict[str, Any]:
    program = root / "usr/bin/sheaf"
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    version = re.search(r"project\(sheaf VERSION ([0-9.]+)", (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert version is not None
    sheaf = package("Sheaf", "sheaf", version[1], f"pkg:generic/sheaf@{version[1]}")
    sheaf.update(licenseDeclared="Apache-2.0", checksums=[{"algorithm": "SHA256", "checksumValue": digest}])
    parts = debian_packages(root) + rust_crates(lock)
    contains = [{"spdxElementId": sheaf["SPDXID"], "relationshipType": "DEPENDS_ON", "relatedSpdxElement": part["SPDXID"]}
                for part in parts]
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"sheaf-{version[1]}",
            "documentNamespace": f"urn:sheaf:sbom:{digest}",
            "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: sheaf-sbom"]},
            "packages": [sheaf, *parts],
            "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                               "relatedSpdxElement": sheaf["SPDXID"]}, *contains]}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    [cargo_lock] = [path for path in REPOSITORY.rglob("Cargo.lock") if "build" not in path.parts]
    json.dump(bill(Path(sys.argv[1]), cargo_lock), sys.stdout, indent=1)
    print()
