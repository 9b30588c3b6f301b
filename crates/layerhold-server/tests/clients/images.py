"""Small images made from nothing: layers, configs, manifests, and whole OCI layouts on disk."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

PART_BYTES_MIN = 5 * 1024 * 1024


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Blob:
    """Bytes with the media type that a manifest gives them."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return digest_of(self.data)

    def descriptor(self, **more: object) -> dict:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


@dataclass(frozen=True)
class Image:
    """One image: its exact manifest and the blobs that the manifest names."""

    manifest: bytes
    media_type: str
    config: Blob
    layers: list[Blob] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def text(self) -> str:
        return self.manifest.decode()

    @property
    def blobs(self) -> list[Blob]:
        return [self.config, *self.layers]

    def descriptor(self, **more: object) -> dict:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest), **more}


def tar_of(seed: str, size: int) -> bytes:
    """An archive with one file of noise, without times and owners that would change its digest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(f"data/{seed}")
        entry.size = size
        archive.addfile(entry, io.BytesIO(noise(seed, size)))
    return out.getvalue()


def layer(seed: str, size: int = 2048, media_type: str = OCI_GZIP) -> tuple[Blob, str]:
    """A compressed layer and the digest of what is inside, which the config has to name."""
    tar = tar_of(seed, size)
    packed = zstandard.compress(tar) if media_type == OCI_ZSTD else gzip.compress(tar, mtime=0)
    return Blob(packed, media_type), digest_of(tar)


def image(seed: str, *, docker: bool = False, architecture: str = "amd64", layers: int = 2, size: int = 2048) -> Image:
    """A runnable image in one of the two formats; the OCI one mixes gzip and zstd."""
    made = []
    for number in range(layers):
        kind = DOCKER_LAYER if docker else OCI_ZSTD if number % 2 else OCI_GZIP
        made.append(layer(f"{seed}-{number}", size, kind))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [inner for _, inner in made]},
        "history": [{"created_by": f"layer {number}"} for number in range(layers)],
    }
    config_blob = Blob(json.dumps(config).encode(), DOCKER_CONFIG if docker else OCI_CONFIG)
    return manifest_of(config_blob, [blob for blob, _ in made], docker=docker)


def manifest_of(config: Blob, layers: list[Blob], *, docker: bool = False, **more: object) -> Image:
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(),
        "layers": [blob.descriptor() for blob in layers],
        **more,
    }
    # Indented on purpose: a server that writes the document anew would change the digest.
    return Image(json.dumps(document, indent=3).encode(), media_type, config, layers)


def artifact(seed: str, *, subject: dict | None, artifact_type: str, **more: object) -> Image:
    """Something that is no image, pointing at an image: a signature, say."""
    payload = Blob(noise(seed, 300), "application/octet-stream")
    if subject is not None:
        more["subject"] = subject
    # A config of its own: the empty one that the specification proposes would be there already the second time.
    config = Blob(json.dumps({"seed": seed}).encode(), OCI_CONFIG)
    return manifest_of(config, [payload], artifactType=artifact_type, **more)


def index_of(images: dict[str, Image], *, docker: bool = False) -> bytes:
    """The document that names one image per architecture."""
    entries = [
        found.descriptor(platform={"architecture": name, "os": "linux"}) for name, found in sorted(images.items())
    ]
    media_type = DOCKER_LIST if docker else OCI_INDEX
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}, indent=1).encode()


def write_layout(folder: Path, images: dict[str, Image], tag: str = "latest") -> bytes:
    """Writes an OCI layout that holds one image, or an index over several, and answers the tagged document."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def store(data: bytes) -> None:
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)

    for found in images.values():
        for data in (found.manifest, *(blob.data for blob in found.blobs)):
            store(data)
    if len(images) == 1:
        (single,) = images.values()
        document, media_type = single.manifest, single.media_type
    else:
        document, media_type = index_of(images), OCI_INDEX
    store(document)
    entry = {"mediaType": media_type, "digest": digest_of(document), "size": len(document)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return document
