"""A real Kubernetes API server with an etcd, on free ports of this machine: it takes or refuses manifests as a cluster does.

    with ApiServer(Path("build/kube-tools")) as server:
        server.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "x.yaml")

There is no kubelet: nothing runs. The programs are those of build_kube_tools.sh.
"""
from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
import ssl

START_SECONDS = 120.0
TOKEN = "check"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ApiServer:
    def __init__(self, tools: Path) -> None:
        self._tools = tools
        self._folder = tempfile.TemporaryDirectory(prefix="sheaf-api-server-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = f"https://127.0.0.1:{free_port()}"

    def __enter__(self) -> ApiServer:
        folder = Path(self._folder.name)
        etcd, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        key, public = folder / "accounts.key", folder / "accounts.pub"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        try:
            self._start("etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
                        "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster",
                        f"default={peers}", "--unsafe-no-fsync")
            self._start("kube-apiserver", "--etcd-servers", etcd, "--service-account-issuer=https://kubernetes.default.svc",
                        f"--service-account-key-file={public}", f"--service-account-signing-key-file={key}",
                        "--service-cluster-ip-range=10.0.0.0/24", f"--secure-port={self.address.rsplit(':', 1)[1]}",
                        "--bind-address=127.0.0.1", f"--cert-dir={folder}", f"--token-auth-file={folder / 'tokens.csv'}",
                        "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, program: str, *arguments: str) -> None:
        with open(Path(self._folder.name) / f"{program}.log", "wb") as log:
            self._processes.append(subprocess.Popen([str(self._tools / "bin" / program), *arguments], stdout=log, stderr=log))

    def _wait(self) -> None:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # it made its certificate itself, just now
        request = urllib.request.Request(self.address + "/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with opener.open(request, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                pass
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in Path(self._folder.name).glob("*.log"))
                raise TimeoutError(f"the API server is not ready:\n{logs}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self._folder.cleanup()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self._tools / "bin/kubectl"), "--server", self.address, "--insecure-skip-tls-verify",
                               "--token", TOKEN, "--cache-dir", f"{self._folder.name}/cache", "--kubeconfig=/dev/null", *arguments],
                              input=stdin, capture_output=True, text=True, timeout=120, check=False)


if __name__ == "__main__":
    with ApiServer(Path(sys.argv[1])) as server:
        print(server.kubectl("version").stdout)
