# SPDX-License-Identifier: BSD-2-Clause
"""An authority that issues certificates, by the openssl command.

    ca = Authority(lab.dir("pki"));  pem = ca.issue("a.test", "*.b.test", kind="rsa")
"""

import os
import subprocess

CONF = """
[ca]
default_ca = here
[here]
dir = {dir}
database = {dir}/index.txt
rand_serial = yes
new_certs_dir = {dir}
certificate = {dir}/ca.pem
private_key = {dir}/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
unique_subject = no
policy = any
[any]
commonName = optional
[req]
distinguished_name = dn
[dn]
"""

KINDS = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["-newkey", "rsa:2048"],
         "weak": ["-newkey", "rsa:1024"]}


def openssl(*args, **kw):
    r = subprocess.run(["openssl", *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **kw)
    assert r.returncode == 0, f"openssl {args}: {r.stderr}"
    return r.stdout


def kind_of(name):
    return "IP" if ":" in name or name.replace(".", "").isdigit() else "DNS"


class Authority:
    def __init__(self, directory, name="Test Authority"):
        self.dir, self.n = directory, 0
        self.pem, self.key, self.conf = self.path("ca.pem"), self.path("ca.key"), self.path("ca.conf")
        self.write("ca.conf", CONF.format(dir=directory))
        self.write("index.txt", "")
        openssl("req", "-x509", "-new", *KINDS["ec"], "-nodes", "-config", self.conf, "-keyout", self.key,
                "-out", self.pem, "-days", "30", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def issue(self, *names, kind="ec", file=None, cn=None, client=False, dates=None):
        """A PEM file with leaf, authority and key for these names; dates: (from, to) as YYYYMMDDHHMMSSZ."""
        self.n += 1
        stem = self.path(f"c{self.n}")
        openssl("req", "-new", *KINDS[kind], "-nodes", "-config", self.conf, "-keyout", stem + ".key",
                "-out", stem + ".csr", "-subj", f"/CN={cn or names[0]}")
        ext = ["extendedKeyUsage=" + ("clientAuth" if client else "serverAuth")]
        if names:
            ext.append("subjectAltName=" + ",".join(f"{kind_of(n)}:{n}" for n in names))
        self.write(f"c{self.n}.ext", "\n".join(ext) + "\n")
        when = ["-startdate", dates[0], "-enddate", dates[1]] if dates else []
        openssl("ca", "-batch", "-notext", "-config", self.conf, "-in", stem + ".csr", "-out", stem + ".crt",
                "-extfile", stem + ".ext", *when)
        with open(stem + ".crt") as c, open(self.pem) as a, open(stem + ".key") as k:
            text = c.read() + a.read() + k.read()
        file = file or stem + ".pem"
        with open(file + ".new", "w") as f:
            f.write(text)
        os.rename(file + ".new", file)
        return file

    def revoke(self, pem):
        openssl("ca", "-batch", "-config", self.conf, "-revoke", pem)

    def crl(self):
        path = self.path("crl.pem")
        openssl("ca", "-gencrl", "-config", self.conf, "-out", path)
        return path

    def staple(self, pem):
        """Writes the OCSP response beside the file."""
        openssl("ocsp", "-index", self.path("index.txt"), "-CA", self.pem, "-rsigner", self.pem, "-rkey", self.key,
                "-issuer", self.pem, "-cert", pem, "-respout", pem + ".ocsp", "-ndays", "7")
        return pem + ".ocsp"
