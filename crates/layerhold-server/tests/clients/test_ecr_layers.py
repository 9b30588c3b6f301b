"""boto3 against the private layer operations: whole pushes, and every refusal that a client can provoke."""

import uuid

import pytest
from harness import ACCOUNT
from images import OCI_CONFIG, OCI_GZIP, PART_BYTES_MIN, Blob, digest_of, image, noise
from steps import begin, complete, constraint, no_repository, push_blob, push_image, refused, send_part

UNKNOWN_UPLOAD = str(uuid.UUID(int=7))
UNKNOWN_DIGEST = "sha256:" + "0" * 64
LAYER_DIGEST_PATTERN = "[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+"


def test_a_layer_arrives_in_parts(ecr, repo):
    data = noise(repo, 2 * PART_BYTES_MIN + 12345)
    begun = ecr.initiate_layer_upload(repositoryName=repo)
    upload = begun["uploadId"]
    assert str(uuid.UUID(upload)) == upload
    assert begun["partSize"] == 10 * 1024 * 1024

    answer = send_part(ecr, repo, upload, 0, data[:PART_BYTES_MIN])
    assert answer["lastByteReceived"] == PART_BYTES_MIN - 1
    assert (answer["registryId"], answer["repositoryName"], answer["uploadId"]) == (ACCOUNT, repo, upload)
    send_part(ecr, repo, upload, PART_BYTES_MIN, data[PART_BYTES_MIN : 2 * PART_BYTES_MIN])
    send_part(ecr, repo, upload, 2 * PART_BYTES_MIN, data[2 * PART_BYTES_MIN :])

    answer = complete(ecr, repo, upload, digest_of(data))
    assert answer["layerDigest"] == digest_of(data)
    assert (answer["registryId"], answer["repositoryName"], answer["uploadId"]) == (ACCOUNT, repo, upload)

    found = ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=[digest_of(data)])
    (layer,) = found["layers"]
    assert (layer["layerAvailability"], layer["layerSize"]) == ("AVAILABLE", len(data))
    assert "mediaType" not in layer, "no manifest has said yet what this blob is"


def test_two_uploads_run_side_by_side(ecr, repo):
    one, two = begin(ecr, repo), begin(ecr, repo)
    send_part(ecr, repo, one, 0, b"one")
    send_part(ecr, repo, two, 0, b"two")
    assert complete(ecr, repo, two, digest_of(b"two"))["layerDigest"] == digest_of(b"two")
    assert complete(ecr, repo, one, digest_of(b"one"))["layerDigest"] == digest_of(b"one")


def test_the_largest_part_is_taken_and_a_larger_one_refused(ecr, repo):
    data = noise("largest", 20 * 1024 * 1024)
    upload = begin(ecr, repo)
    with refused(ecr, "InvalidParameterException"):
        send_part(ecr, repo, upload, 0, data + b"!")
    send_part(ecr, repo, upload, 0, data)
    assert complete(ecr, repo, upload, digest_of(data))["layerDigest"] == digest_of(data)


def test_one_matching_digest_is_enough(ecr, repo):
    upload = begin(ecr, repo)
    send_part(ecr, repo, upload, 0, b"several digests")
    answer = complete(ecr, repo, upload, UNKNOWN_DIGEST, digest_of(b"several digests"), "md5:aa")
    assert answer["layerDigest"] == digest_of(b"several digests")


def test_digests_of_other_algorithms_alone_verify_nothing(ecr, repo):
    upload = begin(ecr, repo)
    send_part(ecr, repo, upload, 0, b"unverified")
    assert complete(ecr, repo, upload, "md5:aa")["layerDigest"] == digest_of(b"unverified")


class TestAvailability:
    def test_what_is_known_of_each_digest(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")
        asked = [
            pushed.config.digest,
            UNKNOWN_DIGEST,
            "not a digest",
            "",
            pushed.layers[0].digest,
            pushed.config.digest,
        ]
        answer = ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=asked)

        config = {
            "layerDigest": pushed.config.digest,
            "layerAvailability": "AVAILABLE",
            "layerSize": len(pushed.config.data),
            "mediaType": OCI_CONFIG,
        }
        layer = {
            "layerDigest": pushed.layers[0].digest,
            "layerAvailability": "AVAILABLE",
            "layerSize": len(pushed.layers[0].data),
            "mediaType": OCI_GZIP,
        }
        absent = {"layerDigest": UNKNOWN_DIGEST, "layerAvailability": "UNAVAILABLE"}
        assert answer["layers"] == [config, absent, layer, config]
        failures = [(failure.get("layerDigest"), failure["failureCode"]) for failure in answer["failures"]]
        assert failures == [("not a digest", "InvalidLayerDigest"), ("", "MissingLayerDigest")]

    def test_failures_are_an_empty_list_when_there_are_none(self, ecr, repo):
        answer = ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=["sha512:ab"])
        assert answer["failures"] == []
        assert answer["layers"] == [{"layerDigest": "sha512:ab", "layerAvailability": "UNAVAILABLE"}]

    def test_a_sibling_repository_does_not_count(self, ecr, repo, fresh_name):
        sibling = fresh_name()
        ecr.create_repository(repositoryName=sibling)
        push_blob(ecr, sibling, Blob(b"elsewhere", OCI_GZIP))
        answer = ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=[digest_of(b"elsewhere")])
        assert answer["layers"][0]["layerAvailability"] == "UNAVAILABLE"

    @pytest.mark.parametrize(
        ("digests", "message"),
        [
            ([], constraint("layerDigests", "Member must have length greater than or equal to 1")),
            (["sha256:aa"] * 101, constraint("layerDigests", "Member must have length less than or equal to 100")),
            (["a" * 1001], constraint("layerDigests.1", "Member must have length less than or equal to 1000")),
        ],
    )
    def test_list_out_of_bounds(self, raw_ecr, repo, digests, message):
        with refused(raw_ecr, "InvalidParameterException", message):
            raw_ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=digests)

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            ecr.batch_check_layer_availability(repositoryName=name, layerDigests=[UNKNOWN_DIGEST])


class TestInitiate:
    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            ecr.initiate_layer_upload(repositoryName=name)

    def test_no_such_account(self, ecr, repo):
        with refused(ecr, "RepositoryNotFoundException", no_repository(repo, "123456789012")):
            ecr.initiate_layer_upload(registryId="123456789012", repositoryName=repo)

    def test_the_own_account_by_its_number(self, ecr, repo):
        assert ecr.initiate_layer_upload(registryId=ACCOUNT, repositoryName=repo)["uploadId"]

    @pytest.mark.parametrize(
        "given",
        [
            {"registryId": "12"},
            {"repositoryName": "Upper"},
            {"repositoryName": "a"},
            {"repositoryName": "a" * 257},
            {"repositoryName": "../../etc"},
            {"repositoryName": "a//b"},
        ],
    )
    def test_malformed(self, raw_ecr, repo, given):
        with refused(raw_ecr, "InvalidParameterException"):
            raw_ecr.initiate_layer_upload(**{"repositoryName": repo, **given})

    def test_missing_member(self, raw_ecr):
        with refused(raw_ecr, "InvalidParameterException", constraint("repositoryName", "Member must not be null")):
            raw_ecr.initiate_layer_upload()


class TestUploadPart:
    def test_a_gap_names_the_last_byte_that_was_taken(self, ecr, repo):
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"0123456789")
        where = {"registryId": ACCOUNT, "repositoryName": repo, "uploadId": upload, "lastValidByteReceived": 9}
        text = "First byte of the layer part is 12 instead of 10"
        with refused(ecr, "InvalidLayerPartException", text, **where):
            send_part(ecr, repo, upload, 12, b"late")
        # The refusal changed nothing: the upload goes on where it stood.
        assert send_part(ecr, repo, upload, 10, b"abc")["lastByteReceived"] == 12

    def test_a_replay_names_the_last_byte_that_was_taken(self, ecr, repo):
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"0123456789")
        text = "First byte of the layer part is 0 instead of 10"
        with refused(ecr, "InvalidLayerPartException", text, lastValidByteReceived=9):
            send_part(ecr, repo, upload, 0, b"0123456789")
        assert complete(ecr, repo, upload, digest_of(b"0123456789"))["layerDigest"] == digest_of(b"0123456789")

    def test_a_first_part_that_is_not_first(self, ecr, repo):
        upload = begin(ecr, repo)
        text = "First byte of the layer part is 1 instead of 0"
        with refused(ecr, "InvalidLayerPartException", text, lastValidByteReceived=None, uploadId=upload):
            send_part(ecr, repo, upload, 1, b"late")

    @pytest.mark.parametrize(("last", "data"), [(9, b"012345678"), (9, b"0123456789a"), (9, b"")])
    def test_a_range_that_is_not_the_data(self, ecr, repo, last, data):
        upload = begin(ecr, repo)
        with refused(ecr, "InvalidLayerPartException", uploadId=upload):
            ecr.upload_layer_part(
                repositoryName=repo, uploadId=upload, partFirstByte=0, partLastByte=last, layerPartBlob=data
            )
        send_part(ecr, repo, upload, 0, b"0123456789")

    def test_an_unknown_upload(self, ecr, repo):
        with refused(
            ecr,
            "UploadNotFoundException",
            f"Upload with id '{UNKNOWN_UPLOAD}' could not be found for the repository with name '{repo}' "
            f"in the registry with id '{ACCOUNT}'",
        ):
            send_part(ecr, repo, UNKNOWN_UPLOAD, 0, b"x")

    def test_an_upload_of_another_repository(self, ecr, repo, fresh_name):
        other = fresh_name()
        ecr.create_repository(repositoryName=other)
        upload = begin(ecr, other)
        with refused(ecr, "UploadNotFoundException"):
            send_part(ecr, repo, upload, 0, b"x")

    def test_an_upload_of_a_repository_that_is_gone(self, ecr, repo):
        upload = begin(ecr, repo)
        ecr.delete_repository(repositoryName=repo)
        with refused(ecr, "RepositoryNotFoundException", no_repository(repo, ACCOUNT)):
            send_part(ecr, repo, upload, 0, b"x")
        ecr.create_repository(repositoryName=repo)
        with refused(ecr, "UploadNotFoundException"):
            send_part(ecr, repo, upload, 0, b"x")

    def test_no_such_repository(self, ecr, fresh_name):
        with refused(ecr, "RepositoryNotFoundException"):
            send_part(ecr, fresh_name(), UNKNOWN_UPLOAD, 0, b"x")

    @pytest.mark.parametrize(
        ("given", "member"),
        [
            ({"uploadId": "no-uuid"}, "uploadId"),
            ({"partFirstByte": -1}, "partFirstByte"),
            ({"partLastByte": -1}, "partLastByte"),
        ],
    )
    def test_malformed(self, raw_ecr, repo, given, member):
        whole = {"uploadId": UNKNOWN_UPLOAD, "partFirstByte": 0, "partLastByte": 0, "layerPartBlob": b"x"}
        with refused(raw_ecr, "InvalidParameterException") as caught:
            raw_ecr.upload_layer_part(repositoryName=repo, **{**whole, **given})
        assert f"'{member}'" in caught.value.response["Error"]["Message"]


class TestComplete:
    def test_without_a_part(self, ecr, repo):
        upload = begin(ecr, repo)
        text = (
            f"The upload with id '{upload}' in the repository with name '{repo}' in registry with id '{ACCOUNT}' "
            "cannot be completed because it does not have any parts"
        )
        with refused(ecr, "EmptyUploadException", text):
            complete(ecr, repo, upload, UNKNOWN_DIGEST)
        # Nothing is lost: the upload can still receive bytes.
        send_part(ecr, repo, upload, 0, b"after all")
        complete(ecr, repo, upload, digest_of(b"after all"))

    def test_a_small_part_before_the_last(self, ecr, repo):
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"small")
        send_part(ecr, repo, upload, 5, b"last")
        with refused(ecr, "LayerPartTooSmallException"):
            complete(ecr, repo, upload, digest_of(b"smalllast"))

    def test_another_digest(self, ecr, repo):
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"these bytes")
        text = "None of the provided layer digests match the calculated layer digest"
        with refused(ecr, "InvalidLayerException", text):
            complete(ecr, repo, upload, UNKNOWN_DIGEST, digest_of(b"those bytes"))
        found = ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=[digest_of(b"these bytes")])
        assert found["layers"][0]["layerAvailability"] == "UNAVAILABLE"

    def test_a_layer_that_is_there_already(self, ecr, repo):
        push_blob(ecr, repo, Blob(b"twice", OCI_GZIP))
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"twice")
        with refused(ecr, "LayerAlreadyExistsException"):
            complete(ecr, repo, upload, digest_of(b"twice"))

    def test_the_digest_is_judged_before_the_layer_s_existence(self, ecr, repo):
        push_blob(ecr, repo, Blob(b"known", OCI_GZIP))
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"known")
        with refused(ecr, "InvalidLayerException"):
            complete(ecr, repo, upload, UNKNOWN_DIGEST)

    def test_twice(self, ecr, repo):
        upload = begin(ecr, repo)
        send_part(ecr, repo, upload, 0, b"once")
        complete(ecr, repo, upload, digest_of(b"once"))
        with refused(ecr, "UploadNotFoundException"):
            complete(ecr, repo, upload, digest_of(b"once"))

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            complete(ecr, name, UNKNOWN_UPLOAD, UNKNOWN_DIGEST)

    @pytest.mark.parametrize(
        ("digests", "message"),
        [
            ([], constraint("layerDigests", "Member must have length greater than or equal to 1")),
            (["sha256:aa"] * 101, constraint("layerDigests", "Member must have length less than or equal to 100")),
            (
                ["sha256:aa", "sha256:zz"],
                constraint("layerDigests.2", f"must satisfy regular expression '{LAYER_DIGEST_PATTERN}'"),
            ),
        ],
    )
    def test_malformed_digests(self, raw_ecr, repo, digests, message):
        upload = begin(raw_ecr, repo)
        with refused(raw_ecr, "InvalidParameterException", message):
            raw_ecr.complete_layer_upload(repositoryName=repo, uploadId=upload, layerDigests=digests)


class TestDownload:
    def test_whole_and_by_range(self, ecr, registry, repo):
        pushed = image(repo, size=300_000)
        push_image(ecr, repo, pushed, "v1")
        layer = pushed.layers[0]
        answer = ecr.get_download_url_for_layer(repositoryName=repo, layerDigest=layer.digest)
        assert answer["layerDigest"] == layer.digest
        url = answer["downloadUrl"]
        assert url.startswith(registry.url)

        whole = registry.http.request("GET", url)
        assert (whole.status, whole.data == layer.data) == (200, True)
        part = registry.http.request("GET", url, headers={"Range": "bytes=1000-70000"})
        assert (part.status, part.data == layer.data[1000:70001]) == (206, True)
        assert part.headers["Content-Range"] == f"bytes 1000-70000/{len(layer.data)}"
        tail = registry.http.request("GET", url, headers={"Range": "bytes=-5"})
        assert (tail.status, tail.data) == (206, layer.data[-5:])

    def test_the_url_outlives_the_image(self, ecr, registry, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")
        layer = pushed.layers[0]
        url = ecr.get_download_url_for_layer(repositoryName=repo, layerDigest=layer.digest)["downloadUrl"]
        ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageDigest": pushed.digest}])
        assert registry.http.request("GET", url).data == layer.data

    def test_a_url_that_was_changed_opens_nothing(self, ecr, registry, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")
        one, two = (layer.digest.partition(":")[2] for layer in pushed.layers)
        url = ecr.get_download_url_for_layer(repositoryName=repo, layerDigest=pushed.layers[0].digest)["downloadUrl"]
        flipped = url[:-1] + ("0" if url[-1] != "0" else "1")
        for forged in {flipped, url.replace(one, two)} - {url}:
            answer = registry.http.request("GET", forged)
            assert answer.status == 403, forged
            assert answer.data not in {layer.data for layer in pushed.layers}

    def test_a_layer_that_no_image_names(self, ecr, repo):
        push_blob(ecr, repo, Blob(b"alone", OCI_GZIP))
        with refused(ecr, "LayerInaccessibleException"):
            ecr.get_download_url_for_layer(repositoryName=repo, layerDigest=digest_of(b"alone"))

    def test_no_such_layer(self, ecr, repo):
        text = (
            f"The layer with digest {UNKNOWN_DIGEST} does not exist within the repository with name '{repo}' "
            f"in the registry with id '{ACCOUNT}'"
        )
        with refused(ecr, "LayersNotFoundException", text):
            ecr.get_download_url_for_layer(repositoryName=repo, layerDigest=UNKNOWN_DIGEST)

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            ecr.get_download_url_for_layer(repositoryName=name, layerDigest=UNKNOWN_DIGEST)

    def test_malformed_digest(self, ecr, repo):
        text = constraint("layerDigest", f"must satisfy regular expression '{LAYER_DIGEST_PATTERN}'")
        with refused(ecr, "InvalidParameterException", text):
            ecr.get_download_url_for_layer(repositoryName=repo, layerDigest="sha256:xyz")
