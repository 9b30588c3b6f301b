"""Shows layerhold at work with clients that know nothing of it: skopeo and boto3.

A real image is pushed in two formats with skopeo and in parts with boto3; the server is killed hard in the middle of
that, started again, and the push goes on at the byte that the server names; everything is pulled back and compared,
digest by digest. Run it with `make demo`.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import botocore.exceptions
from image import Layout, make_image
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "clients"))

from harness import Registry

REPOSITORY = "demo/image"
PARTS_REPOSITORY = "demo/in-parts"
TRANSPORTS = ("containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive", "tarball")
PART_BYTES_MIN = 5 * 1024 * 1024
READ_BYTES = 1 << 20

console = Console(highlight=False)


class Failed(Exception):
    """The demo did not show what it promises; the text says what went wrong."""


class Report:
    """The lines that are printed at the end, and the times that go with them."""

    def __init__(self):
        self.rows: list[tuple[str, str, str]] = []

    def add(self, what: str, outcome: str, seconds: float | None = None) -> None:
        self.rows.append((what, outcome, "" if seconds is None else f"{seconds:.1f} s"))

    def print(self) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print()
        console.print(table)


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def rate(size: float, seconds: float) -> str:
    return f"{megabytes(size)} at {size / 1e6 / max(seconds, 1e-3):,.0f} MB/s"


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder in which files come and go."""
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(top, name)).st_size
            except FileNotFoundError:
                continue
    return total


def progress() -> Progress:
    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
    )


def skopeo_copy(title: str, source: str, target: str, *options: str, grows: Path, total: int | None) -> float:
    """Runs `skopeo copy`, with a bar that follows the folder which the bytes arrive in, and answers its seconds."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    before, started = size_of(grows), time.monotonic()
    process = subprocess.Popen(
        [*command, *options, source, target], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with progress() as bar:
        task = bar.add_task(title, total=total)
        while True:
            try:
                _, complaint = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                arrived = max(0, size_of(grows) - before)
                bar.update(task, completed=arrived if total is None else min(arrived, total))
        if process.returncode != 0:
            raise Failed(f"skopeo copy {source} {target}: {complaint.strip()}")
        seconds = time.monotonic() - started
        final = size_of(grows) - before if total is None else total
        bar.update(task, completed=final, total=final)
    return seconds


def documents(layout: Layout, descriptor: dict) -> Iterator[dict]:
    """The descriptors of everything that is reachable from one, itself included."""
    yield descriptor
    if not descriptor["mediaType"].endswith(("json", "+prettyjws")) or "config" in descriptor["mediaType"]:
        return
    document = json.loads(layout.path(descriptor["digest"]).read_bytes())
    for entry in document.get("manifests", []):
        yield from documents(layout, entry)
    if "config" in document:
        yield document["config"]
        yield from document["layers"]


class Pulled(Layout):
    """An OCI layout that is on disk already."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.tagged = json.loads((folder / "index.json").read_text())["manifests"]

    def descriptor(self, tag: str) -> dict:
        for entry in self.tagged:
            if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag:
                return {name: value for name, value in entry.items() if name != "annotations"}
        raise Failed(f"the image has no tag {tag}")

    def contents(self, tag: str) -> dict[str, int]:
        """Digest and size of every document and blob of one tagged image."""
        return {found["digest"]: found["size"] for found in documents(self, self.descriptor(tag))}

    def image(self, descriptor: dict) -> dict:
        """The manifest of the first image under a descriptor, which may be an index."""
        document = json.loads(self.path(descriptor["digest"]).read_bytes())
        if "manifests" not in document:
            return descriptor
        return self.image(document["manifests"][0])


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def compare(wanted: dict[str, int], pulled: Path) -> int:
    """Hashes every pulled file and holds it against what was pushed; answers how many were compared."""
    layout = Pulled(pulled)
    with progress() as bar:
        task = bar.add_task("comparing digests", total=sum(wanted.values()))
        for digest, size in wanted.items():
            path = layout.path(digest)
            if not path.is_file() or digest_of(path) != digest:
                raise Failed(f"{digest} did not come back as it was pushed")
            bar.advance(task, size)
    return len(wanted)


def compare_docker(pushed: str, folder: Path) -> int:
    """The same for skopeo's own folder format, the only one that keeps a Docker manifest as it is."""
    if digest_of(folder / "manifest.json") != pushed:
        raise Failed(f"the manifest {pushed} did not come back as it was pushed")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    blobs = [manifest["config"], *manifest["layers"]]
    for blob in blobs:
        if digest_of(folder / blob["digest"].partition(":")[2]) != blob["digest"]:
            raise Failed(f"{blob['digest']} did not come back as it was pushed")
    return 1 + len(blobs)


class PartsPush:
    """Pushes one image with boto3, each blob in parts, and can be told to die in the middle of one."""

    def __init__(self, registry: Registry, layout: Pulled, manifest: dict):
        self.registry = registry
        self.client = registry.ecr()
        self.layout = layout
        self.manifest = manifest
        document = json.loads(layout.path(manifest["digest"]).read_bytes())
        blobs = {blob["digest"]: blob for blob in (document["config"], *document["layers"])}
        self.blobs = sorted(blobs.values(), key=lambda blob: blob["size"])
        self.total = sum(blob["size"] for blob in self.blobs)

    def part_bytes(self, blob: dict, advised: int) -> int:
        # At least eight parts where the smallest part allows it, so that there is a middle to kill in.
        return min(advised, max(PART_BYTES_MIN, blob["size"] // 8))

    def send(self, blob: dict, upload: str, first: int, size: int) -> int:
        """Sends one part and answers the first byte of the next."""
        with self.layout.path(blob["digest"]).open("rb") as file:
            file.seek(first)
            data = file.read(size)
        answer = self.client.upload_layer_part(
            repositoryName=PARTS_REPOSITORY,
            uploadId=upload,
            partFirstByte=first,
            partLastByte=first + len(data) - 1,
            layerPartBlob=data,
        )
        return answer["lastByteReceived"] + 1

    def finish(self, blob: dict, upload: str) -> None:
        answer = self.client.complete_layer_upload(
            repositoryName=PARTS_REPOSITORY, uploadId=upload, layerDigests=[blob["digest"]]
        )
        if answer["layerDigest"] != blob["digest"]:
            raise Failed(f"the server computed {answer['layerDigest']} for {blob['digest']}")

    def begin(self) -> tuple[str, int]:
        answer = self.client.initiate_layer_upload(repositoryName=PARTS_REPOSITORY)
        return answer["uploadId"], answer["partSize"]

    def push(self, blob: dict, bar: Progress, task) -> None:
        upload, advised = self.begin()
        position = 0
        while position < blob["size"]:
            after = self.send(blob, upload, position, self.part_bytes(blob, advised))
            bar.advance(task, after - position)
            position = after
        self.finish(blob, upload)

    def push_killed(self, blob: dict, bar: Progress, task) -> tuple[int, int, int]:
        """Pushes a blob through a kill and a restart of the server.

        Answers the bytes that the client had an answer for at the kill, those that the restarted server reported, and
        how long the server took to come back, in milliseconds.
        """
        upload, advised = self.begin()
        size = self.part_bytes(blob, advised)
        acknowledged = 0
        halfway = threading.Event()

        def send_until_it_dies() -> None:
            nonlocal acknowledged
            while acknowledged < blob["size"]:
                try:
                    after = self.send(blob, upload, acknowledged, size)
                except botocore.exceptions.BotoCoreError:
                    return
                bar.advance(task, after - acknowledged)
                acknowledged = after
                if acknowledged >= blob["size"] // 2:
                    halfway.set()

        sender = threading.Thread(target=send_until_it_dies)
        sender.start()
        while not halfway.wait(0.2):
            if not sender.is_alive():
                raise Failed("the server went away by itself")
        # The sender is already at the next part, and that one is cut off.
        self.registry.kill()
        sender.join()
        started = time.monotonic()
        self.registry.start()
        back = round((time.monotonic() - started) * 1000)

        # A client that does not know how far it came asks by sending its first byte again: the refusal names the last
        # byte that is safe.
        try:
            self.send(blob, upload, 0, 1)
            raise Failed("the server took a part twice")
        except self.client.exceptions.InvalidLayerPartException as refusal:
            reported = refusal.response["lastValidByteReceived"] + 1
        if reported < acknowledged:
            raise Failed(f"{acknowledged - reported} acknowledged bytes are gone")
        bar.advance(task, reported - acknowledged)
        position = reported
        while position < blob["size"]:
            after = self.send(blob, upload, position, size)
            bar.advance(task, after - position)
            position = after
        self.finish(blob, upload)
        return acknowledged, reported, back

    def put(self, tag: str) -> None:
        answer = self.client.put_image(
            repositoryName=PARTS_REPOSITORY,
            imageTag=tag,
            imageManifest=self.layout.path(self.manifest["digest"]).read_bytes().decode(),
            imageManifestMediaType=self.manifest["mediaType"],
        )
        if answer["image"]["imageId"]["imageDigest"] != self.manifest["digest"]:
            raise Failed("the server computed another digest for the manifest")


def bring_image(arguments: argparse.Namespace, folder: Path, cache: Path, report: Report) -> tuple[Pulled, str]:
    """The image as an OCI layout under the tag `image`, and the tag of the one to push in Docker's format."""
    started = time.monotonic()
    if arguments.image:
        transport = arguments.image.partition(":")[0]
        name = arguments.image if transport in TRANSPORTS else f"docker://{arguments.image}"
        skopeo_copy(f"fetching {name}", name, f"oci:{folder}:image", "--all", grows=folder, total=None)
        origin, docker = name, "image"
    else:
        with console.status("making an image") as status:
            origin = make_image(
                folder,
                cache / "packages",
                small=arguments.small,
                step=lambda text: status.update(f"making an image: {text}"),
            )
        docker = "docker"
    layout = Pulled(folder)
    contents = layout.contents("image")
    kinds = {}
    for found in documents(layout, layout.descriptor("image")):
        if "layer" in found["mediaType"] or "rootfs" in found["mediaType"]:
            kind = "zstd" if "zstd" in found["mediaType"] else "gzip" if "gzip" in found["mediaType"] else "plain"
            kinds[found["digest"]] = kind
    counted = ", ".join(f"{list(kinds.values()).count(kind)} {kind}" for kind in sorted(set(kinds.values())))
    manifests = json.loads(layout.path(layout.descriptor("image")["digest"]).read_bytes()).get("manifests", [])
    platforms = (
        " and ".join(entry.get("platform", {}).get("architecture", "?") for entry in manifests) or "one platform"
    )
    report.add("image", f"from {origin}", time.monotonic() - started)
    report.add("", f"{platforms}; layers: {counted}; {megabytes(sum(contents.values()))} in all")
    return layout, docker


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """An empty folder, removed afterwards: it holds several copies of the image."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Play:
    """The acts of the demo, in order; each adds its lines to the report."""

    def __init__(self, registry: Registry, layout: Pulled, docker_tag: str, work: Path, report: Report):
        self.registry = registry
        self.layout = layout
        self.work = work
        self.report = report
        self.target = f"docker://{registry.host}/{REPOSITORY}"
        self.contents = layout.contents("image")
        self.total = sum(self.contents.values())
        self.docker_tag = docker_tag
        self.docker_digest = work / "docker-digest"
        self.docker_total = sum(layout.contents(docker_tag).values())
        self.compared = 0

    def push_oci(self) -> None:
        seconds = skopeo_copy(
            "skopeo pushes, OCI format",
            f"oci:{self.layout.folder}:image",
            f"{self.target}:oci",
            "--all",
            grows=self.registry.data,
            total=self.total,
        )
        self.report.add("skopeo push, OCI", f"{rate(self.total, seconds)}, all platforms", seconds)

    def push_docker(self) -> None:
        single = self.layout.image(self.layout.descriptor(self.docker_tag))
        if any("zstd" in found["mediaType"] for found in documents(self.layout, single)):
            self.report.add("skopeo push, Docker", "left out: Docker's format has no name for zstd layers")
            return
        # The same layers again, under a manifest of the other format: skopeo asks and need not send them.
        seconds = skopeo_copy(
            "skopeo pushes, Docker format",
            f"oci:{self.layout.folder}:{self.docker_tag}",
            f"{self.target}:docker",
            "--format=v2s2",
            f"--digestfile={self.docker_digest}",
            grows=self.registry.data,
            total=self.docker_total,
        )
        self.report.add("skopeo push, Docker", "the layers were there already", seconds)

    def push_in_parts(self) -> PartsPush:
        push = PartsPush(self.registry, self.layout, self.layout.image(self.layout.descriptor("image")))
        push.client.create_repository(repositoryName=PARTS_REPOSITORY)
        *others, largest = push.blobs
        started = time.monotonic()
        with progress() as bar:
            task = bar.add_task("boto3 pushes, server killed", total=push.total)
            for blob in others:
                push.push(blob, bar, task)
            acknowledged, reported, back = push.push_killed(largest, bar, task)
        push.put("parts")
        seconds = time.monotonic() - started
        self.report.add("boto3 push in parts", f"{rate(push.total, seconds)}, the restart included", seconds)
        cut = "with the next part on its way" if acknowledged < largest["size"] else "before it was completed"
        self.report.add("  killed hard", f"at byte {acknowledged:,} of {largest['size']:,}, {cut}")
        self.report.add(
            "  started again", f"answering after {back} ms; it reported byte {reported:,}, the push went on there"
        )
        return push

    def pull_oci(self) -> None:
        folder = self.work / "oci"
        seconds = skopeo_copy(
            "skopeo pulls, OCI format",
            f"{self.target}:oci",
            f"oci:{folder}:image",
            "--all",
            grows=folder,
            total=self.total,
        )
        self.report.add("skopeo pull, OCI", rate(self.total, seconds), seconds)
        self.compared += compare(self.contents, folder)
        shutil.rmtree(folder)

    def pull_docker(self) -> None:
        if not self.docker_digest.exists():
            return
        folder = self.work / "docker"
        seconds = skopeo_copy(
            "skopeo pulls, Docker format",
            f"{self.target}:docker",
            f"dir:{folder}",
            grows=folder,
            total=self.docker_total,
        )
        self.report.add("skopeo pull, Docker", rate(self.docker_total, seconds), seconds)
        self.compared += compare_docker(self.docker_digest.read_text().strip(), folder)
        shutil.rmtree(folder)

    def pull_parts(self, push: PartsPush) -> None:
        folder = self.work / "parts"
        source = f"docker://{self.registry.host}/{PARTS_REPOSITORY}:parts"
        seconds = skopeo_copy(
            "skopeo pulls what boto3 pushed", source, f"oci:{folder}:image", grows=folder, total=push.total
        )
        self.report.add("skopeo pull of the parts", rate(push.total, seconds), seconds)
        wanted = [push.manifest, *push.blobs]
        self.compared += compare({found["digest"]: found["size"] for found in wanted}, folder)
        shutil.rmtree(folder)

    def finish(self, push: PartsPush) -> None:
        self.report.add("digests", f"{self.compared} of {self.compared} equal to what was pushed")
        held, given = megabytes(size_of(self.registry.data)), megabytes(self.total + push.total)
        self.report.add("store", f"{held} on disk for {given} in two repositories: what both have is kept once")
        if self.registry.stop() != 0:
            raise Failed(f"the server did not shut down cleanly:\n{self.registry.last_log()}")


def play(arguments: argparse.Namespace, work: Path, cache: Path) -> Report:
    report = Report()
    layout, docker_tag = bring_image(arguments, work / "made", cache, report)
    with Registry(arguments.server, work / "store") as registry:
        report.add("server", f"{registry.url}, embedded store, both protocols on one port")
        acts = Play(registry, layout, docker_tag, work, report)
        acts.push_oci()
        acts.push_docker()
        push = acts.push_in_parts()
        acts.pull_oci()
        acts.pull_docker()
        acts.pull_parts(push)
        acts.finish(push)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Push, kill, resume and pull a real image.")
    parser.add_argument("--server", type=Path, required=True, help="the layerhold binary")
    parser.add_argument("--image", help="an image that skopeo can name, instead of one made here")
    parser.add_argument("--small", action="store_true", help="make an image of some 20 MB instead of more than 300")
    arguments = parser.parse_args()
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerhold"
    cache = Path(os.environ.get("LAYERHOLD_CACHE") or default) / "demo"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with fresh_folder(cache / f"run-{os.getpid()}") as work:
        try:
            play(arguments, work, cache).print()
        except (Failed, RuntimeError, botocore.exceptions.ClientError) as problem:
            console.print(f"\n[bold red]FAILED[/] {problem}")
            return 1
    console.print("\n[bold green]OK[/] every byte that was pushed came back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
