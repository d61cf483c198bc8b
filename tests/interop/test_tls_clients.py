# SPDX-License-Identifier: BSD-3-Clause
"""Real clients of nbdram over TLS, with certificates and with keys."""

import pytest

from credentials import USER
from harness import MIB, need, run

SCHEMES = ("certificates", "keys")
SIZE = 8 * MIB

each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture
def source(tmp_path, rng):
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.write(rng.randbytes(3 * MIB))
        file.truncate(SIZE)
    return path


def strict(nbdram, secrets, scheme, place="unix"):
    """A server that admits clients with a key, or with a certificate of ours."""
    peers = ("--tls-verify-peer",) if scheme == "certificates" else ()
    flags = ("--tls=require", *peers, *secrets.flags(scheme))
    return nbdram(str(SIZE), flags=flags, place=place)


@each_scheme
def test_libnbd_tools(nbdram, secrets, source, tmp_path, scheme):
    need("nbdcopy", "nbdinfo")
    server, back = strict(nbdram, secrets, scheme), tmp_path / "back"
    uri = f"nbds+unix:///?socket={server.socket}&tls-certificates={secrets.client}"
    if scheme == "keys":
        uri = f"nbds+unix://{USER}@/?socket={server.socket}&tls-psk-file={secrets.keys}"
    assert "with TLS" in run("nbdinfo", uri).stdout
    run("nbdcopy", "--connections=4", source, uri)
    assert "hole,zero" in run("nbdinfo", "--map", uri).stdout
    run("nbdcopy", "--connections=4", uri, back)
    run("cmp", source, back)
    assert run("nbdinfo", f"nbd+unix:///?socket={server.socket}", check=False).returncode != 0


@each_scheme
def test_qemu(nbdram, secrets, source, tmp_path, scheme):
    need("qemu-img", "qemu-io", "qemu-nbd")
    server, back = strict(nbdram, secrets, scheme), tmp_path / "back"
    creds = ("--object", secrets.qemu_object(scheme, tmp_path / "qemu"))
    where = f"driver=nbd,server.type=unix,server.path={server.socket},tls-creds=tls0"
    if scheme == "certificates":
        where += ",tls-hostname=localhost"
    disk = f"driver=raw,file.{where.replace(',', ',file.')}"
    opened = ("--image-opts", *creds)
    run("qemu-img", "convert", "-n", *creds, "--target-image-opts", "-f", "raw", source, disk)
    run("qemu-img", "convert", *opened, "-O", "raw", disk, back)
    run("cmp", source, back)
    done = run("qemu-io", *opened, "-c", "write -z 1M 1M", "-c", "read -P 0 1M 1M", disk)
    assert "failed" not in done.stdout + done.stderr
    hostname = ("--tls-hostname=localhost",) if scheme == "certificates" else ()
    listed = ("--list", "-k", server.socket, *creds, "--tls-creds=tls0", *hostname)
    assert f"size:  {SIZE}" in run("qemu-nbd", *listed).stdout


@each_scheme
def test_nbdkit(serve, nbdram, secrets, source, tmp_path, scheme):
    """nbdkit's nbd plugin is the client."""
    need("nbdcopy")
    server, back = strict(nbdram, secrets, scheme), tmp_path / "back"
    params = [f"socket={server.socket}", "tls=require"]
    if scheme == "keys":
        params += [f"tls-psk={secrets.keys}", f"tls-username={USER}"]
    else:
        params += [f"tls-certificates={secrets.client}", "tls-verify=true"]
    uri = serve(*params, plugin="nbd").uri
    run("nbdcopy", source, uri)
    run("nbdcopy", uri, back)
    run("cmp", source, back)


def test_over_tcp(nbdram, secrets, source, tmp_path):
    """The name in the certificate has to be the host's."""
    need("nbdcopy")
    server, back = strict(nbdram, secrets, "certificates", place="tcp4"), tmp_path / "back"
    uri = f"nbds://localhost:{server.port}/?tls-certificates={secrets.client}"
    run("nbdcopy", source, uri)
    run("nbdcopy", uri, back)
    run("cmp", source, back)
    wrong = uri.replace("localhost", "127.0.0.1")  # the certificate has another name
    assert run("nbdcopy", wrong, back, check=False).returncode != 0
