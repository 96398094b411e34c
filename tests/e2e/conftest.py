"""Fixtures: a folder, clusters and a deadline for each test. Nothing survives a test."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from cluster import Cluster  # noqa: E402
from waiting import SLOW  # noqa: E402

# A shell's background jobs ignore SIGINT and so would all that we start; what is handled here, the
# programs under test get with its default action.
signal.signal(signal.SIGINT, signal.default_int_handler)

TEST_TIMEOUT_S = 90
ROOT_ONLY = "needs root (mounts): run the tests as root"


def pytest_configure(config):
    config.addinivalue_line("markers", "root: needs root, for mounts or other users")


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=ROOT_ONLY))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(autouse=True)
def deadline():
    """A test that hangs fails."""
    def late(signo, frame):
        raise AssertionError(f"the test took more than {TEST_TIMEOUT_S * SLOW} s")
    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_TIMEOUT_S * SLOW)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def folder():
    """An empty directory that every user may enter."""
    path = tempfile.mkdtemp(prefix="gfs-e2e-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_cluster(folder, request):
    """make_cluster(servers=3, ...) -> a running Cluster; ended, and checked, after the test."""
    clusters = []

    def make(**options):
        path = os.path.join(folder, f"cluster{len(clusters)}")
        cluster = Cluster(path, **options)
        clusters.append(cluster)
        return cluster.start()

    yield make
    wrong = []
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    for cluster in clusters:
        if failed:
            for daemon in cluster.daemons():
                if daemon.proc is not None:
                    print(f"--- {daemon.name} ({daemon.proc.poll()})\n{daemon.log(25)}")
        try:
            wrong += cluster.finish()
        finally:
            cluster.kill_all()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def cluster(make_cluster):
    """A master and three chunkservers."""
    return make_cluster()


@pytest.fixture
def small_disk(folder):
    """small_disk(size) -> a directory on a tmpfs of that size ("2m"). For tests marked root."""
    mounted = []

    def mount(size):
        path = os.path.join(folder, f"disk{len(mounted)}")
        os.mkdir(path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=False)
