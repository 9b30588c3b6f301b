"""boto3 against the private image operations: manifests, tags, listings, deletion, and every refusal of theirs."""

import json

import pytest
from harness import ACCOUNT
from images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_GZIP,
    OCI_INDEX,
    OCI_MANIFEST,
    Blob,
    digest_of,
    image,
    index_of,
    manifest_of,
)
from steps import constraint, no_repository, push_blob, push_blobs, push_image, put_text, refused

UNKNOWN_DIGEST = "sha256:" + "0" * 64


def exclusion(*filters: str) -> list[dict]:
    return [{"filterType": "WILDCARD", "filter": text} for text in filters]


def get_one(ecr, repo, **image_id):
    answer = ecr.batch_get_image(repositoryName=repo, imageIds=[image_id])
    assert answer["failures"] == []
    (found,) = answer["images"]
    return found


def failures_of(answer) -> list[tuple[dict, str]]:
    return [(failure["imageId"], failure["failureCode"]) for failure in answer["failures"]]


def details(ecr, repo, **image_id):
    (found,) = ecr.describe_images(repositoryName=repo, imageIds=[image_id])["imageDetails"]
    return found


class TestPut:
    @pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
    def test_comes_back_byte_for_byte(self, ecr, repo, docker):
        pushed = image(repo, docker=docker)
        answer = push_image(ecr, repo, pushed, "v1")
        assert answer == {
            "registryId": ACCOUNT,
            "repositoryName": repo,
            "imageId": {"imageDigest": pushed.digest, "imageTag": "v1"},
            "imageManifest": pushed.text,
            "imageManifestMediaType": pushed.media_type,
        }
        assert get_one(ecr, repo, imageTag="v1") == answer
        by_digest = get_one(ecr, repo, imageDigest=pushed.digest)
        assert by_digest["imageManifest"] == pushed.text
        assert by_digest["imageId"] == {"imageDigest": pushed.digest}

    def test_a_trailing_newline_counts(self, ecr, repo):
        pushed = image(repo)
        push_blobs(ecr, repo, pushed)
        text = pushed.text + "\r\n"
        assert put_text(ecr, repo, text, "crlf")["imageId"]["imageDigest"] == digest_of(text.encode())
        assert get_one(ecr, repo, imageTag="crlf")["imageManifest"] == text

    def test_without_a_tag(self, ecr, repo):
        pushed = image(repo)
        assert push_image(ecr, repo, pushed)["imageId"] == {"imageDigest": pushed.digest}

    def test_the_digest_that_the_caller_expects(self, ecr, repo):
        pushed = image(repo)
        push_blobs(ecr, repo, pushed)
        text = (
            f"The image with digest '{UNKNOWN_DIGEST}' in repository '{repo}' and registry ID '{ACCOUNT}' "
            "does not match the image digest that Amazon ECR has calculated"
        )
        with refused(ecr, "ImageDigestDoesNotMatchException", text):
            put_text(ecr, repo, pushed.text, "v1", imageDigest=UNKNOWN_DIGEST)
        assert put_text(ecr, repo, pushed.text, "v1", imageDigest=pushed.digest)

    def test_the_media_type_beside_the_document(self, ecr, repo):
        pushed = image(repo)
        push_blobs(ecr, repo, pushed)
        document = json.loads(pushed.text)
        del document["mediaType"]
        text = json.dumps(document)
        with refused(ecr, "InvalidParameterException", constraint("ImageManifest", "Invalid JSON syntax")):
            put_text(ecr, repo, text, "v1")
        answer = put_text(ecr, repo, text, "v1", imageManifestMediaType=OCI_MANIFEST)
        assert answer["imageManifestMediaType"] == OCI_MANIFEST
        with refused(ecr, "InvalidParameterException"):
            put_text(ecr, repo, pushed.text, "v2", imageManifestMediaType=DOCKER_MANIFEST)

    def test_schema_1(self, ecr, repo):
        layer = Blob(b"schema 1 layer", OCI_GZIP)
        push_blob(ecr, repo, layer)
        document = {
            "schemaVersion": 1,
            "name": repo,
            "tag": "old",
            "architecture": "amd64",
            "fsLayers": [{"blobSum": layer.digest}],
            "history": [{"v1Compatibility": "{}"}],
        }
        text = json.dumps(document)
        media_type = "application/vnd.docker.distribution.manifest.v1+json"
        answer = put_text(ecr, repo, text, "old", imageManifestMediaType=media_type)
        assert answer["imageId"]["imageDigest"] == digest_of(text.encode())
        assert get_one(ecr, repo, imageTag="old")["imageManifest"] == text

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda _: "no json",
            lambda _: "[]",
            lambda document: json.dumps(document)[:-1],
            lambda document: json.dumps({**document, "config": {"digest": document["config"]["digest"]}}),
            lambda document: json.dumps({**document, "mediaType": OCI_MANIFEST + ";charset=utf-8"}),
            lambda document: json.dumps({**document, "mediaType": "text/plain"}),
            lambda document: json.dumps({**document, "schemaVersion": 3}),
            lambda document: json.dumps({**document, "manifests": []}),
            lambda document: json.dumps(document)[:-1] + ', "layers": []}',
            lambda document: json.dumps({**document, "annotations": json.loads("[" * 200 + "]" * 200)}),
        ],
        ids=[
            "text",
            "array",
            "cut",
            "half-descriptor",
            "type-parameters",
            "other-type",
            "schema-3",
            "both-shapes",
            "double-key",
            "deep",
        ],
    )
    def test_a_manifest_that_is_none(self, ecr, repo, spoil):
        pushed = image(repo)
        push_blobs(ecr, repo, pushed)
        text = spoil(json.loads(pushed.text))
        with refused(ecr, "InvalidParameterException", constraint("ImageManifest", "Invalid JSON syntax")):
            put_text(ecr, repo, text, "v1")
        assert ecr.list_images(repositoryName=repo)["imageIds"] == []

    def test_too_many_references(self, ecr, repo):
        layer, config = Blob(b"again", OCI_GZIP), Blob(b"{}", OCI_CONFIG)
        push_blob(ecr, repo, layer)
        push_blob(ecr, repo, config)
        with refused(ecr, "InvalidParameterException"):
            put_text(ecr, repo, manifest_of(config, [layer] * 1001).text, "v1")

    @pytest.mark.parametrize("tag", ["with space", "with+plus", "a/b", "a:b", "ä"])
    def test_a_tag_that_is_none(self, ecr, repo, tag):
        pushed = image(repo)
        push_blobs(ecr, repo, pushed)
        text = constraint("imageTag", "must satisfy regular expression '[a-zA-Z0-9-_.]+'")
        with refused(ecr, "InvalidParameterException", text):
            put_text(ecr, repo, pushed.text, tag)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"imageManifest": ""},
                constraint("imageManifest", "Member must have length greater than or equal to 1"),
            ),
            (
                {"imageManifest": " " * 4_194_305},
                constraint("imageManifest", "Member must have length less than or equal to 4194304"),
            ),
            (
                {"imageManifest": "{}", "imageTag": "a" * 301},
                constraint("imageTag", "Member must have length less than or equal to 300"),
            ),
            ({}, constraint("imageManifest", "Member must not be null")),
        ],
        ids=["empty", "large", "long-tag", "absent"],
    )
    def test_members_out_of_bounds(self, raw_ecr, repo, given, message):
        with refused(raw_ecr, "InvalidParameterException", message):
            raw_ecr.put_image(repositoryName=repo, **given)

    def test_missing_layers_are_named_together(self, ecr, repo):
        pushed = image(repo)
        push_blob(ecr, repo, pushed.config)
        missing = ", ".join(layer.digest for layer in pushed.layers)
        text = (
            f"Layers with digests '[{missing}]' required for pushing image into repository with name '{repo}' "
            f"in the registry with id '{ACCOUNT}' do not exist"
        )
        with refused(ecr, "LayersNotFoundException", text):
            put_text(ecr, repo, pushed.text, "v1")
        assert ecr.list_images(repositoryName=repo)["imageIds"] == []

    def test_foreign_layers_need_not_be_stored(self, ecr, repo):
        config = Blob(b"{}", "application/vnd.docker.container.image.v1+json")
        push_blob(ecr, repo, config)
        foreign = Blob(b"elsewhere", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        document = json.loads(manifest_of(config, [foreign], docker=True).text)
        document["layers"][0]["urls"] = ["https://example.org/layer"]
        put_text(ecr, repo, json.dumps(document), "windows")

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            put_text(ecr, name, "{}", "v1")

    def test_the_same_image_again(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")
        text = (
            f"Image with digest '{pushed.digest}' and tag 'v1' already exists in the repository with name '{repo}' "
            f"in registry with id '{ACCOUNT}'"
        )
        with refused(ecr, "ImageAlreadyExistsException", text):
            put_text(ecr, repo, pushed.text, "v1")
        text = (
            f"Image with digest '{pushed.digest}' already exists in the repository with name '{repo}' "
            f"in registry with id '{ACCOUNT}'"
        )
        with refused(ecr, "ImageAlreadyExistsException", text):
            put_text(ecr, repo, pushed.text)
        assert put_text(ecr, repo, pushed.text, "v2")["imageId"]["imageTag"] == "v2"

    def test_more_tags_than_an_image_may_have(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "t0")
        for number in range(1, 1000):
            put_text(ecr, repo, pushed.text, f"t{number}")
        text = (
            f"Adding tag 'one-more' to an image in the repository with name '{repo}' in registry with id '{ACCOUNT}' "
            "exceeds the maximum allowed number of tags per image which is '1000'"
        )
        with refused(ecr, "LimitExceededException", text):
            put_text(ecr, repo, pushed.text, "one-more")
        assert len(details(ecr, repo, imageDigest=pushed.digest)["imageTags"]) == 1000
        pages = ecr.get_paginator("list_images").paginate(repositoryName=repo, PaginationConfig={"PageSize": 300})
        seen = [entry["imageTag"] for page in pages for entry in page["imageIds"]]
        assert sorted(seen) == sorted({f"t{number}" for number in range(1000)})


class TestIndex:
    @pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
    def test_two_architectures(self, ecr, repo, docker):
        images = {name: image(f"{repo}-{name}", docker=docker, architecture=name) for name in ("amd64", "arm64")}
        for found in images.values():
            push_image(ecr, repo, found)
        document = index_of(images, docker=docker)
        answer = put_text(ecr, repo, document.decode(), "multi")
        assert answer["imageId"]["imageDigest"] == digest_of(document)
        assert answer["imageManifestMediaType"] == (DOCKER_LIST if docker else OCI_INDEX)
        assert get_one(ecr, repo, imageTag="multi")["imageManifest"] == document.decode()

        largest = max(sum(len(blob.data) for blob in found.blobs) for found in images.values())
        assert details(ecr, repo, imageTag="multi")["imageSizeInBytes"] == largest

    def test_missing_children_are_named_together(self, ecr, repo):
        images = {name: image(f"{repo}-{name}", architecture=name) for name in ("amd64", "arm64")}
        document = index_of(images)
        missing = ", ".join(images[name].digest for name in sorted(images))
        text = (
            f"Images with digests '[{missing}]' required for pushing image into repository with name '{repo}' "
            f"in the registry with id '{ACCOUNT}' do not exist"
        )
        with refused(ecr, "ReferencedImagesNotFoundException", text):
            put_text(ecr, repo, document.decode(), "multi")

    def test_a_child_stays_while_the_index_names_it(self, ecr, repo):
        images = {name: image(f"{repo}-{name}", architecture=name) for name in ("amd64", "arm64")}
        for name, found in images.items():
            push_image(ecr, repo, found, name)
        document = index_of(images)
        put_text(ecr, repo, document.decode(), "multi")
        child = images["arm64"].digest
        reason = f"Requested image referenced by manifest list: [{digest_of(document)}]"
        for image_id in ({"imageDigest": child}, {"imageTag": "arm64"}):
            answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[image_id])
            assert failures_of(answer) == [(image_id, "ImageReferencedByManifestList")]
            assert answer["failures"][0]["failureReason"] == reason
            assert answer["imageIds"] == []
        # The refused deletion by tag left the tag where it was, and the index first makes room for its children.
        assert get_one(ecr, repo, imageTag="arm64")["imageId"]["imageDigest"] == child
        order = [{"imageTag": "multi"}, {"imageDigest": child}, {"imageDigest": images["amd64"].digest}]
        answer = ecr.batch_delete_image(repositoryName=repo, imageIds=order)
        assert answer["failures"] == []
        assert ecr.list_images(repositoryName=repo)["imageIds"] == []


class TestMutability:
    @pytest.mark.parametrize(
        ("mode", "filters", "tag", "moves"),
        [
            ("MUTABLE", [], "v1", True),
            ("IMMUTABLE", [], "v1", False),
            ("IMMUTABLE_WITH_EXCLUSION", ["dev-*"], "dev-1", True),
            ("IMMUTABLE_WITH_EXCLUSION", ["dev-*"], "v-dev-1", False),
            ("MUTABLE_WITH_EXCLUSION", ["v*", "*-rc"], "v1", False),
            ("MUTABLE_WITH_EXCLUSION", ["v*", "*-rc"], "2-rc", False),
            ("MUTABLE_WITH_EXCLUSION", ["v*", "*-rc"], "latest", True),
        ],
    )
    def test_whether_a_tag_moves(self, ecr, repo, mode, filters, tag, moves):
        more = {"imageTagMutabilityExclusionFilters": exclusion(*filters)} if filters else {}
        answer = ecr.put_image_tag_mutability(repositoryName=repo, imageTagMutability=mode, **more)
        assert answer["imageTagMutability"] == mode
        first, second = image(f"{repo}-1"), image(f"{repo}-2")
        push_image(ecr, repo, first, tag)
        push_blobs(ecr, repo, second)
        if moves:
            put_text(ecr, repo, second.text, tag)
            assert get_one(ecr, repo, imageTag=tag)["imageId"]["imageDigest"] == second.digest
            # The image that lost its tag stays, reachable by digest.
            assert get_one(ecr, repo, imageDigest=first.digest)["imageManifest"] == first.text
            return
        text = (
            f"The image tag '{tag}' already exists in the '{repo}' repository and cannot be overwritten "
            "because the tag is immutable"
        )
        with refused(ecr, "ImageTagAlreadyExistsException", text):
            put_text(ecr, repo, second.text, tag)
        assert get_one(ecr, repo, imageTag=tag)["imageId"]["imageDigest"] == first.digest
        # The same image again is another answer, deletion is allowed, and frees the tag.
        with refused(ecr, "ImageAlreadyExistsException"):
            put_text(ecr, repo, first.text, tag)
        ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageTag": tag}])
        put_text(ecr, repo, second.text, tag)

    @pytest.mark.parametrize(
        ("mode", "filters"),
        [
            ("MUTABLE", exclusion("a*")),
            ("IMMUTABLE", exclusion("a*")),
            ("IMMUTABLE_WITH_EXCLUSION", None),
            ("MUTABLE_WITH_EXCLUSION", None),
            ("MUTABLE_WITH_EXCLUSION", exclusion("a", "b", "c", "d", "e", "f")),
            ("MUTABLE_WITH_EXCLUSION", exclusion("not ok")),
            ("MUTABLE_WITH_EXCLUSION", exclusion("*a*b*")),
            ("SOMETIMES", None),
        ],
    )
    def test_settings_that_do_not_fit(self, raw_ecr, repo, mode, filters):
        more = {} if filters is None else {"imageTagMutabilityExclusionFilters": filters}
        with refused(raw_ecr, "InvalidParameterException"):
            raw_ecr.put_image_tag_mutability(repositoryName=repo, imageTagMutability=mode, **more)
        (found,) = raw_ecr.describe_repositories(repositoryNames=[repo])["repositories"]
        assert found["imageTagMutability"] == "MUTABLE"

    def test_exclusion_without_filters_says_so(self, ecr, repo):
        text = constraint(
            "imageTagMutabilityExclusionFilters",
            "ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as "
            "IMMUTABLE_WITH_EXCLUSION",
        )
        with refused(ecr, "InvalidParameterException", text):
            ecr.put_image_tag_mutability(repositoryName=repo, imageTagMutability="IMMUTABLE_WITH_EXCLUSION")

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE")


class TestGet:
    def test_what_each_id_fails_with(self, ecr, repo):
        one, two = image(f"{repo}-1"), image(f"{repo}-2")
        push_image(ecr, repo, one, "one")
        push_image(ecr, repo, two, "two")
        wanted = [
            ({}, "MissingDigestAndTag"),
            ({"imageDigest": "no digest"}, "InvalidImageDigest"),
            ({"imageTag": "no tag"}, "InvalidImageTag"),
            ({"imageDigest": UNKNOWN_DIGEST}, "ImageNotFound"),
            ({"imageTag": "unknown"}, "ImageNotFound"),
            ({"imageDigest": one.digest, "imageTag": "two"}, "ImageTagDoesNotMatchDigest"),
            ({"imageDigest": one.digest, "imageTag": "unknown"}, "ImageTagDoesNotMatchDigest"),
        ]
        answer = ecr.batch_get_image(repositoryName=repo, imageIds=[image_id for image_id, _ in wanted])
        assert failures_of(answer) == wanted
        assert answer["images"] == []
        reasons = {failure["failureCode"]: failure["failureReason"] for failure in answer["failures"]}
        assert reasons["ImageNotFound"] == "Requested image not found"
        assert reasons["MissingDigestAndTag"] == "Invalid request parameters: both tag and digest cannot be null"

    def test_good_and_bad_ids_together(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")
        ids = [{"imageTag": "v1"}, {"imageTag": "v2"}, {"imageDigest": pushed.digest, "imageTag": "v1"}]
        answer = ecr.batch_get_image(repositoryName=repo, imageIds=ids)
        assert [found["imageId"] for found in answer["images"]] == [
            {"imageDigest": pushed.digest, "imageTag": "v1"}
        ] * 2
        assert failures_of(answer) == [({"imageTag": "v2"}, "ImageNotFound")]

    def test_accepted_media_types(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")

        def ask(image_id, *types):
            return ecr.batch_get_image(repositoryName=repo, imageIds=[image_id], acceptedMediaTypes=list(types))

        assert ask({"imageTag": "v1"}, DOCKER_MANIFEST, OCI_MANIFEST)["images"]
        assert failures_of(ask({"imageTag": "v1"}, DOCKER_MANIFEST)) == [({"imageTag": "v1"}, "ImageNotFound")]
        # A digest names exact bytes, whatever the client would rather read.
        assert ask({"imageDigest": pushed.digest}, DOCKER_MANIFEST)["images"]

    @pytest.mark.parametrize(
        "given",
        [
            {"imageIds": []},
            {"imageIds": [{"imageTag": "a"}] * 101},
            {"imageIds": [{"imageTag": ""}]},
            {"imageIds": [{"imageTag": "a" * 301}]},
            {"imageIds": [{"imageTag": "a"}], "acceptedMediaTypes": []},
            {"imageIds": [{"imageTag": "a"}], "acceptedMediaTypes": ["a/b"] * 101},
            {},
        ],
    )
    def test_members_out_of_bounds(self, raw_ecr, repo, given):
        with refused(raw_ecr, "InvalidParameterException"):
            raw_ecr.batch_get_image(repositoryName=repo, **given)

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "v1"}])


class TestDelete:
    def test_by_tag_the_last_one_takes_the_image_along(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "a")
        put_text(ecr, repo, pushed.text, "b")
        answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageTag": "a"}])
        assert answer["imageIds"] == [{"imageDigest": pushed.digest, "imageTag": "a"}]
        assert get_one(ecr, repo, imageDigest=pushed.digest)
        answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageTag": "b"}])
        assert answer["imageIds"] == [{"imageDigest": pushed.digest, "imageTag": "b"}]
        answer = ecr.batch_get_image(repositoryName=repo, imageIds=[{"imageDigest": pushed.digest}])
        assert failures_of(answer) == [({"imageDigest": pushed.digest}, "ImageNotFound")]

    def test_by_digest_with_all_its_tags(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "a")
        for tag in ("b", "c"):
            put_text(ecr, repo, pushed.text, tag)
        answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageDigest": pushed.digest}])
        wanted = [{"imageDigest": pushed.digest, "imageTag": tag} for tag in "abc"]
        assert sorted(answer["imageIds"], key=lambda entry: entry["imageTag"]) == wanted
        assert answer["failures"] == []

    def test_an_untagged_image(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed)
        answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageDigest": pushed.digest}])
        assert answer["imageIds"] == [{"imageDigest": pushed.digest}]

    def test_what_each_id_fails_with(self, ecr, repo):
        one, two = image(f"{repo}-1"), image(f"{repo}-2")
        push_image(ecr, repo, one, "one")
        push_image(ecr, repo, two, "two")
        wanted = [
            ({}, "MissingDigestAndTag"),
            ({"imageDigest": "no digest"}, "InvalidImageDigest"),
            ({"imageTag": "no tag"}, "InvalidImageTag"),
            ({"imageDigest": UNKNOWN_DIGEST}, "ImageNotFound"),
            ({"imageTag": "unknown"}, "ImageNotFound"),
            ({"imageDigest": one.digest, "imageTag": "two"}, "ImageTagDoesNotMatchDigest"),
        ]
        answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[image_id for image_id, _ in wanted])
        assert failures_of(answer) == wanted
        assert answer["imageIds"] == []
        assert len(ecr.list_images(repositoryName=repo)["imageIds"]) == 2

    @pytest.mark.parametrize("ids", [[], [{"imageTag": "a"}] * 101])
    def test_list_out_of_bounds(self, raw_ecr, repo, ids):
        with refused(raw_ecr, "InvalidParameterException"):
            raw_ecr.batch_delete_image(repositoryName=repo, imageIds=ids)

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
            ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageTag": "v1"}])


class TestListings:
    @pytest.fixture
    def filled(self, ecr, repo):
        tagged, untagged = image(f"{repo}-1"), image(f"{repo}-2")
        push_image(ecr, repo, tagged, "a")
        put_text(ecr, repo, tagged.text, "b")
        push_image(ecr, repo, untagged)
        return tagged, untagged

    def test_list_images(self, ecr, repo, filled):
        tagged, untagged = filled
        with_tag = [{"imageDigest": tagged.digest, "imageTag": tag} for tag in "ab"]
        without = [{"imageDigest": untagged.digest}]

        def entries(**more):
            found = ecr.list_images(repositoryName=repo, **more)["imageIds"]
            return sorted(found, key=lambda entry: entry.get("imageTag", "~"))

        assert entries() == with_tag + without
        assert entries(filter={"tagStatus": "ANY"}) == with_tag + without
        assert entries(filter={"tagStatus": "TAGGED"}) == with_tag
        assert entries(filter={"tagStatus": "UNTAGGED"}) == without
        assert entries(filter={"imageStatus": "ARCHIVED"}) == []

    @pytest.mark.usefixtures("filled")
    def test_pages(self, ecr, repo):
        one = ecr.list_images(repositoryName=repo, maxResults=2)
        assert len(one["imageIds"]) == 2
        two = ecr.list_images(repositoryName=repo, maxResults=2, nextToken=one["nextToken"])
        assert len(two["imageIds"]) == 1
        assert not two.get("nextToken")
        assert len({json.dumps(entry) for entry in one["imageIds"] + two["imageIds"]}) == 3
        with refused(ecr, "InvalidParameterException"):
            ecr.list_images(repositoryName=repo, nextToken="made up")
        with refused(ecr, "InvalidParameterException"):
            ecr.list_images(repositoryName=repo, nextToken=one["nextToken"], filter={"tagStatus": "TAGGED"})

    @pytest.mark.parametrize("size", [0, 1001])
    def test_page_size_out_of_bounds(self, raw_ecr, repo, size):
        for ask in (raw_ecr.list_images, raw_ecr.describe_images):
            with refused(raw_ecr, "InvalidParameterException"):
                ask(repositoryName=repo, maxResults=size)

    def test_describe_images(self, ecr, repo, filled):
        tagged, untagged = filled
        found = {entry["imageDigest"]: entry for entry in ecr.describe_images(repositoryName=repo)["imageDetails"]}
        assert set(found) == {tagged.digest, untagged.digest}
        one = found[tagged.digest]
        assert (one["registryId"], one["repositoryName"]) == (ACCOUNT, repo)
        assert sorted(one["imageTags"]) == ["a", "b"]
        assert one["imageSizeInBytes"] == sum(len(blob.data) for blob in tagged.blobs)
        assert one["imageManifestMediaType"] == OCI_MANIFEST
        assert one["artifactMediaType"] == OCI_CONFIG
        assert one["imageStatus"] == "ACTIVE"
        assert one["imagePushedAt"].timestamp() > 1_600_000_000
        assert "imageTags" not in found[untagged.digest]

    def test_another_tag_does_not_move_the_time_of_the_push(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "a")
        before = details(ecr, repo, imageTag="a")["imagePushedAt"]
        put_text(ecr, repo, pushed.text, "b")
        assert details(ecr, repo, imageTag="b")["imagePushedAt"] == before

    def test_describe_what_is_not_there(self, ecr, repo, filled):
        tagged, untagged = filled
        text = (
            "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name "
            f"'{repo}' in the registry with id '{ACCOUNT}'"
        )
        for image_id, digest, tag in [
            ({"imageTag": "unknown"}, "null", "unknown"),
            ({"imageDigest": UNKNOWN_DIGEST}, UNKNOWN_DIGEST, "null"),
            ({"imageDigest": untagged.digest, "imageTag": "a"}, untagged.digest, "a"),
        ]:
            with refused(ecr, "ImageNotFoundException", text.format(digest, tag)):
                ecr.describe_images(repositoryName=repo, imageIds=[{"imageDigest": tagged.digest}, image_id])

    @pytest.mark.parametrize(
        "given",
        [
            {"imageIds": [{"imageTag": "a"}], "maxResults": 5},
            {"imageIds": [{"imageTag": "a"}], "nextToken": "x"},
            {"imageIds": [{}]},
            {"imageIds": [{"imageDigest": "no digest"}]},
            {"imageIds": [{"imageTag": "a"}] * 101},
            {"filter": {"tagStatus": "SOMETIMES"}},
        ],
    )
    def test_describe_malformed(self, raw_ecr, repo, given):
        with refused(raw_ecr, "InvalidParameterException"):
            raw_ecr.describe_images(repositoryName=repo, **given)

    def test_no_such_repository(self, ecr, fresh_name):
        name = fresh_name()
        for ask in (ecr.list_images, ecr.describe_images):
            with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
                ask(repositoryName=name)
