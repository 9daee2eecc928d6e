"""Certificates: good in the eyes of OpenSSL at its strictest, readable by their owner alone, gone with the process."""

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from bench.certificates import ADDRESSES, NAMES, certificates, make_certificates


def test_openssl_finds_nothing_wrong(need: Callable[[str], str], tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    strict = [need("openssl"), "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(made.authority)]
    for name in NAMES:
        subprocess.run([*strict, "-verify_hostname", name, str(made.certificate)], check=True, capture_output=True)
    for address in ADDRESSES:
        subprocess.run([*strict, "-verify_ip", address, str(made.certificate)], check=True, capture_output=True)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*strict, "-verify_hostname", "a.test", str(made.certificate)], check=True, capture_output=True)


def test_one_set_for_a_process_and_other_keys_for_each(tmp_path: Path) -> None:
    assert certificates() is certificates()
    other = make_certificates(tmp_path)
    assert other.private_key.read_bytes() != certificates().private_key.read_bytes()
    serials = {
        x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number for each in (other, certificates())
    }
    assert len(serials) == 2


def test_the_key_is_its_owners_alone() -> None:
    made = certificates()
    assert stat.S_IMODE(made.private_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.private_key.parent.stat().st_mode) == 0o700


def test_nothing_is_left_when_the_process_ends() -> None:
    code = "from bench.certificates import certificates; print(certificates().private_key)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).parent.exists()
