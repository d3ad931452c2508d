"""What may be a key, a bucket's name, a size and a media type."""

from __future__ import annotations

import pytest

from embedded.storage import names
from embedded.storage.errors import StorageError


@pytest.mark.parametrize("key", ["ring.jpg", "a/b c/(1)_v2-x.png", "../../etc/passwd", "a//b", "!*'&$=@;:+,?"])
def test_keys_of_the_safe_characters_are_taken(key: str) -> None:
    names.require_valid_key(key)


@pytest.mark.parametrize("key", ["", "größe.png", "100%.png", "a#b", "a\\b", "a\nb", "a\x00b", "ключ", "a~b"])
def test_keys_with_other_characters_are_refused(key: str) -> None:
    with pytest.raises(StorageError) as caught:
        names.require_valid_key(key)
    assert (caught.value.status, caught.value.code, caught.value.message) == (
        400,
        "InvalidKey",
        f"Invalid key: {key}",
    )


@pytest.mark.parametrize("name", ["", "a/b", " pictures", "pictures ", "bücher", "x" * 101])
def test_bucket_names_are_shorter_keys_without_slashes(name: str) -> None:
    with pytest.raises(StorageError) as caught:
        names.require_valid_bucket_name(name)
    assert caught.value.code == "InvalidBucketName"


def test_sizes_are_bytes_or_decimal_units() -> None:
    sizes = {value: names.parse_file_size_limit(value) for value in (None, 1234, "3B", "30KB", "20mb", "1.5MB")}
    assert sizes == {
        None: None,
        1234: 1234,
        "3B": 3,
        "30KB": 30_000,
        "20mb": 20_000_000,
        "1.5MB": 1_500_000,
    }


@pytest.mark.parametrize(("value", "status"), [("20", 400), ("much", 400), ("1GB", 413), (52_428_801, 413)])
def test_a_size_without_a_unit_or_above_the_projects_is_refused(value: int | str, status: int) -> None:
    with pytest.raises(StorageError) as caught:
        names.parse_file_size_limit(value)
    assert caught.value.status == status


@pytest.mark.parametrize("allowed", [None, [], ["image/png"], ["image/*"], ["*/*"], ["text/css", "IMAGE/PNG"]])
def test_a_listed_media_type_is_allowed_whatever_its_parameters(allowed: list[str] | None) -> None:
    names.require_allowed_mime_type("image/png; charset=binary", allowed)


@pytest.mark.parametrize("allowed", [["image/jpeg"], ["text/*"], ["image/p*"]])
def test_an_unlisted_media_type_is_refused(allowed: list[str]) -> None:
    with pytest.raises(StorageError) as caught:
        names.require_allowed_mime_type("image/png", allowed)
    assert (caught.value.status, caught.value.code) == (415, "InvalidMimeType")
