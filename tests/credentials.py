# SPDX-License-Identifier: BSD-3-Clause
"""Certificates and keys for TLS, made for each run."""

import pathlib

from harness import run

USER, KEY, WRONG_KEY = "alice", "00112233445566778899aabbccddeeff", "ff" * 16

OPENSSL_CONFIG = """
[req]
distinguished_name = empty
prompt = no
[empty]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
[client]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = clientAuth
[dated]
database = index.txt
unique_subject = no
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
"""


class Authority:
    """A certificate authority, and folders of its certificates as nbdkit and libnbd want them."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder = folder
        folder.mkdir()
        (folder / "openssl.cnf").write_text(OPENSSL_CONFIG)
        self.certificate = folder / "ca-cert.pem"
        self._issue("ca", "ca", name)

    def server(self) -> pathlib.Path:
        self._issue("server", "server", "localhost")
        return self.folder

    def pair(self, section: str, dates: tuple[str, str] | None = None) -> tuple:
        """(certificate, key) for this role, valid now or from one date to another."""
        role = f"{section}-{dates[0] if dates else 'now'}"
        self._issue(role, section, "localhost", dates)
        return self.folder / f"{role}-cert.pem", self.folder / f"{role}-key.pem"

    def client(self, trusts: "Authority") -> pathlib.Path:
        """The folder of a client that has our certificate, and trusts servers of `trusts`."""
        self._issue("client", "client", "a client")
        folder = self.folder / "client"
        folder.mkdir()
        for name in ("client-cert.pem", "client-key.pem"):
            (self.folder / name).rename(folder / name)
        (folder / "ca-cert.pem").write_bytes(trusts.certificate.read_bytes())
        return folder

    def revocations(self, *certificates: pathlib.Path) -> bytes:
        """A list that revokes these certificates, and the earlier ones."""
        (self.folder / "index.txt").touch()
        issuer = ("-cert", self.certificate, "-keyfile", self.folder / "ca-key.pem")
        common = ("openssl", "ca", "-config", "openssl.cnf", "-name", "dated", *issuer)
        for certificate in certificates:
            run(*common, "-revoke", certificate, cwd=self.folder)
        crl = self.folder / "crl.pem"
        run(*common, "-gencrl", "-crldays", "2", "-out", crl, cwd=self.folder)
        return crl.read_bytes()

    def _issue(self, role: str, section: str, name: str, dates: tuple | None = None) -> None:
        key, certificate = self.folder / f"{role}-key.pem", self.folder / f"{role}-cert.pem"
        config = ("-config", self.folder / "openssl.cnf")
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)
        common = ("openssl", "req", *config, *new, "-subj", f"/CN={name}")
        if role == "ca":
            run(*common, "-x509", "-days", "2", "-extensions", section, "-out", certificate)
            return
        request = self.folder / f"{role}.csr"
        run(*common, "-out", request)
        if dates:
            self._sign_dated(request, section, dates, certificate)
            return
        issuer = ("-CA", self.certificate, "-CAkey", self.folder / "ca-key.pem")
        extensions = ("-extfile", self.folder / "openssl.cnf", "-extensions", section)
        serial = ("-set_serial", "2" if role == "server" else "3", "-days", "2")
        run("openssl", "x509", "-req", "-in", request, *issuer, *extensions, *serial,
            "-out", certificate)  # fmt: skip

    def _sign_dated(self, request, section, dates, certificate) -> None:
        """Certificates of `openssl x509` would always be valid from today."""
        (self.folder / "index.txt").touch()
        issuer = ("-cert", self.certificate, "-keyfile", self.folder / "ca-key.pem")
        run("openssl", "ca", "-batch", "-notext", "-config", "openssl.cnf", "-name", "dated",
            "-rand_serial", "-extensions", section, *issuer, "-startdate", dates[0],
            "-enddate", dates[1], "-in", request, "-out", certificate,
            cwd=self.folder)  # fmt: skip


class Secrets:
    """The certificates and keys of servers and clients.

    certificates  the server's folder
    client        a client whose certificate the server accepts
    stranger      a client of another authority
    nobody        a client without a certificate, which trusts the server
    keys          pre-shared keys; wrong_keys has others
    """

    def __init__(self, folder: pathlib.Path):
        ours, others = Authority(folder / "ours", "us"), Authority(folder / "others", "them")
        self.certificates = ours.server()
        self.client = ours.client(trusts=ours)
        self.stranger = others.client(trusts=ours)
        self.nobody = folder / "nobody"
        self.nobody.mkdir()
        (self.nobody / "ca-cert.pem").write_bytes(ours.certificate.read_bytes())
        self.others_ca = others.certificate
        self.ours, self.others = ours, others
        self.keys = folder / "keys.psk"
        self.keys.write_text(f"bob:{'01' * 16}\n{USER}:{KEY}\n")
        self.wrong_keys = folder / "wrong.psk"
        self.wrong_keys.write_text(f"{USER}:{WRONG_KEY}\nmallory:{KEY}\n")

    def flags(self, scheme: str) -> tuple:
        if scheme == "keys":
            return ("--tls-psk", self.keys)
        return ("--tls-certificates", self.certificates)

    def qemu_object(self, scheme: str, folder: pathlib.Path) -> str:
        """The value of --object that makes tls0 in qemu's tools.  Keys are put into `folder`."""
        if scheme == "certificates":
            return f"tls-creds-x509,id=tls0,dir={self.client},endpoint=client,verify-peer=on"
        folder.mkdir()
        (folder / "keys.psk").write_bytes(self.keys.read_bytes())
        return f"tls-creds-psk,id=tls0,dir={folder},username={USER},endpoint=client"
