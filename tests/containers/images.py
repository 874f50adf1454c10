"""Both images of deploy/Dockerfile, built: as anybody would, or on a machine that reaches no registry of images.

There the base image is a Debian from debootstrap, and the packages come from the pip of this machine, whatever
mirrors and certificates it is configured for: it downloads them, and the build finds them at an index on localhost.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.containers.engine import docker

ROOT = Path(__file__).parents[2]
TARGETS = ("daemon", "trainer")
BASE = "python:3.11-slim"
OWN_BASE = "loader-service:debian"
DEBIAN = "bookworm"  # its Python is 3.11
PATIENCE = 1800  # seconds for one image
PACKAGES = "python3,python3-venv,python3-pip"


def build() -> None:
    """Build `loader-service:daemon` and `loader-service:trainer`."""
    if subprocess.run(["docker", "pull", "--quiet", BASE], capture_output=True, check=False).returncode == 0:
        _build_targets()
        return
    print(f"{BASE} cannot be pulled: a Debian from debootstrap takes its place", flush=True)
    assert sys.version_info[:2] == (3, 11), "packages are downloaded for Python 3.11: run this with it"
    with tempfile.TemporaryDirectory(prefix="loader-packages-") as name, _index(Path(name)) as url:
        _make_base()
        _build_targets("--network", "host", "--build-arg", f"BASE={OWN_BASE}", "--build-arg", f"PIP_INDEX_URL={url}")


def _build_targets(*options: str) -> None:
    for target in TARGETS:
        tag = f"loader-service:{target}"
        docker(
            "build", "--quiet", *options, "--file", ROOT / "deploy/Dockerfile", "--target", target, "--tag", tag, ROOT
        )
        nbytes = int(docker("image", "inspect", "--format", "{{.Size}}", tag))
        print(f"{tag}: {nbytes / 1e6:,.0f} MB", flush=True)


def _make_base() -> None:
    if docker("images", "--quiet", OWN_BASE):
        return
    with tempfile.TemporaryDirectory(prefix="loader-debian-") as name:
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, name]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        tar = subprocess.Popen(["tar", "-C", name, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", OWN_BASE], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
        assert tar.wait() == 0


@contextlib.contextmanager
def _index(folder: Path) -> Iterator[str]:
    """Download what the build needs; serve it as a package index, and return the URL.

    A listing of folders, one for each package, is such an index (PEP 503).
    """
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder]
    locks = [option for target in TARGETS for option in ("-r", ROOT / f"deploy/requirements-{target}.txt")]
    subprocess.run([*download, "--no-deps", *locks], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*download, "hatchling"], check=True, stderr=subprocess.DEVNULL)
    for file in list(folder.iterdir()):
        package = folder / re.sub(r"[-_.]+", "-", re.split(r"-\d", file.name)[0]).lower()
        package.mkdir(exist_ok=True)
        file.rename(package / file.name)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing to tell."""
