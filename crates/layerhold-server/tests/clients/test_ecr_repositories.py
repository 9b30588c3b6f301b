"""boto3 against repositories, authorization tokens, and what the service model does not list."""

import base64
import json

import pytest
from harness import ACCOUNT, REGION
from images import image
from steps import begin, constraint, no_repository, push_image, refused, refused_unmodelled

NAME_PATTERN = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"


def send(registry, target: str | None, body: str, **headers: str):
    """One request as no client library would send it: the status, and the error's type without its message."""
    sent = {"Content-Type": "application/x-amz-json-1.1", **headers}
    if target is not None:
        sent["X-Amz-Target"] = target
    answer = registry.http.request("POST", f"{registry.url}/", body=body.encode(), headers=sent)
    return answer.status, json.loads(answer.data).get("__type")


PREFIX = "AmazonEC2ContainerRegistry_V20150921"


class TestCreate:
    def test_with_defaults(self, ecr, registry, fresh_name):
        name = fresh_name()
        created = ecr.create_repository(repositoryName=name)["repository"]
        assert created["createdAt"].timestamp() > 1_600_000_000
        del created["createdAt"]
        wanted = {
            "repositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{name}",
            "registryId": ACCOUNT,
            "repositoryName": name,
            "repositoryUri": f"{registry.host}/{name}",
            "imageTagMutability": "MUTABLE",
            "imageScanningConfiguration": {"scanOnPush": False},
            "encryptionConfiguration": {"encryptionType": "AES256"},
        }
        assert {key: created.get(key) for key in wanted} == wanted

    def test_with_settings(self, ecr, fresh_name):
        name = fresh_name()
        filters = [{"filterType": "WILDCARD", "filter": "v*"}]
        ecr.create_repository(
            repositoryName=name,
            imageTagMutability="MUTABLE_WITH_EXCLUSION",
            imageTagMutabilityExclusionFilters=filters,
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration={"encryptionType": "AES256"},
            tags=[{"Key": "team", "Value": "storage"}],
        )
        (found,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
        assert found["imageTagMutability"] == "MUTABLE_WITH_EXCLUSION"
        assert found["imageTagMutabilityExclusionFilters"] == filters
        assert found["imageScanningConfiguration"] == {"scanOnPush": True}

    def test_a_name_inside_another(self, ecr, repo):
        ecr.create_repository(repositoryName=f"{repo}/inner")

    def test_twice(self, ecr, repo):
        text = f"The repository with name '{repo}' already exists in the registry with id '{ACCOUNT}'"
        with refused(ecr, "RepositoryAlreadyExistsException", text):
            ecr.create_repository(repositoryName=repo)

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("a", "Member must have length greater than or equal to 2"),
            ("a" * 257, "Member must have length less than or equal to 256"),
            ("Upper", f"must satisfy regular expression '{NAME_PATTERN}'"),
            ("a//b", f"must satisfy regular expression '{NAME_PATTERN}'"),
            ("a..b", f"must satisfy regular expression '{NAME_PATTERN}'"),
            ("/ab", f"must satisfy regular expression '{NAME_PATTERN}'"),
            ("../../ab", f"must satisfy regular expression '{NAME_PATTERN}'"),
        ],
    )
    def test_malformed_name(self, raw_ecr, name, detail):
        with refused(raw_ecr, "InvalidParameterException", constraint("repositoryName", detail)):
            raw_ecr.create_repository(repositoryName=name)

    @pytest.mark.parametrize(
        ("exception", "given"),
        [
            ("InvalidParameterException", {"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"}),
            (
                "InvalidParameterException",
                {"imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "a"}]},
            ),
            ("InvalidParameterException", {"imageTagMutability": "SOMETIMES"}),
            ("InvalidTagParameterException", {"tags": [{"Key": "aws:mine", "Value": ""}]}),
            ("InvalidTagParameterException", {"tags": [{"Key": "", "Value": ""}]}),
            ("InvalidTagParameterException", {"tags": [{"Key": "k" * 129, "Value": ""}]}),
            ("InvalidTagParameterException", {"tags": [{"Key": "k", "Value": "v" * 257}]}),
            ("InvalidTagParameterException", {"tags": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]}),
            ("TooManyTagsException", {"tags": [{"Key": f"k{number}", "Value": ""} for number in range(51)]}),
            ("KmsException", {"encryptionConfiguration": {"encryptionType": "KMS"}}),
            ("KmsException", {"encryptionConfiguration": {"encryptionType": "KMS_DSSE"}}),
        ],
    )
    def test_refused_settings(self, raw_ecr, fresh_name, exception, given):
        name = fresh_name()
        with refused(raw_ecr, exception):
            raw_ecr.create_repository(repositoryName=name, **given)
        with refused(raw_ecr, "RepositoryNotFoundException"):
            raw_ecr.describe_repositories(repositoryNames=[name])


class TestDescribe:
    def test_one_missing_name_fails_the_call(self, ecr, repo, fresh_name):
        missing = fresh_name()
        with refused(ecr, "RepositoryNotFoundException", no_repository(missing, ACCOUNT)):
            ecr.describe_repositories(repositoryNames=[repo, missing])

    def test_pages(self, ecr, fresh_name):
        names = {f"{fresh_name()}-{number}" for number in range(5)}
        for name in names:
            ecr.create_repository(repositoryName=name)
        pages = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 3})
        seen = [found["repositoryName"] for page in pages for found in page["repositories"]]
        assert names <= set(seen)
        assert len(seen) == len(set(seen))

    @pytest.mark.parametrize(
        "given",
        [
            {"repositoryNames": ["aa"], "maxResults": 5},
            {"repositoryNames": ["aa"], "nextToken": "x"},
            {"repositoryNames": ["aa"] * 101},
            {"maxResults": 0},
            {"maxResults": 1001},
            {"nextToken": "made up"},
        ],
    )
    def test_malformed(self, raw_ecr, given):
        with refused(raw_ecr, "InvalidParameterException"):
            raw_ecr.describe_repositories(**given)


class TestDelete:
    def test_an_empty_one(self, ecr, repo):
        assert ecr.delete_repository(repositoryName=repo)["repository"]["repositoryName"] == repo
        with refused(ecr, "RepositoryNotFoundException", no_repository(repo, ACCOUNT)):
            ecr.delete_repository(repositoryName=repo)

    def test_one_with_images(self, ecr, repo):
        pushed = image(repo)
        push_image(ecr, repo, pushed, "v1")
        text = (
            f"The repository with name '{repo}' in registry with id '{ACCOUNT}' cannot be deleted "
            "because it still contains images"
        )
        with refused(ecr, "RepositoryNotEmptyException", text):
            ecr.delete_repository(repositoryName=repo)
        ecr.delete_repository(repositoryName=repo, force=True)
        # A new repository of the same name starts empty: no image, and no layer that would be "already there".
        ecr.create_repository(repositoryName=repo)
        assert ecr.list_images(repositoryName=repo)["imageIds"] == []
        answer = ecr.batch_check_layer_availability(repositoryName=repo, layerDigests=[pushed.config.digest])
        assert answer["layers"][0]["layerAvailability"] == "UNAVAILABLE"

    def test_open_uploads_do_not_hold_it(self, ecr, repo):
        begin(ecr, repo)
        ecr.delete_repository(repositoryName=repo)


class TestToken:
    def test_form(self, ecr, registry):
        (data,) = ecr.get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"], validate=True).decode().partition(":")
        assert user == "AWS"
        assert password
        assert data["proxyEndpoint"] == registry.url
        assert data["expiresAt"].timestamp() > 1_600_000_000


class TestOutsideTheModel:
    def test_an_operation_without_a_body_yet(self, ecr):
        with refused_unmodelled("NotImplemented", 501) as caught:
            ecr.put_replication_configuration(replicationConfiguration={"rules": []})
        assert "PutReplicationConfiguration" in caught.value.response["Error"]["Message"]

    def test_unknown_operations(self, registry):
        for target in (f"{PREFIX}.MakeTea", "Other_V1.DescribeRepositories", "nonsense", None):
            assert send(registry, target, "{}") == (404, "UnknownOperationException"), target

    @pytest.mark.parametrize(
        "body",
        [
            "{",
            "[]",
            '"text"',
            '{"maxResults": "5"}',
            '{"maxResults": 1.5}',
            '{"maxResults": 5, "maxResults": 6}',
            "\x80",
        ],
    )
    def test_bodies_that_are_no_request(self, registry, body):
        assert send(registry, f"{PREFIX}.DescribeRepositories", body) == (400, "SerializationException")

    def test_bodies_that_are(self, registry):
        for body in ("", "{}", '{"maxResults": 1e2, "unknown": [1], "nextToken": null}'):
            assert send(registry, f"{PREFIX}.DescribeRepositories", body) == (200, None), body

    def test_content_types(self, registry):
        target = f"{PREFIX}.DescribeRepositories"
        assert send(registry, target, "{}", **{"Content-Type": "application/json"}) == (200, None)
        assert send(registry, target, "{}", **{"Content-Type": "text/xml"}) == (415, "SerializationException")

    def test_health(self, registry):
        assert registry.http.request("GET", f"{registry.url}/healthz").status == 200
