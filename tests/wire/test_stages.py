"""The stages of a pipeline, and what is not of their making."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.wire.stages import STAGES, restore


@given(st.binary(max_size=5000))
def test_what_went_in_comes_out(body: bytes) -> None:
    document = body
    for run in STAGES.values():
        document = run(document)
    assert restore(document) == body
    assert zlib.decompress(STAGES["compress"](body)) == body


@pytest.mark.parametrize("other", [b"", b"[]", b"null", b'{"data":1}', b'{"data":"#"}', b"\xff"])
def test_no_document(other: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        restore(other)


def test_a_document_whose_body_was_changed() -> None:
    document = json.loads(STAGES["format"](STAGES["compress"](b"hello")))
    for key, value in (("bytes", 1), ("sha256", "0"), ("data", "aGk=")):
        with pytest.raises(ValueError, match="body"):
            restore(json.dumps(document | {key: value}).encode())


@given(st.binary(max_size=200))
def test_garbage(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        restore(STAGES["format"](b"x" + body))
