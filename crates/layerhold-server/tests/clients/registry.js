// A layerhold server as a child process, and the clients and bytes that the tests beside it share.

import { ECRClient } from "@aws-sdk/client-ecr";
import { ECRPUBLICClient } from "@aws-sdk/client-ecr-public";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { openSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { gzipSync } from "node:zlib";

export const ACCOUNT = "000000000000";
export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const PART_BYTES_MIN = 5 * 1024 * 1024;
export const UNKNOWN_DIGEST = `sha256:${"0".repeat(64)}`;

/** A loopback port that nobody listens on at this moment. */
async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** Starts the binary that LAYERHOLD names over a fresh directory and answers when its health check does. */
export async function startRegistry() {
  assert.ok(process.env.LAYERHOLD, "LAYERHOLD names the binary under test; `make clients` sets it");
  const folder = await mkdtemp(join(tmpdir(), "layerhold-node-"));
  const url = `http://127.0.0.1:${await freePort()}`;
  const log = openSync(join(folder, "log"), "a");
  const child = spawn(
    process.env.LAYERHOLD,
    ["serve", "--data", join(folder, "data"), "--listen", new URL(url).host],
    { stdio: ["ignore", log, log], env: { PATH: process.env.PATH } },
  );
  const ended = once(child, "exit");
  for (const deadline = Date.now() + 60_000; ; await pause(10)) {
    const healthy = await fetch(`${url}/healthz`).then((answer) => answer.ok, () => false);
    if (healthy) break;
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`the server did not come up:\n${await readFile(join(folder, "log"), "utf8")}`);
    }
  }
  const options = {
    endpoint: url,
    region: "us-east-1",
    credentials: { accessKeyId: "layerhold-client", secretAccessKey: "not-a-secret" },
    maxAttempts: 1,
  };
  const ecr = new ECRClient(options);
  const ecrPublic = new ECRPUBLICClient(options);
  return {
    url,
    ecr,
    ecrPublic,
    async stop() {
      ecr.destroy();
      ecrPublic.destroy();
      child.kill("SIGKILL");
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}

export function digestOf(data) {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}

/** An image of a few blobs, different at every call: its blobs, its exact manifest, and the manifest's digest. */
export function makeImage() {
  const layers = [gzipSync(randomBytes(3000)), gzipSync(randomBytes(200_000))];
  const config = Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", unique: randomBytes(8).toString("hex") }));
  const descriptor = (data, mediaType) => ({ mediaType, digest: digestOf(data), size: data.length });
  const manifest = JSON.stringify(
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: descriptor(config, "application/vnd.oci.image.config.v1+json"),
      layers: layers.map((data) => descriptor(data, "application/vnd.oci.image.layer.v1.tar+gzip")),
    },
    null,
    2,
  );
  return { blobs: [config, ...layers], layers, manifest, digest: digestOf(manifest) };
}

/** The promise fails with exactly this exception class, its HTTP status and the given members; answers the exception. */
export async function refused(promise, exception, members = {}) {
  const caught = await promise.then(
    () => assert.fail(`${exception.name} expected`),
    (error) => error,
  );
  assert.ok(caught instanceof exception, `${exception.name} expected, not ${caught}`);
  assert.equal(caught.$metadata.httpStatusCode, 400);
  assert.ok(caught.$metadata.requestId);
  for (const [name, value] of Object.entries(members)) assert.deepEqual(caught[name], value, name);
  return caught;
}
