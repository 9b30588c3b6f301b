"""The steps that most tests share: pushing blobs and images through the ECR operations, and reading refusals."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError
from images import Blob, Image


def begin(client, repo: str) -> str:
    return client.initiate_layer_upload(repositoryName=repo)["uploadId"]


def send_part(client, repo: str, upload: str, first: int, data: bytes) -> dict:
    return client.upload_layer_part(
        repositoryName=repo,
        uploadId=upload,
        partFirstByte=first,
        partLastByte=first + len(data) - 1,
        layerPartBlob=data,
    )


def complete(client, repo: str, upload: str, *digests: str) -> dict:
    return client.complete_layer_upload(repositoryName=repo, uploadId=upload, layerDigests=list(digests))


def push_blob(client, repo: str, blob: Blob, part_bytes: int = 10 * 1024 * 1024) -> None:
    upload = begin(client, repo)
    for first in range(0, len(blob.data), part_bytes):
        send_part(client, repo, upload, first, blob.data[first : first + part_bytes])
    assert complete(client, repo, upload, blob.digest)["layerDigest"] == blob.digest


def push_blobs(client, repo: str, image: Image) -> None:
    for blob in image.blobs:
        push_blob(client, repo, blob)


def put_text(client, repo: str, text: str, tag: str | None = None, **more: object) -> dict:
    if tag is not None:
        more["imageTag"] = tag
    return client.put_image(repositoryName=repo, imageManifest=text, **more)["image"]


def push_image(client, repo: str, image: Image, tag: str | None = None) -> dict:
    push_blobs(client, repo, image)
    return put_text(client, repo, image.text, tag)


@contextmanager
def refused(client, name: str, message: str | None = None, **members: object) -> Iterator[pytest.ExceptionInfo]:
    """The call inside is refused with the modelled exception `name`, its text, and its further members."""
    with pytest.raises(getattr(client.exceptions, name)) as caught:
        yield caught
    answer = caught.value.response
    assert answer["Error"]["Code"] == name
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["ResponseMetadata"]["RequestId"]
    if message is not None:
        assert answer["Error"]["Message"] == message
    found = {member: answer.get(member) for member in members}
    assert found == members


@contextmanager
def refused_unmodelled(code: str, status: int) -> Iterator[pytest.ExceptionInfo]:
    """The call inside is refused with an error that the service model does not list."""
    with pytest.raises(ClientError) as caught:
        yield caught
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def constraint(member: str, detail: str) -> str:
    return f"Invalid parameter at '{member}' failed to satisfy constraint: '{detail}'"


def no_repository(repo: str, account: str) -> str:
    return f"The repository with name '{repo}' does not exist in the registry with id '{account}'"
