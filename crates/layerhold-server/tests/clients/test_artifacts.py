"""Artifacts that point at an image, seen through both protocols: the subject, its referrers, filters and pages."""

import json

import pytest
from harness import ACCOUNT
from images import OCI_INDEX, OCI_MANIFEST, artifact, image
from steps import no_repository, push_blobs, push_image, put_text, refused

SIGNATURE = "application/vnd.example.signature"
SBOM = "application/vnd.example.sbom"
UNKNOWN_DIGEST = "sha256:" + "0" * 64


def oci_referrers(registry, repo, digest, query=""):
    answer = registry.http.request("GET", f"{registry.url}/v2/{repo}/referrers/{digest}{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == OCI_INDEX
    return answer, json.loads(answer.data)["manifests"]


def ecr_referrers(ecr, repo, digest, **more):
    return ecr.list_image_referrers(repositoryName=repo, subjectId={"imageDigest": digest}, **more)


@pytest.fixture
def subject(ecr, repo):
    pushed = image(repo)
    push_image(ecr, repo, pushed, "v1")
    return pushed


def test_pushed_over_ecr_seen_over_both(ecr, registry, repo, subject):
    signature = artifact(
        repo, subject=subject.descriptor(), artifact_type=SIGNATURE, annotations={"org.example.key": "k1"}
    )
    push_image(ecr, repo, signature)
    (found,) = ecr_referrers(ecr, repo, subject.digest)["referrers"]
    assert found == {
        "digest": signature.digest,
        "mediaType": OCI_MANIFEST,
        "size": len(signature.manifest),
        "artifactType": SIGNATURE,
        "annotations": {"org.example.key": "k1"},
        "artifactStatus": "ACTIVE",
    }
    _, (descriptor,) = oci_referrers(registry, repo, subject.digest)
    assert descriptor == {
        "mediaType": OCI_MANIFEST,
        "digest": signature.digest,
        "size": len(signature.manifest),
        "artifactType": SIGNATURE,
        "annotations": {"org.example.key": "k1"},
    }
    (detail,) = ecr.describe_images(repositoryName=repo, imageIds=[{"imageDigest": signature.digest}])["imageDetails"]
    assert detail["subjectManifestDigest"] == subject.digest
    assert detail["artifactMediaType"] == SIGNATURE


def test_pushed_over_oci_seen_over_both(ecr, registry, repo, subject):
    signature = artifact(repo, subject=subject.descriptor(), artifact_type=SIGNATURE)
    push_blobs(ecr, repo, signature)
    answer = registry.http.request(
        "PUT",
        f"{registry.url}/v2/{repo}/manifests/{signature.digest}",
        body=signature.manifest,
        headers={"Content-Type": OCI_MANIFEST},
    )
    assert answer.status == 201
    assert answer.headers["OCI-Subject"] == subject.digest
    assert [found["digest"] for found in ecr_referrers(ecr, repo, subject.digest)["referrers"]] == [signature.digest]


def test_filters(ecr, registry, repo, subject):
    signature = artifact(f"{repo}-1", subject=subject.descriptor(), artifact_type=SIGNATURE)
    sbom = artifact(f"{repo}-2", subject=subject.descriptor(), artifact_type=SBOM)
    for made in (signature, sbom):
        push_image(ecr, repo, made)

    def digests(*types, **more):
        found = ecr_referrers(ecr, repo, subject.digest, filter={"artifactTypes": list(types), **more})["referrers"]
        return {entry["digest"] for entry in found}

    assert digests(SIGNATURE) == {signature.digest}
    assert digests(SIGNATURE, SBOM) == {signature.digest, sbom.digest}
    assert digests("text/plain") == set()
    assert digests(artifactStatus="ANY") == {signature.digest, sbom.digest}
    assert digests(artifactStatus="ARCHIVED") == set()
    answer, manifests = oci_referrers(registry, repo, subject.digest, f"?artifactType={SBOM}")
    assert [found["digest"] for found in manifests] == [sbom.digest]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"


def test_pages(ecr, repo, subject):
    made = [artifact(f"{repo}-{number}", subject=subject.descriptor(), artifact_type=SBOM) for number in range(23)]
    for one in made:
        push_image(ecr, repo, one)
    first = ecr_referrers(ecr, repo, subject.digest)
    assert len(first["referrers"]) == 20
    second = ecr_referrers(ecr, repo, subject.digest, nextToken=first["nextToken"])
    assert not second.get("nextToken")
    seen = {found["digest"] for found in first["referrers"] + second["referrers"]}
    assert seen == {one.digest for one in made}


def test_a_referrer_may_come_before_its_subject(ecr, repo):
    later = image(repo)
    signature = artifact(repo, subject=later.descriptor(), artifact_type=SIGNATURE)
    push_image(ecr, repo, signature)
    assert ecr_referrers(ecr, repo, later.digest)["referrers"][0]["digest"] == signature.digest
    push_image(ecr, repo, later, "v1")
    assert ecr_referrers(ecr, repo, later.digest)["referrers"][0]["digest"] == signature.digest


def test_deleting_a_referrer_leaves_its_subject(ecr, repo, subject):
    signature = artifact(repo, subject=subject.descriptor(), artifact_type=SIGNATURE)
    push_image(ecr, repo, signature, "sig")
    ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageTag": "sig"}])
    assert ecr_referrers(ecr, repo, subject.digest)["referrers"] == []
    assert ecr.batch_get_image(repositoryName=repo, imageIds=[{"imageTag": "v1"}])["images"]


def test_a_subject_with_referrers_can_be_deleted(ecr, repo, subject):
    push_image(ecr, repo, artifact(repo, subject=subject.descriptor(), artifact_type=SIGNATURE))
    answer = ecr.batch_delete_image(repositoryName=repo, imageIds=[{"imageTag": "v1"}])
    assert answer["failures"] == []


def test_without_an_artifact_type_the_config_s_type_counts(ecr, repo, subject):
    made = image(f"{repo}-plain")
    document = json.loads(made.text)
    document["subject"] = subject.descriptor()
    push_blobs(ecr, repo, made)
    put_text(ecr, repo, json.dumps(document))
    (found,) = ecr_referrers(ecr, repo, subject.digest)["referrers"]
    assert found["artifactType"] == made.config.media_type


def test_of_an_unknown_subject(ecr, registry, repo):
    assert ecr_referrers(ecr, repo, UNKNOWN_DIGEST)["referrers"] == []
    assert oci_referrers(registry, repo, UNKNOWN_DIGEST)[1] == []


def test_refusals(ecr, raw_ecr, repo, fresh_name):
    name = fresh_name()
    with refused(ecr, "RepositoryNotFoundException", no_repository(name, ACCOUNT)):
        ecr_referrers(ecr, name, UNKNOWN_DIGEST)
    with refused(ecr, "ValidationException"):
        ecr_referrers(ecr, repo, UNKNOWN_DIGEST, nextToken="made up")
    for given in ({"maxResults": 0}, {"maxResults": 51}, {"filter": {"artifactTypes": ["a/b"] * 6}}):
        with refused(raw_ecr, "InvalidParameterException"):
            ecr_referrers(raw_ecr, repo, UNKNOWN_DIGEST, **given)
    with refused(raw_ecr, "InvalidParameterException"):
        raw_ecr.list_image_referrers(repositoryName=repo, subjectId={})
