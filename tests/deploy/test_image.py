"""The image: the packages that the program needs and no others, the script that copies a checkpoint, the bill of materials."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import policy
from charts import REPOSITORY

CONTAINER = REPOSITORY / "deploy/container"
NANO = REPOSITORY / "checkpoints/sheaf-nano-120"
needs_binary = pytest.mark.skipif(not Path(policy.binary()).exists(), reason=f"no program at {policy.binary()}")
sys.path.insert(0, str(CONTAINER))

import sbom  # noqa: E402  (found through the path above)


@needs_binary
@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg")
def test_the_packages_are_those_that_the_program_is_linked_to() -> None:
    linked = subprocess.run(["ldd", policy.binary()], capture_output=True, text=True, check=True).stdout
    if "asan" in linked or "tsan" in linked:
        pytest.skip("a build with sanitizers is linked to more")
    found = set()
    for path in re.findall(r"(/\S+) \(0x", linked):
        for name in (path, os.path.realpath(path), path.removeprefix("/usr"), os.path.realpath(path).removeprefix("/usr")):
            owner = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, check=False)
            if owner.returncode == 0:
                found.add(owner.stdout.split(":")[0])
                break
        else:
            pytest.fail(f"{path} is of no package")
    lines = (CONTAINER / "runtime_packages.txt").read_text(encoding="utf-8").splitlines()
    assert found == {line for line in lines if not line.startswith("#")}


def copy_checkpoint(source: Path, target: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(CONTAINER / "copy_checkpoint.sh"), str(source), str(target)], capture_output=True, text=True,
                          timeout=120, check=False, env={"PATH": f"{programs}:/usr/bin:/bin"})


@pytest.fixture(name="programs")
def _programs(tmp_path: Path) -> Path:
    """A folder with `sheaf`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "sheaf").symlink_to(Path(policy.binary()).resolve())
    return folder


@needs_binary
def test_a_checkpoint_is_copied_once_and_verified(tmp_path: Path, programs: Path) -> None:
    target = tmp_path / "target"
    first = copy_checkpoint(NANO, target, programs)
    assert first.returncode == 0, first.stderr
    names = {path.name for path in NANO.iterdir()}
    assert {path.name for path in target.iterdir()} == names | {".verified"}
    assert all((target / name).read_bytes() == (NANO / name).read_bytes() for name in names)
    again = copy_checkpoint(NANO, target, programs)
    assert again.returncode == 0 and "copying" not in again.stdout


@needs_binary
def test_what_was_cut_short_or_is_no_more_is_mended(tmp_path: Path, programs: Path) -> None:
    target = tmp_path / "target"
    assert copy_checkpoint(NANO, target, programs).returncode == 0
    shard = next(target.glob("*00002*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    (target / "model-00009.safetensors").write_bytes(b"old")
    (target / "x.part").write_bytes(b"cut")
    mended = copy_checkpoint(NANO, target, programs)
    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.count("copying") == 1 and shard.read_bytes() == (NANO / shard.name).read_bytes()
    assert not (target / "model-00009.safetensors").exists() and not (target / "x.part").exists()


@needs_binary
def test_a_wrong_byte_is_no_copy(tmp_path: Path, programs: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(NANO, source)
    sums = subprocess.run(["sha256sum", *sorted(path.name for path in source.iterdir())], cwd=source, capture_output=True,
                          text=True, check=True).stdout
    (source / "SHA256SUMS").write_text(sums)
    shard = next(source.glob("*00002*"))
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    done = copy_checkpoint(source, target, programs)
    assert done.returncode != 0
    assert [path.name for path in target.iterdir()] == []
    assert copy_checkpoint(tmp_path / "nothing", target, programs).returncode != 0


def test_the_bill_names_every_crate_and_package(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.1+deb12u1\nDescription: x\n more\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/sheaf").write_bytes(b"program")
    lock = REPOSITORY / "router/text/rust/Cargo.lock"
    bill = sbom.bill(tmp_path, lock)
    names = {package["name"] for package in bill["packages"]}
    crates = set(re.findall(r'name = "(.*)"\nversion = ".*"\nsource', lock.read_text(encoding="utf-8")))
    assert len(crates) > 50 and names == crates | {"libssl3", "sheaf"}
    locators = [package["externalRefs"][0]["referenceLocator"] for package in bill["packages"]]
    assert "pkg:deb/debian/libssl3@3.0.1%2Bdeb12u1?arch=amd64&distro=bookworm" in locators
    identifiers = [package["SPDXID"] for package in bill["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    assert json.dumps(bill) == json.dumps(sbom.bill(tmp_path, lock))


def test_the_file_for_container_engines_names_what_is_here() -> None:
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert copied and all((REPOSITORY / name).exists() for name in copied)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE) and ":latest" not in text
