#!/bin/sh
# Write the locks of this folder: versions and hashes, for every platform at once, without a registry's address.
# Each is a superset of the one before it (core ⊂ local ⊂ dev), so one resolution decides for all.
# Usage: lock.sh UV [--upgrade | --upgrade-package NAME]
set -eu
uv=$1
shift

lock() {
    output=$1
    shift
    echo "· requirements/$output"
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command "make lock" --output-file "requirements/$output" "$@"
}

lock dev.txt pyproject.toml --extra local --extra dev "$@"
lock local.txt pyproject.toml --extra local --constraint requirements/dev.txt
lock core.txt pyproject.toml --constraint requirements/dev.txt
lock build.txt --group build --constraint requirements/dev.txt "$@"
lock node.txt --group node "$@"
