"""skopeo in both directions, in both formats, between the two protocols, and against both registries."""

import json
from pathlib import Path

import pytest
from harness import ALIAS, skopeo, skopeo_copy
from images import DOCKER_MANIFEST, OCI_INDEX, digest_of, image, index_of, write_layout
from steps import push_image, put_text


def blobs_of(layout: Path) -> dict[str, bytes]:
    """Every blob of an OCI layout, after a look that each is what its name says."""
    found = {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}
    for name, data in found.items():
        assert digest_of(data) == f"sha256:{name}"
    return found


def manifest(registry, repo, reference):
    answer = registry.http.request("GET", f"{registry.url}/v2/{repo}/manifests/{reference}", headers={"Accept": "*/*"})
    assert answer.status == 200
    return answer


def test_oci_image_and_back(registry, fresh_name, tmp_path):
    repo = fresh_name()
    write_layout(tmp_path / "from", {"amd64": image(repo, layers=4, size=200_000)})
    skopeo_copy(f"oci:{tmp_path}/from:latest", f"docker://{registry.host}/{repo}:v1")
    skopeo_copy(f"docker://{registry.host}/{repo}:v1", f"oci:{tmp_path}/back:latest")
    assert blobs_of(tmp_path / "back") == blobs_of(tmp_path / "from")


def test_docker_image_and_back(registry, ecr, fresh_name, tmp_path):
    repo = fresh_name()
    (tmp_path / "image").mkdir()
    pushed = image(repo, docker=True)
    # skopeo's own folder format keeps a Docker manifest as it is.
    (tmp_path / "image" / "manifest.json").write_bytes(pushed.manifest)
    (tmp_path / "image" / "version").write_text("Directory Transport Version: 1.1\n")
    for blob in pushed.blobs:
        (tmp_path / "image" / blob.digest.partition(":")[2]).write_bytes(blob.data)
    skopeo_copy(f"dir:{tmp_path}/image", f"docker://{registry.host}/{repo}:v1")

    answer = manifest(registry, repo, "v1")
    assert (answer.data, answer.headers["Content-Type"]) == (pushed.manifest, DOCKER_MANIFEST)
    (found,) = ecr.batch_get_image(repositoryName=repo, imageIds=[{"imageTag": "v1"}])["images"]
    assert found["imageManifest"] == pushed.text
    skopeo_copy(f"docker://{registry.host}/{repo}:v1", f"dir:{tmp_path}/back")
    for blob in pushed.blobs:
        assert (tmp_path / "back" / blob.digest.partition(":")[2]).read_bytes() == blob.data
    assert (tmp_path / "back" / "manifest.json").read_bytes() == pushed.manifest


def test_converted_to_docker_on_the_way(registry, fresh_name, tmp_path):
    repo = fresh_name()
    # One layer: zstd, which the second would be, has no name in Docker's format.
    write_layout(tmp_path / "from", {"amd64": image(repo, layers=1)})
    skopeo_copy(f"oci:{tmp_path}/from:latest", f"docker://{registry.host}/{repo}:v1", "--format=v2s2")
    assert json.loads(manifest(registry, repo, "v1").data)["mediaType"] == DOCKER_MANIFEST


def test_two_architectures(registry, ecr, fresh_name, tmp_path):
    repo = fresh_name()
    images = {name: image(f"{repo}-{name}", architecture=name) for name in ("amd64", "arm64")}
    document = write_layout(tmp_path / "from", images)
    skopeo_copy(f"oci:{tmp_path}/from:latest", f"docker://{registry.host}/{repo}:multi", "--all")
    answer = manifest(registry, repo, "multi")
    assert (answer.data, answer.headers["Content-Type"]) == (document, OCI_INDEX)
    skopeo_copy(f"docker://{registry.host}/{repo}:multi", f"oci:{tmp_path}/back:latest", "--all")
    assert blobs_of(tmp_path / "back") == blobs_of(tmp_path / "from")

    inspected = json.loads(
        skopeo(
            "inspect", "--tls-verify=false", "--override-arch=arm64", f"docker://{registry.host}/{repo}:multi"
        ).stdout
    )
    assert inspected["Architecture"] == "arm64"
    (found,) = ecr.batch_get_image(repositoryName=repo, imageIds=[{"imageTag": "multi"}])["images"]
    assert found["imageManifest"].encode() == document


def test_pushed_over_ecr_pulled_by_skopeo(registry, ecr, repo, tmp_path):
    images = {name: image(f"{repo}-{name}", architecture=name) for name in ("amd64", "arm64")}
    for found in images.values():
        push_image(ecr, repo, found)
    document = index_of(images)
    put_text(ecr, repo, document.decode(), "multi")
    skopeo_copy(f"docker://{registry.host}/{repo}:multi", f"oci:{tmp_path}/back:latest", "--all")
    pulled = blobs_of(tmp_path / "back")
    for found in images.values():
        assert pulled[found.digest.partition(":")[2]] == found.manifest
        for blob in found.blobs:
            assert pulled[blob.digest.partition(":")[2]] == blob.data


def test_from_repository_to_repository(registry, ecr, repo, fresh_name):
    pushed = image(repo)
    push_image(ecr, repo, pushed, "v1")
    other = fresh_name()
    skopeo_copy(f"docker://{registry.host}/{repo}:v1", f"docker://{registry.host}/{other}:v2")
    assert manifest(registry, other, "v2").data == pushed.manifest


def test_tags_and_deletion(registry, ecr, repo):
    pushed = image(repo)
    push_image(ecr, repo, pushed, "b")
    for tag in ("a", "c"):
        put_text(ecr, repo, pushed.text, tag)
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{registry.host}/{repo}").stdout)
    assert listed["Tags"] == ["a", "b", "c"]
    # skopeo deletes by digest, and all tags go with the image.
    skopeo("delete", "--tls-verify=false", f"docker://{registry.host}/{repo}:a")
    assert ecr.list_images(repositoryName=repo)["imageIds"] == []


def test_an_immutable_tag_says_why(registry, ecr, repo, tmp_path):
    ecr.put_image_tag_mutability(repositoryName=repo, imageTagMutability="IMMUTABLE")
    for name in ("one", "two"):
        write_layout(tmp_path / name, {"amd64": image(f"{repo}-{name}")})
    target = f"docker://{registry.host}/{repo}:v1"
    skopeo_copy(f"oci:{tmp_path}/one:latest", target)
    # The same image again is no change, and so no refusal.
    skopeo_copy(f"oci:{tmp_path}/one:latest", target)
    with pytest.raises(RuntimeError, match="cannot be overwritten because the tag is immutable"):
        skopeo_copy(f"oci:{tmp_path}/two:latest", target)


def test_public_registry(registry, public, fresh_name, tmp_path):
    repo = fresh_name()
    write_layout(tmp_path / "from", {"amd64": image(repo)})
    at = f"docker://{registry.public_host}/{ALIAS}/{repo}:v1"
    skopeo_copy(f"oci:{tmp_path}/from:latest", at)
    skopeo_copy(at, f"oci:{tmp_path}/back:latest")
    assert blobs_of(tmp_path / "back") == blobs_of(tmp_path / "from")
    (found,) = public.describe_images(repositoryName=repo)["imageDetails"]
    assert found["imageTags"] == ["v1"]
