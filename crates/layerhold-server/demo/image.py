"""Makes a real image from Debian packages: two architectures, four layers each, gzip and zstd, as an OCI layout.

Nothing of this machine is changed: apt works on folders of its own, so that packages of a foreign architecture can be
fetched without being installable. Without apt or without a network the files of this machine stand in for packages.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zstandard

ARCHITECTURES = ("amd64", "arm64")

# Package names that do not change with Debian's releases. The Docker format has no name for zstd, so the layers that
# are compressed with gzip make up the image that is pushed in that format.
LAYERS = (
    ("gzip", ("base-files", "bash", "coreutils", "dash", "libc6", "libc-bin", "perl-base", "tar")),
    ("zstd", ("git", "gdb", "valgrind")),
    ("gzip", ("docker.io", "containerd")),
    ("zstd", ("podman", "buildah", "skopeo")),
)
LAYERS_SMALL = (
    ("gzip", ("base-files", "bash", "dash", "libc-bin")),
    ("zstd", ("coreutils", "tar", "perl-base")),
    ("gzip", ("libc6",)),
)

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+"

APT_CONFIG = """
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; "arm64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
"""


class Unavailable(Exception):
    """Packages cannot be had on this machine; the text says why."""


def package_files(packages: Path, layers: tuple) -> dict[tuple[str, str], Path] | None:
    """The downloaded file of every (package, architecture), or None if one is missing."""
    found = {}
    for _, names in layers:
        for name in names:
            for architecture in ARCHITECTURES:
                files = [*packages.glob(f"{name}_*_{architecture}.deb"), *packages.glob(f"{name}_*_all.deb")]
                if not files:
                    return None
                found[name, architecture] = files[0]
    return found


def download_packages(packages: Path, layers: tuple) -> None:
    """Fetches what is missing with apt, into a folder that only ever holds complete files."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("this machine has no apt-get")
    packages.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}:{architecture}" for _, names in layers for name in names for architecture in ARCHITECTURES]
    with tempfile.TemporaryDirectory(dir=packages) as scratch:
        folder = Path(scratch)
        (folder / "status").touch()
        for part in ("lists/partial", "cache/archives/partial", "new"):
            (folder / part).mkdir(parents=True)
        (folder / "apt.conf").write_text(APT_CONFIG.format(folder=folder))
        environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
        for command in (["update"], ["download", *wanted]):
            done = subprocess.run(
                ["apt-get", "-q", *command],
                cwd=folder / "new",
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode != 0:
                raise Unavailable(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
        for file in (folder / "new").glob("*.deb"):
            file.rename(packages / file.name)


class Hashing:
    """Passes bytes on to a file and remembers their digest and number."""

    def __init__(self, inner):
        self.inner = inner
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        self.inner.write(data)
        return len(data)

    def flush(self) -> None:
        self.inner.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256.hexdigest()}"


@dataclass(frozen=True)
class Layer:
    descriptor: dict
    diff_id: str


class Layout:
    """An OCI layout under construction: blobs under the names of their digests, and an index of what is tagged."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self.tagged: list[dict] = []

    def path(self, digest: str) -> Path:
        return self.blobs / digest.partition(":")[2]

    def add_document(self, document: dict, media_type: str) -> dict:
        data = json.dumps(document, indent=2).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_layer(self, compression: str, fill: Callable[[tarfile.TarFile], None]) -> Layer:
        """Writes one layer in a single pass: archive, digest of the archive, compression, digest of the result."""
        scratch = self.blobs / "unfinished"
        with scratch.open("wb") as file:
            packed = Hashing(file)
            if compression == "zstd":
                stream = zstandard.ZstdCompressor(level=3, threads=-1).stream_writer(packed, closefd=False)
            else:
                stream = gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=4, mtime=0)
            with stream:
                plain = Hashing(stream)
                with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    fill(archive)
        scratch.rename(self.path(packed.digest))
        descriptor = {"mediaType": LAYER + compression, "digest": packed.digest, "size": packed.size}
        return Layer(descriptor, plain.digest)

    def add_image(self, architecture: str, layers: list[Layer]) -> dict:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/bash"], "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add_document(config, CONFIG),
            "layers": [layer.descriptor for layer in layers],
        }
        return self.add_document(manifest, MANIFEST)

    def tag(self, descriptor: dict, tag: str) -> None:
        self.tagged.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}})

    def finish(self) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.tagged}
        (self.folder / "index.json").write_text(json.dumps(index, indent=2))
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def unpack_into(archive: tarfile.TarFile, package: Path, seen: set[str]) -> None:
    """Copies the files of one Debian package into a layer; a folder that several packages share is written once."""
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=process.stdout, mode="r|") as source:
        for entry in source:
            if entry.name in seen:
                continue
            seen.add(entry.name)
            archive.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
    if process.wait() != 0:
        raise Unavailable(f"dpkg-deb cannot read {package.name}")


def machine_files(bytes_wanted: int) -> list[Path]:
    """Plain files of this machine, the large ones first, until they are enough."""
    found = []
    for top in ("/usr/bin", "/usr/lib"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    found.append((path.stat().st_size, path))
    found.sort(reverse=True)
    chosen, total = [], 0
    for size, path in found:
        if total >= bytes_wanted:
            break
        chosen.append(path)
        total += size
    return chosen


def make_image(folder: Path, packages: Path, *, small: bool, step: Callable[[str], None]) -> str:
    """Writes the layout and answers in a few words what it was made of.

    Two names are tagged: `image`, the index over both architectures, and `docker`, a single image that also Docker's
    older format can describe. `step` is told what is being worked on.
    """
    layers = LAYERS_SMALL if small else LAYERS
    layout = Layout(folder)
    try:
        if package_files(packages, layers) is None:
            step("fetching Debian packages for two architectures")
            download_packages(packages, layers)
        files = package_files(packages, layers)
        if files is None:
            raise Unavailable("apt-get left packages out")
        origin = f"{len(files)} Debian packages"
    except Unavailable as reason:
        files = None
        origin = f"files of this machine, the same for both architectures ({reason})"
        chosen = machine_files((30 if small else 330) << 20)

    images = []
    for architecture in ARCHITECTURES:
        made = []
        for number, (compression, names) in enumerate(layers):
            step(f"{architecture}: layer {number + 1} of {len(layers)}, {compression}")

            def fill(archive: tarfile.TarFile, number=number, names=names, architecture=architecture) -> None:
                seen: set[str] = set()
                if files is None:
                    for path in chosen[number :: len(layers)]:
                        archive.add(path, arcname=str(path).lstrip("/"), recursive=False)
                    return
                for name in names:
                    unpack_into(archive, files[name, architecture], seen)

            made.append(layout.add_layer(compression, fill))
        images.append((architecture, layout.add_image(architecture, made)))
        if architecture == ARCHITECTURES[0]:
            plain = [layer for layer, (compression, _) in zip(made, layers, strict=True) if compression == "gzip"]
            layout.tag(layout.add_image(architecture, plain), "docker")
    entries = [{**found, "platform": {"architecture": name, "os": "linux"}} for name, found in images]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    layout.tag(layout.add_document(document, INDEX), "image")
    layout.finish()
    return origin
