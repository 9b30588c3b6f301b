// The AWS SDK for JavaScript against both registries: a push in parts, PutImage with its exceptions as classes, downloads.

import * as privateSdk from "@aws-sdk/client-ecr";
import * as publicSdk from "@aws-sdk/client-ecr-public";
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";

import { ACCOUNT, digestOf, makeImage, OCI_MANIFEST, PART_BYTES_MIN, refused, startRegistry, UNKNOWN_DIGEST } from "./registry.js";

let registry;
let created = 0;

before(async () => {
  registry = await startRegistry();
});
after(() => registry?.stop());

/** The two services have the same upload operations, each with command classes of its own. */
const services = {
  private: { sdk: privateSdk, client: () => registry.ecr },
  public: { sdk: publicSdk, client: () => registry.ecrPublic },
};

for (const [name, { sdk, client }] of Object.entries(services)) {
  const send = (command, input) => client().send(new sdk[`${command}Command`](input));

  const freshRepository = async () => {
    const repositoryName = `node/${name}-${++created}`;
    await send("CreateRepository", { repositoryName });
    return repositoryName;
  };

  const sendPart = (repositoryName, uploadId, first, data) =>
    send("UploadLayerPart", {
      repositoryName,
      uploadId,
      partFirstByte: first,
      partLastByte: first + data.length - 1,
      layerPartBlob: data,
    });

  const pushBlob = async (repositoryName, data) => {
    const { uploadId, partSize } = await send("InitiateLayerUpload", { repositoryName });
    for (let first = 0; first < data.length; first += partSize)
      await sendPart(repositoryName, uploadId, first, data.subarray(first, first + partSize));
    return send("CompleteLayerUpload", { repositoryName, uploadId, layerDigests: [digestOf(data)] });
  };

  const pushImage = async (repositoryName, image, imageTag) => {
    for (const blob of image.blobs) await pushBlob(repositoryName, blob);
    return send("PutImage", { repositoryName, imageManifest: image.manifest, imageTag });
  };

  describe(`${name} registry`, () => {
    test("a layer arrives in parts", async () => {
      const repositoryName = await freshRepository();
      const data = randomBytes(2 * PART_BYTES_MIN + 99);
      const { uploadId, partSize } = await send("InitiateLayerUpload", { repositoryName });
      assert.equal(partSize, 10 * 1024 * 1024);
      for (let first = 0; first < data.length; first += PART_BYTES_MIN) {
        const part = data.subarray(first, first + PART_BYTES_MIN);
        const { lastByteReceived } = await sendPart(repositoryName, uploadId, first, part);
        assert.equal(lastByteReceived, first + part.length - 1);
      }
      const gap = await refused(
        sendPart(repositoryName, uploadId, 5, Buffer.from("late")),
        sdk.InvalidLayerPartException,
        { registryId: ACCOUNT, repositoryName, uploadId, lastValidByteReceived: data.length - 1 },
      );
      assert.equal(gap.message, `First byte of the layer part is 5 instead of ${data.length}`);

      const done = await send("CompleteLayerUpload", { repositoryName, uploadId, layerDigests: [digestOf(data)] });
      assert.equal(done.layerDigest, digestOf(data));
      const { layers, failures } = await send("BatchCheckLayerAvailability", {
        repositoryName,
        layerDigests: [digestOf(data), UNKNOWN_DIGEST],
      });
      assert.deepEqual(failures, []);
      assert.deepEqual(layers, [
        { layerDigest: digestOf(data), layerAvailability: "AVAILABLE", layerSize: data.length },
        { layerDigest: UNKNOWN_DIGEST, layerAvailability: "UNAVAILABLE" },
      ]);
    });

    test("every refusal of an upload is a class", async () => {
      const repositoryName = await freshRepository();
      const uploadId = "00000000-0000-0000-0000-000000000007";
      const begin = async () => (await send("InitiateLayerUpload", { repositoryName })).uploadId;
      const complete = (id, ...layerDigests) => send("CompleteLayerUpload", { repositoryName, uploadId: id, layerDigests });

      await refused(send("InitiateLayerUpload", { repositoryName: "no/such" }), sdk.RepositoryNotFoundException);
      await refused(send("InitiateLayerUpload", { repositoryName: "Upper" }), sdk.InvalidParameterException);
      await refused(sendPart(repositoryName, uploadId, 0, Buffer.from("x")), sdk.UploadNotFoundException);
      await refused(complete(uploadId, UNKNOWN_DIGEST), sdk.UploadNotFoundException);
      const empty = await begin();
      await refused(complete(empty, UNKNOWN_DIGEST), sdk.EmptyUploadException);
      await sendPart(repositoryName, empty, 0, Buffer.from("small"));
      await sendPart(repositoryName, empty, 5, Buffer.from("last"));
      await refused(complete(empty, digestOf("smalllast")), sdk.LayerPartTooSmallException);
      const wrong = await begin();
      await sendPart(repositoryName, wrong, 0, Buffer.from("bytes"));
      await refused(complete(wrong, UNKNOWN_DIGEST), sdk.InvalidLayerException);
      await pushBlob(repositoryName, Buffer.from("twice"));
      await refused(pushBlob(repositoryName, Buffer.from("twice")), sdk.LayerAlreadyExistsException);
    });

    test("an image and every refusal of PutImage", async () => {
      const repositoryName = await freshRepository();
      const image = makeImage();
      const put = (input) => send("PutImage", { repositoryName, imageManifest: image.manifest, imageTag: "v1", ...input });

      const missing = await refused(put({}), sdk.LayersNotFoundException);
      for (const layer of image.layers) assert.match(missing.message, new RegExp(digestOf(layer)));
      const { image: answer } = await pushImage(repositoryName, image, "v1");
      assert.deepEqual(answer.imageId, { imageDigest: image.digest, imageTag: "v1" });
      assert.equal(answer.imageManifest, image.manifest);
      assert.equal(answer.imageManifestMediaType, OCI_MANIFEST);

      await refused(put({}), sdk.ImageAlreadyExistsException);
      await refused(put({ imageTag: "v2", imageDigest: UNKNOWN_DIGEST }), sdk.ImageDigestDoesNotMatchException);
      await refused(put({ imageManifest: "{" }), sdk.InvalidParameterException, {
        message: "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'",
      });
      await refused(put({ repositoryName: "no/such" }), sdk.RepositoryNotFoundException);
      const index = {
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [{ mediaType: OCI_MANIFEST, digest: UNKNOWN_DIGEST, size: 7 }],
      };
      await refused(put({ imageManifest: JSON.stringify(index) }), sdk.ReferencedImagesNotFoundException);
    });
  });

  if (name === "public") {
    test("the public registry describes what it holds", async () => {
      const repositoryName = await freshRepository();
      const image = makeImage();
      await pushImage(repositoryName, image, "v1");
      const { imageTagDetails } = await send("DescribeImageTags", { repositoryName });
      assert.deepEqual(imageTagDetails.map((tag) => [tag.imageTag, tag.imageDetail.imageDigest]), [["v1", image.digest]]);
      assert.ok(imageTagDetails[0].createdAt instanceof Date);
      await refused(send("InitiateLayerUpload", { repositoryName, registryId: "nobody" }), sdk.RegistryNotFoundException);
    });
    continue;
  }

  test("an immutable tag is refused with its own class", async () => {
    const repositoryName = await freshRepository();
    await send("PutImageTagMutability", { repositoryName, imageTagMutability: "IMMUTABLE" });
    await pushImage(repositoryName, makeImage(), "v1");
    await refused(pushImage(repositoryName, makeImage(), "v1"), sdk.ImageTagAlreadyExistsException);
  });

  test("a layer is downloaded whole and by range", async () => {
    const repositoryName = await freshRepository();
    const image = makeImage();
    for (const blob of image.blobs) await pushBlob(repositoryName, blob);
    const layer = image.layers[1];
    const ask = (layerDigest) => send("GetDownloadUrlForLayer", { repositoryName, layerDigest });
    await refused(ask(digestOf(layer)), sdk.LayerInaccessibleException);
    await refused(ask(UNKNOWN_DIGEST), sdk.LayersNotFoundException);
    await send("PutImage", { repositoryName, imageManifest: image.manifest });

    const { downloadUrl, layerDigest } = await ask(digestOf(layer));
    assert.equal(layerDigest, digestOf(layer));
    const whole = await fetch(downloadUrl);
    assert.equal(whole.status, 200);
    assert.ok(Buffer.from(await whole.arrayBuffer()).equals(layer));
    const part = await fetch(downloadUrl, { headers: { Range: "bytes=100-150099" } });
    assert.equal(part.status, 206);
    assert.equal(part.headers.get("content-range"), `bytes 100-150099/${layer.length}`);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(layer.subarray(100, 150100)));
  });

  test("an image comes back byte for byte, and goes", async () => {
    const repositoryName = await freshRepository();
    const image = makeImage();
    await pushImage(repositoryName, image, "v1");
    const { images, failures } = await send("BatchGetImage", {
      repositoryName,
      imageIds: [{ imageTag: "v1" }, { imageTag: "v2" }],
    });
    assert.deepEqual(images.map((found) => found.imageManifest), [image.manifest]);
    assert.deepEqual(failures.map((failure) => failure.failureCode), ["ImageNotFound"]);
    await refused(send("DescribeImages", { repositoryName, imageIds: [{ imageTag: "v2" }] }), sdk.ImageNotFoundException);
    await refused(send("DeleteRepository", { repositoryName }), sdk.RepositoryNotEmptyException);
    const gone = await send("BatchDeleteImage", { repositoryName, imageIds: [{ imageTag: "v1" }] });
    assert.deepEqual(gone.imageIds, [{ imageDigest: image.digest, imageTag: "v1" }]);
  });
}
