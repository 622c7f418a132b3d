#!/usr/bin/env python3
"""Prints what one program is made of, as CycloneDX 1.5, from Cargo.lock and `cargo tree`.

    sbom.py PACKAGE TARGET
"""

import json
import subprocess
import sys
import tomllib


def main(package, target):
    command = ["cargo", "tree", "--locked", "--package", package, "--target", target]
    command += ["--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    with open("Cargo.lock", "rb") as file:
        locked = {(it["name"], it["version"]): it for it in tomllib.load(file)["package"]}
    found = {}
    for line in lines:
        named, _, license = line.partition("\t")
        name, version = named.split()[:2]
        found[(name, version.removeprefix("v"))] = license
    components = []
    for (name, version), license in sorted(found.items()):
        purl = f"pkg:cargo/{name}@{version}"
        one = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        if license:
            one["licenses"] = [{"expression": license.replace("/", " OR ")}]
        checksum = locked[(name, version)].get("checksum")
        if checksum:
            one["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(one)
    own = next(it for it in components if it["name"] == package)
    others = [it for it in components if it is not own]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**own, "type": "application"}},
        "components": others,
    }
    json.dump(bom, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
