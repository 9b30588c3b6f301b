"""A layerhold server as a child process, and the clients that talk to it.

The demo and the client tests share this file. Nothing here waits for a fixed time: a server counts as up when its
health check answers, and as down when its process has ended.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import boto3
import urllib3
from botocore.config import Config

ACCOUNT = "000000000000"
ALIAS = "local"
REGION = "us-east-1"

START_SECONDS = 60
STOP_SECONDS = 60


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """One `layerhold serve` over one data directory: startable, killable, and startable again on the same ports."""

    def __init__(self, binary: str | Path, data: Path, *flags: str):
        self.data = data
        self.log = data.with_name(data.name + ".log")
        self.host = f"127.0.0.1:{free_port()}"
        self.public_host = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.host}"
        self.public_url = f"http://{self.public_host}"
        self.http = urllib3.PoolManager(retries=False, timeout=60)
        self._process: subprocess.Popen | None = None
        self._command = [
            str(binary),
            "serve",
            f"--data={data}",
            f"--listen={self.host}",
            f"--public-listen={self.public_host}",
            *flags,
        ]

    def start(self) -> "Registry":
        # The server gets no credentials and no settings of the caller's: what it does must follow from its flags.
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=clean)
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self._process.returncode}:\n{self.last_log()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not answer within {START_SECONDS} s:\n{self.last_log()}")
            time.sleep(0.01)
        return self

    def _healthy(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self.http.request("GET", f"{self.url}/healthz").status == 200
        return False

    def kill(self) -> None:
        """Ends the process as a power switch would: no signal that it could handle."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Asks the process to shut down, and answers its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        status = process.wait(STOP_SECONDS)
        # Connections of the dead process would fail the first request to its successor.
        self.http.clear()
        return status

    def last_log(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> "Registry":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def ecr(self, service: str = "ecr", *, validate: bool = True):
        """A boto3 client of this server; without `validate` it sends what it is given and the server has to judge."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="layerhold-client",
            aws_secret_access_key="not-a-secret",
            config=Config(
                retries={"total_max_attempts": 1}, parameter_validation=validate, read_timeout=120, connect_timeout=10
            ),
        )


def skopeo(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Runs skopeo over plain HTTP on loopback, without signature policies of the machine."""
    command = ["skopeo", "--insecure-policy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done


def skopeo_copy(source: str, target: str, *options: str) -> subprocess.CompletedProcess:
    return skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, target)
