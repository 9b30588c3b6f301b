"""Hard kills: what was acknowledged is there after a restart, and an upload goes on at the byte the server names."""

import http.client
import json
import threading

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from harness import skopeo, skopeo_copy
from images import OCI_MANIFEST, PART_BYTES_MIN, digest_of, image, noise, write_layout
from steps import begin, complete, push_image, refused, send_part

REPO = "killed/repository"


def test_acknowledged_work_survives(start, tmp_path):
    registry = start()
    ecr = registry.ecr()
    ecr.create_repository(repositoryName=REPO)
    pushed = image("survives", size=400_000)
    push_image(ecr, REPO, pushed, "v1")
    registry.kill()

    registry.start()
    (found,) = ecr.batch_get_image(repositoryName=REPO, imageIds=[{"imageTag": "v1"}])["images"]
    assert found["imageManifest"] == pushed.text
    skopeo_copy(f"docker://{registry.host}/{REPO}:v1", f"dir:{tmp_path}/back")
    for blob in pushed.blobs:
        assert (tmp_path / "back" / blob.digest.partition(":")[2]).read_bytes() == blob.data


def test_an_upload_in_parts_goes_on(start):
    registry = start()
    ecr = registry.ecr()
    ecr.create_repository(repositoryName=REPO)
    data = noise("parts", 3 * PART_BYTES_MIN + 77)
    upload = begin(ecr, REPO)
    for first in (0, PART_BYTES_MIN):
        send_part(ecr, REPO, upload, first, data[first : first + PART_BYTES_MIN])
    registry.kill()

    registry.start()
    # A client that lost the answer to its last part sends it again, and learns where to go on.
    with refused(ecr, "InvalidLayerPartException", lastValidByteReceived=2 * PART_BYTES_MIN - 1) as caught:
        send_part(ecr, REPO, upload, PART_BYTES_MIN, data[PART_BYTES_MIN : 2 * PART_BYTES_MIN])
    first = caught.value.response["lastValidByteReceived"] + 1
    send_part(ecr, REPO, upload, first, data[first : first + PART_BYTES_MIN])
    first += PART_BYTES_MIN
    send_part(ecr, REPO, upload, first, data[first:])
    assert complete(ecr, REPO, upload, digest_of(data))["layerDigest"] == digest_of(data)


def test_an_upload_of_chunks_goes_on_over_oci(start):
    registry = start()
    data = noise("chunks", 3_000_000)

    def call(method, path, body=None, **headers):
        url = path if path.startswith("http") else registry.url + path
        return registry.http.request(
            method, url, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    answer = call("POST", f"/v2/{REPO}/blobs/uploads/")
    assert answer.status == 202
    answer = call("PATCH", answer.headers["Location"], data[:1_000_000], Content_Range="0-999999")
    assert (answer.status, answer.headers["Range"]) == (202, "0-999999")
    location = answer.headers["Location"]
    registry.kill()

    registry.start()
    answer = call("GET", location)
    assert (answer.status, answer.headers["Range"]) == (204, "0-999999")
    answer = call("PATCH", answer.headers["Location"], data[:500_000], Content_Range="0-499999")
    assert answer.status == 416
    answer = call("PATCH", location, data[1_000_000:], Content_Range="1000000-2999999")
    assert answer.status == 202
    location = answer.headers["Location"]
    answer = call("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest_of(data)}")
    assert answer.status == 201
    assert call("GET", f"/v2/{REPO}/blobs/{digest_of(data)}").data == data


def test_killed_inside_a_chunk(start):
    registry = start()
    data = noise("inside", 8_000_000)

    def call(method, path, body=None, **headers):
        return registry.http.request(method, registry.url + path, body=body, headers=headers)

    path = call("POST", f"/v2/{REPO}/blobs/uploads/").headers["Location"].removeprefix(registry.url)
    # One chunk is acknowledged; of the next one half is sent when the server dies.
    assert call("PATCH", path, data[:1_000_000], **{"Content-Range": "0-999999"}).status == 202
    connection = http.client.HTTPConnection(registry.host)
    connection.putrequest("PATCH", path)
    connection.putheader("Content-Range", f"1000000-{len(data) - 1}")
    connection.putheader("Content-Length", str(len(data) - 1_000_000))
    connection.endheaders()
    connection.send(data[1_000_000:4_000_000])
    registry.kill()
    connection.close()

    registry.start()
    answer = call("GET", path)
    assert answer.status == 204
    durable = int(answer.headers["Range"].partition("-")[2]) + 1
    assert 1_000_000 <= durable <= 4_000_000
    answer = call("PATCH", path, data[durable:], **{"Content-Range": f"{durable}-{len(data) - 1}"})
    assert answer.status == 202
    path = answer.headers["Location"].removeprefix(registry.url)
    answer = call("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest_of(data)}")
    assert answer.status == 201
    assert call("GET", f"/v2/{REPO}/blobs/{digest_of(data)}").data == data


def test_killed_under_a_pushing_skopeo(start, tmp_path):
    registry = start()
    document = write_layout(tmp_path / "from", {"amd64": image("skopeo", layers=4, size=8_000_000)})
    target = f"docker://{registry.host}/{REPO}:v1"
    push = threading.Thread(target=lambda: skopeo("copy", "--dest-tls-verify=false", source, target, check=False))
    source = f"oci:{tmp_path}/from:latest"
    push.start()
    # As soon as bytes of a layer reach the data directory.
    while push.is_alive() and sum(f.stat().st_size for f in registry.data.rglob("*") if f.is_file()) < 4_000_000:
        pass
    registry.kill()
    push.join()

    registry.start()
    skopeo_copy(source, target)
    answer = registry.http.request("GET", f"{registry.url}/v2/{REPO}/manifests/v1", headers={"Accept": OCI_MANIFEST})
    assert answer.data == document


def test_killed_under_many_small_pushes(start):
    """Whatever was answered before the kill is there; what was not is there whole or not at all."""
    registry = start()
    ecr = registry.ecr()
    ecr.create_repository(repositoryName=REPO)
    answered = []
    stop = threading.Event()

    def push() -> None:
        for number in range(10_000):
            made = image(f"many-{number}", layers=1, size=100)
            try:
                push_image(ecr, REPO, made, f"t{number}")
            except (BotoCoreError, ClientError):
                return
            answered.append((number, made))
            if len(answered) >= 20:
                stop.set()

    worker = threading.Thread(target=push)
    worker.start()
    assert stop.wait(120)
    registry.kill()
    worker.join()

    registry.start()
    for number, made in answered:
        (found,) = ecr.batch_get_image(repositoryName=REPO, imageIds=[{"imageTag": f"t{number}"}])["images"]
        assert found["imageManifest"] == made.text
    listed = ecr.get_paginator("list_images").paginate(repositoryName=REPO)
    for entry in (entry for page in listed for entry in page["imageIds"]):
        (found,) = ecr.batch_get_image(repositoryName=REPO, imageIds=[entry])["images"]
        document = json.loads(found["imageManifest"])
        digests = [blob["digest"] for blob in (document["config"], *document["layers"])]
        layers = ecr.batch_check_layer_availability(repositoryName=REPO, layerDigests=digests)["layers"]
        assert [layer["layerAvailability"] for layer in layers] == ["AVAILABLE"] * len(digests)


@pytest.mark.parametrize("what", ["stopped", "killed"])
def test_starts_again_and_again(start, what):
    registry = start()
    for _ in range(3):
        if what == "stopped":
            assert registry.stop() == 0
        else:
            registry.kill()
        registry.start()
