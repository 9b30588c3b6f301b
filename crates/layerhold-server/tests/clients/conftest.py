"""One server for the whole run, and a fresh repository for every test."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Registry

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def binary() -> Path:
    path = os.environ.get("LAYERHOLD")
    assert path, "LAYERHOLD names the binary under test; `make clients` sets it"
    return Path(path)


@pytest.fixture(scope="session")
def registry(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(binary, tmp_path_factory.mktemp("registry") / "data") as running:
        yield running


@pytest.fixture
def start(binary: Path, tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Starts servers of the test's own, with the flags it gives; for tests that kill them."""
    started: list[Registry] = []

    def start_one(*flags: str) -> Registry:
        started.append(Registry(binary, tmp_path / f"data-{len(started)}", *flags).start())
        return started[-1]

    yield start_one
    for one in started:
        one.kill()


@pytest.fixture(scope="session")
def ecr(registry: Registry):
    return registry.ecr()


@pytest.fixture(scope="session")
def raw_ecr(registry: Registry):
    """The private client without its own validation: what it sends, the server has to judge."""
    return registry.ecr(validate=False)


@pytest.fixture(scope="session")
def public(registry: Registry):
    return registry.ecr("ecr-public")


@pytest.fixture(scope="session")
def raw_public(registry: Registry):
    return registry.ecr("ecr-public", validate=False)


@pytest.fixture
def fresh_name(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Names that no other test uses; each call gives another one."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:80].strip("-")
    return lambda: f"t{next(_numbers)}/{test}"


@pytest.fixture
def repo(ecr, fresh_name: Callable[[], str]) -> str:
    name = fresh_name()
    ecr.create_repository(repositoryName=name)
    return name


@pytest.fixture
def public_repo(public, fresh_name: Callable[[], str]) -> str:
    name = fresh_name()
    public.create_repository(repositoryName=name)
    return name
