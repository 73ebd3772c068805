from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from autotag.demo.uploads import UploadLimits, count_uploads, read_uploads
from autotag.testing import make_image

LIMITS = UploadLimits(max_images=10, max_image_bytes=100_000, max_bytes=300_000)


def png() -> bytes:
    buffer = io.BytesIO()
    make_image("red").save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> list[tuple[str, Path]]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return [(path.name, path)]


def test_images_in_folders_of_a_zip_keep_their_paths_and_what_file_managers_leave_is_left_out(
    tmp_path: Path,
) -> None:
    files = zipped(tmp_path / "a.zip", {"2024/cat.png": png(), "__MACOSX/._cat.png": b"x", ".DS_Store": b"x"})
    [upload] = read_uploads(files, LIMITS)
    assert (upload.name, upload.content, upload.error) == ("2024/cat.png", png(), None)
    assert count_uploads(files, LIMITS) == 1


def test_the_time_in_the_name_of_a_screenshot_is_not_a_drive(tmp_path: Path) -> None:
    name = "Screenshot 2024-01-01 10:20:30.png"
    [upload] = read_uploads(zipped(tmp_path / "a.zip", {name: png()}), LIMITS)
    assert (upload.name, upload.error) == (name, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "leads out"), ("/etc/evil.png", "leads out"), ("a/../../evil.png", "leads out"),
        ("C:/evil.png", "leads out"), ("./C:/evil.png", "leads out"),
        ("..\\evil.png", "leads out"), ("a\nb.png", "control characters"),
        ("x" * 300 + ".png", "too long"), ("inner.zip", "zip in a zip"), ("notes.txt", "not an image"),
    ],
)  # fmt: skip
def test_a_member_that_may_not_be_is_refused_alone(tmp_path: Path, name: str, reason: str) -> None:
    uploads = list(read_uploads(zipped(tmp_path / "a.zip", {name: png(), "good.png": png()}), LIMITS))
    assert [upload.error is None for upload in uploads] == [False, True]
    assert reason in str(uploads[0].error)
    assert uploads[1].name == "good.png"


def test_a_bomb_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    files = zipped(tmp_path / "bomb.zip", {"bomb.png": bytes(50_000_000), "good.png": png()})
    assert files[0][1].stat().st_size < 100_000
    bomb, good = read_uploads(files, LIMITS)
    assert "more than" in str(bomb.error)
    assert good.error is None


def test_members_that_lie_about_their_size_are_refused(tmp_path: Path) -> None:
    [(_, path)] = zipped(tmp_path / "a.zip", {"bomb.png": bytes(1_000_000)})
    content = path.read_bytes().replace((1_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    [upload] = read_uploads([("a.zip", path)], LIMITS)
    assert "cannot be unpacked" in str(upload.error)


def test_all_files_together_and_their_number_are_limited(tmp_path: Path) -> None:
    parts = {f"{number}.png": bytes(90_000) for number in range(5)}
    uploads = list(read_uploads(zipped(tmp_path / "a.zip", parts), LIMITS))
    assert [upload.error is None for upload in uploads] == [True, True, True, False, False]
    many = list(read_uploads(zipped(tmp_path / "b.zip", {f"{n}.png": b"x" for n in range(30)}), LIMITS))
    assert sum(upload.error is None for upload in many) == 10
    assert "more images" in str(many[-1].error)
    assert len(many) == 11 == count_uploads([("b.zip", tmp_path / "b.zip")], LIMITS)


def test_an_encrypted_member_and_a_damaged_one_say_so(tmp_path: Path) -> None:
    [(_, path)] = zipped(tmp_path / "a.zip", {"a.png": png()})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    [locked] = read_uploads([("a.zip", path)], LIMITS)
    assert "encrypted" in str(locked.error)
    [(_, path)] = zipped(tmp_path / "b.zip", {"a.png": png()})
    content = bytearray(path.read_bytes())
    content[content.index(b"a.png") + 15] ^= 255
    path.write_bytes(content)
    [damaged] = read_uploads([("b.zip", path)], LIMITS)
    assert "cannot be unpacked" in str(damaged.error)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and no more", b"not a zip", b""])
def test_what_is_no_zip_is_one_error_and_the_others_go_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "b.png").write_bytes(png())
    bad, good = read_uploads([("a.zip", tmp_path / "a.zip"), ("b.png", tmp_path / "b.png")], LIMITS)
    assert "cannot be read" in str(bad.error)
    assert good.content == png()


def test_a_zip_with_too_long_a_table_of_contents_is_not_opened(tmp_path: Path) -> None:
    [(_, path)] = zipped(tmp_path / "a.zip", {"a.png": png()})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x05\x06")
    content[place + 12 : place + 16] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    [upload] = read_uploads([("a.zip", path)], LIMITS)
    assert "too many files" in str(upload.error)


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png())
    uploads = list(read_uploads([("cat.png", tmp_path / "b.png")] * 2, LIMITS))
    assert [upload.name for upload in uploads] == ["cat.png", "cat (2).png"]
