"""boto3 against the public registry, and pulls from it over `/v2/`, its only way to read."""

import base64

import pytest
from harness import ACCOUNT, ALIAS
from images import OCI_CONFIG, OCI_GZIP, OCI_MANIFEST, PART_BYTES_MIN, Blob, digest_of, image, index_of, noise
from steps import (
    begin,
    complete,
    constraint,
    no_repository,
    push_blob,
    push_blobs,
    push_image,
    put_text,
    refused,
    refused_unmodelled,
    send_part,
)

UNKNOWN_UPLOAD = "00000000-0000-0000-0000-000000000007"
UNKNOWN_DIGEST = "sha256:" + "0" * 64


def failures_of(answer) -> list[tuple[dict, str]]:
    return [(failure["imageId"], failure["failureCode"]) for failure in answer["failures"]]


class TestRepositories:
    def test_create_and_describe(self, public, registry, fresh_name):
        name = fresh_name()
        created = public.create_repository(repositoryName=name)["repository"]
        assert created["repositoryArn"] == f"arn:aws:ecr-public::{ACCOUNT}:repository/{name}"
        assert created["registryId"] == ACCOUNT
        assert created["repositoryUri"] == f"{registry.public_host}/{ALIAS}/{name}"
        (found,) = public.describe_repositories(repositoryNames=[name])["repositories"]
        assert found == created

    def test_private_and_public_are_apart(self, ecr, public, public_repo):
        with refused(ecr, "RepositoryNotFoundException"):
            ecr.describe_repositories(repositoryNames=[public_repo])
        ecr.create_repository(repositoryName=public_repo)
        with refused(public, "RepositoryAlreadyExistsException"):
            public.create_repository(repositoryName=public_repo)

    @pytest.mark.parametrize("name", ["a", "a" * 206, "Upper", "a__b", "a//b"])
    def test_malformed_name(self, raw_public, name):
        with refused(raw_public, "InvalidParameterException"):
            raw_public.create_repository(repositoryName=name)

    @pytest.mark.parametrize(
        ("exception", "tags"),
        [
            ("InvalidTagParameterException", [{"Key": "aws:mine", "Value": ""}]),
            ("InvalidTagParameterException", [{"Key": "k" * 129, "Value": ""}]),
            ("InvalidTagParameterException", [{"Key": "k", "Value": "v" * 257}]),
            ("TooManyTagsException", [{"Key": f"k{number}", "Value": ""} for number in range(51)]),
        ],
    )
    def test_refused_resource_tags(self, raw_public, fresh_name, exception, tags):
        with refused(raw_public, exception):
            raw_public.create_repository(repositoryName=fresh_name(), tags=tags)

    def test_delete(self, public, public_repo):
        push_image(public, public_repo, image(public_repo), "v1")
        with refused(public, "RepositoryNotEmptyException"):
            public.delete_repository(repositoryName=public_repo)
        public.delete_repository(repositoryName=public_repo, force=True)
        with refused(public, "RepositoryNotFoundException", no_repository(public_repo, ACCOUNT)):
            public.delete_repository(repositoryName=public_repo)
        with refused(public, "RepositoryNotFoundException"):
            public.describe_repositories(repositoryNames=[public_repo])

    def test_paging_with_names(self, raw_public):
        with refused(raw_public, "InvalidParameterException"):
            raw_public.describe_repositories(repositoryNames=["aa"], maxResults=5)
        with refused(raw_public, "InvalidParameterException"):
            raw_public.describe_repositories(nextToken="made up")


class TestRegistry:
    def test_describe(self, public, registry):
        (found,) = public.describe_registries()["registries"]
        assert found["registryId"] == ACCOUNT
        assert found["registryArn"] == f"arn:aws:ecr-public::{ACCOUNT}:registry/{ACCOUNT}"
        assert found["registryUri"] == f"{registry.public_host}/{ALIAS}"
        (alias,) = found["aliases"]
        assert (alias["name"], alias["status"]) == (ALIAS, "ACTIVE")

    def test_by_number_and_by_alias(self, public, public_repo):
        for name in (ACCOUNT, ALIAS):
            assert public.initiate_layer_upload(registryId=name, repositoryName=public_repo)["uploadId"]

    def test_unknown(self, public, public_repo):
        for name in ("123456789012", "nobody"):
            where = {"registryId": name, "repositoryName": public_repo}
            with refused(public, "RegistryNotFoundException"):
                public.initiate_layer_upload(**where)
            with refused(public, "RegistryNotFoundException"):
                public.batch_check_layer_availability(**where, layerDigests=[UNKNOWN_DIGEST])
            with refused(public, "RegistryNotFoundException"):
                public.upload_layer_part(
                    **where, uploadId=UNKNOWN_UPLOAD, partFirstByte=0, partLastByte=0, layerPartBlob=b"x"
                )
            with refused(public, "RegistryNotFoundException"):
                public.complete_layer_upload(**where, uploadId=UNKNOWN_UPLOAD, layerDigests=[UNKNOWN_DIGEST])
            with refused(public, "RegistryNotFoundException"):
                public.put_image(**where, imageManifest="{}")

    def test_operations_that_model_no_unknown_registry(self, public, public_repo):
        where = {"registryId": "123456789012", "repositoryName": public_repo}
        for ask in (public.describe_images, public.describe_image_tags):
            with refused(public, "RepositoryNotFoundException"):
                ask(**where)

    def test_token(self, public):
        data = public.get_authorization_token()["authorizationData"]
        assert base64.b64decode(data["authorizationToken"], validate=True).startswith(b"AWS:")
        assert "proxyEndpoint" not in data

    def test_an_operation_without_a_body_yet(self, public):
        with refused_unmodelled("NotImplemented", 501) as caught:
            public.put_registry_catalog_data(displayName="ours")
        assert "PutRegistryCatalogData" in caught.value.response["Error"]["Message"]


class TestUpload:
    def test_in_parts(self, public, public_repo):
        data = noise(public_repo, PART_BYTES_MIN + 10)
        upload = begin(public, public_repo)
        send_part(public, public_repo, upload, 0, data[:PART_BYTES_MIN])
        with refused(
            public,
            "InvalidLayerPartException",
            f"First byte of the layer part is 0 instead of {PART_BYTES_MIN}",
            lastValidByteReceived=PART_BYTES_MIN - 1,
            registryId=ACCOUNT,
            repositoryName=public_repo,
            uploadId=upload,
        ):
            send_part(public, public_repo, upload, 0, data[:PART_BYTES_MIN])
        send_part(public, public_repo, upload, PART_BYTES_MIN, data[PART_BYTES_MIN:])
        assert complete(public, public_repo, upload, digest_of(data))["layerDigest"] == digest_of(data)

    def test_refusals(self, public, raw_public, public_repo, fresh_name):
        name = fresh_name()
        for ask in (
            lambda: begin(public, name),
            lambda: send_part(public, name, UNKNOWN_UPLOAD, 0, b"x"),
            lambda: complete(public, name, UNKNOWN_UPLOAD, UNKNOWN_DIGEST),
            lambda: public.batch_check_layer_availability(repositoryName=name, layerDigests=[UNKNOWN_DIGEST]),
        ):
            with refused(public, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
                ask()
        with refused(public, "UploadNotFoundException"):
            send_part(public, public_repo, UNKNOWN_UPLOAD, 0, b"x")
        with refused(public, "UploadNotFoundException"):
            complete(public, public_repo, UNKNOWN_UPLOAD, UNKNOWN_DIGEST)
        upload = begin(public, public_repo)
        with refused(public, "EmptyUploadException"):
            complete(public, public_repo, upload, UNKNOWN_DIGEST)
        send_part(public, public_repo, upload, 0, b"small")
        send_part(public, public_repo, upload, 5, b"last")
        with refused(public, "LayerPartTooSmallException"):
            complete(public, public_repo, upload, digest_of(b"smalllast"))
        upload = begin(public, public_repo)
        send_part(public, public_repo, upload, 0, b"bytes")
        with refused(public, "InvalidLayerException"):
            complete(public, public_repo, upload, UNKNOWN_DIGEST)
        push_blob(public, public_repo, Blob(b"twice", OCI_GZIP))
        upload = begin(public, public_repo)
        send_part(public, public_repo, upload, 0, b"twice")
        with refused(public, "LayerAlreadyExistsException"):
            complete(public, public_repo, upload, digest_of(b"twice"))
        text = constraint("layerDigests", "Member must have length greater than or equal to 1")
        with refused(raw_public, "InvalidParameterException", text):
            raw_public.batch_check_layer_availability(repositoryName=public_repo, layerDigests=[])

    def test_more_parts_than_an_upload_may_have(self, public, public_repo):
        upload = begin(public, public_repo)
        for number in range(1000):
            send_part(public, public_repo, upload, number, b"x")
        with refused(public, "LimitExceededException"):
            send_part(public, public_repo, upload, 1000, b"x")


class TestImages:
    def test_push_describe_and_pull(self, public, registry, public_repo):
        pushed = image(public_repo)
        answer = push_image(public, public_repo, pushed, "v1")
        assert answer["imageId"] == {"imageDigest": pushed.digest, "imageTag": "v1"}
        assert answer["imageManifest"] == pushed.text

        (found,) = public.describe_images(repositoryName=public_repo)["imageDetails"]
        assert (found["imageDigest"], found["imageTags"]) == (pushed.digest, ["v1"])
        assert found["imageSizeInBytes"] == sum(len(blob.data) for blob in pushed.blobs)
        assert (found["imageManifestMediaType"], found["artifactMediaType"]) == (OCI_MANIFEST, OCI_CONFIG)
        assert set(found) <= {
            "registryId",
            "repositoryName",
            "imageDigest",
            "imageTags",
            "imageSizeInBytes",
            "imagePushedAt",
            "imageManifestMediaType",
            "artifactMediaType",
        }

        at = f"/v2/{ALIAS}/{public_repo}"
        pulled = registry.http.request("GET", f"{registry.public_url}{at}/manifests/v1", headers={"Accept": "*/*"})
        assert (pulled.status, pulled.data) == (200, pushed.manifest)
        # The same registry under its name on the common port.
        named = registry.http.request(
            "GET", f"{registry.url}{at}/manifests/v1", headers={"Accept": "*/*", "Host": "public.example.org"}
        )
        assert (named.status, named.data) == (200, pushed.manifest)
        for blob in pushed.blobs:
            assert registry.http.request("GET", f"{registry.public_url}{at}/blobs/{blob.digest}").data == blob.data

    def test_tags_with_their_times(self, public, public_repo):
        pushed = image(public_repo)
        push_image(public, public_repo, pushed, "a")
        put_text(public, public_repo, pushed.text, "b")
        one = public.describe_image_tags(repositoryName=public_repo, maxResults=1)
        two = public.describe_image_tags(repositoryName=public_repo, maxResults=1, nextToken=one["nextToken"])
        found = one["imageTagDetails"] + two["imageTagDetails"]
        assert sorted(entry["imageTag"] for entry in found) == ["a", "b"]
        assert all(entry["createdAt"] and entry["imageDetail"]["imageDigest"] == pushed.digest for entry in found)
        with refused(public, "InvalidParameterException"):
            public.describe_image_tags(repositoryName=public_repo, nextToken="made up")

    def test_refusals_of_put(self, public, public_repo, fresh_name):
        pushed = image(public_repo)
        with refused(public, "LayersNotFoundException"):
            put_text(public, public_repo, pushed.text, "v1")
        with refused(public, "ReferencedImagesNotFoundException"):
            put_text(public, public_repo, index_of({"amd64": pushed}).decode(), "v1")
        push_blobs(public, public_repo, pushed)
        with refused(public, "ImageDigestDoesNotMatchException"):
            put_text(public, public_repo, pushed.text, "v1", imageDigest=UNKNOWN_DIGEST)
        with refused(public, "InvalidParameterException", constraint("ImageManifest", "Invalid JSON syntax")):
            put_text(public, public_repo, "{", "v1")
        with refused(public, "RepositoryNotFoundException"):
            put_text(public, fresh_name(), pushed.text, "v1")
        put_text(public, public_repo, pushed.text, "v1")
        with refused(public, "ImageAlreadyExistsException"):
            put_text(public, public_repo, pushed.text, "v1")
        # Every tag moves: the public registry knows no immutable ones.
        other = image(f"{public_repo}-other")
        push_image(public, public_repo, other, "v1")

    def test_delete_and_what_it_refuses(self, public, public_repo, fresh_name):
        images = {name: image(f"{public_repo}-{name}", architecture=name) for name in ("amd64", "arm64")}
        for name, found in images.items():
            push_image(public, public_repo, found, name)
        document = index_of(images)
        put_text(public, public_repo, document.decode(), "multi")
        wanted = [
            ({}, "MissingDigestAndTag"),
            ({"imageDigest": "no digest"}, "InvalidImageDigest"),
            ({"imageTag": "no tag"}, "InvalidImageTag"),
            ({"imageTag": "unknown"}, "ImageNotFound"),
            ({"imageDigest": images["amd64"].digest, "imageTag": "arm64"}, "ImageTagDoesNotMatchDigest"),
            ({"imageDigest": images["amd64"].digest}, "ImageReferencedByManifestList"),
        ]
        answer = public.batch_delete_image(repositoryName=public_repo, imageIds=[image_id for image_id, _ in wanted])
        assert failures_of(answer) == wanted
        answer = public.batch_delete_image(
            repositoryName=public_repo, imageIds=[{"imageTag": "multi"}, {"imageTag": "amd64"}]
        )
        assert answer["failures"] == []
        with refused(public, "RepositoryNotFoundException"):
            public.batch_delete_image(repositoryName=fresh_name(), imageIds=[{"imageTag": "a"}])

    def test_describe_what_is_not_there(self, public, raw_public, public_repo, fresh_name):
        with refused(public, "ImageNotFoundException"):
            public.describe_images(repositoryName=public_repo, imageIds=[{"imageTag": "unknown"}])
        with refused(raw_public, "InvalidParameterException"):
            raw_public.describe_images(repositoryName=public_repo, imageIds=[{"imageTag": "a"}], maxResults=5)
        for ask in (public.describe_images, public.describe_image_tags):
            with refused(public, "RepositoryNotFoundException"):
                ask(repositoryName=fresh_name())
