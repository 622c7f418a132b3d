#!/usr/bin/env python3
"""Builds an image from a Dockerfile of this directory, as an OCI layout in a tar archive.

No daemon and no network: every image here is one program on nothing. The same program gives the same
bytes, because the only time in it is SOURCE_DATE_EPOCH. Prints the digest of the image.

    image.py DOCKERFILE CONTEXT VERSION ARCHITECTURE OUT.tar
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile

EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])


def parsed(dockerfile):
    """Returns the files, the user and the entrypoint. Any other word is refused."""
    files, user, entrypoint, base = [], None, None, None
    for line in dockerfile.read_text().splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "FROM":
            base = rest
        elif word == "COPY":
            files.append(rest.split())
        elif word == "USER":
            user = rest
        elif word == "ENTRYPOINT":
            entrypoint = json.loads(rest)
        else:
            sys.exit(f"{dockerfile}: {word} is not understood")
    if base != "scratch" or user is None or entrypoint is None:
        sys.exit(f"{dockerfile}: an image on scratch with a user and an entrypoint is needed")
    return files, user, entrypoint


def archive(entries):
    """Returns a tar archive of (name, bytes, mode)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data, mode in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), mode, EPOCH
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def main(dockerfile, context, version, architecture, out):
    files, user, entrypoint = parsed(pathlib.Path(dockerfile))
    context = pathlib.Path(context)
    layer = archive((to.lstrip("/"), (context / name).read_bytes(), 0o555) for name, to in files)
    packed = gzip.compress(layer, mtime=0)
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    def text(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    created = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = text({
        "architecture": architecture,
        "config": {
            "Entrypoint": entrypoint,
            "User": user,
            "Labels": {
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.title": entrypoint[0].lstrip("/"),
                "org.opencontainers.image.version": version,
            },
        },
        "created": created,
        "history": [{"created": created, "created_by": f"release/{pathlib.Path(dockerfile).name}"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    })
    manifest = text({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
    })
    image = blob(manifest, "application/vnd.oci.image.manifest.v1+json")
    image["annotations"] = {"org.opencontainers.image.ref.name": version}
    image["platform"] = {"architecture": architecture, "os": "linux"}
    index = text({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [image],
    })
    entries = [("oci-layout", text({"imageLayoutVersion": "1.0.0"}), 0o644), ("index.json", index, 0o644)]
    entries += [(name, data, 0o644) for name, data in sorted(blobs.items())]
    pathlib.Path(out).write_bytes(archive(entries))
    print(image["digest"])


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
