"""Archives from a web server on this machine: whole, cut off, wrong, and none."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
from pathlib import Path

import pytest

from data.coco_cd.tree import copy_coco
from data.coco_cd.tree import open_pool as open_coco
from data.waterbirds_seg.tree import CUB, PLACES, TREE, open_pool
from flipjax.config import ConfigError
from flipjax.data.__main__ import main
from flipjax.data.prepare.coco_cd import coco_cd_dataset_builder as coco_cd
from flipjax.data.prepare.downloads import Archive, fetch
from flipjax.data.prepare.waterbirds_seg import waterbirds_seg_dataset_builder as waterbirds_seg


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, at most `cut` bytes a connection and `left` in all; by default with ranges and their lengths."""

    files: dict
    cut = left = 1 << 30
    ranges = lengths = True

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        content = self.server.files[self.path[1:]]
        start = int((self.headers["Range"] or "bytes=0-")[6:-1]) if self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        sent = content[start : start + min(self.server.cut, self.server.left)]
        self.server.left -= len(sent)
        self.wfile.write(sent)


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as made:
        made.files, made.starts = {}, []
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def packed(folder, names, prefix=""):
    """A tar.gz of names of a folder, below a prefix."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in names:
            archive.add(folder / name, f"{prefix}{name}")
    return stream.getvalue()


def test_waterbirds_from_archives_that_are_cut_off(server, tmp_path, monkeypatch, capsys):
    lists = ("images", "images.txt", "train_test_split.txt")
    shutil.copytree(TREE / PLACES, tmp_path / "places/places365_standard")
    places = packed(tmp_path / "places", ["places365_standard"])
    birds = packed(TREE / CUB, lists, "CUB_200_2011/"), packed(TREE / CUB, ["segmentations"])
    server.files = dict(zip(("CUB_200_2011.tgz", "segmentations.tgz", "places.tar"), (*birds, places), strict=True))
    archives = []
    for each, (name, content) in zip(waterbirds_seg.ARCHIVES, server.files.items(), strict=True):
        archives.append(each._replace(url=server.url(name), md5=hashlib.md5(content).hexdigest(), members=""))
    monkeypatch.setattr(waterbirds_seg, "ARCHIVES", archives)
    command = ["prepare", "waterbirds_seg", "--download", "--data_dir", str(tmp_path / "tfds")]
    downloads = tmp_path / "tfds/downloads/waterbirds_seg"
    server.cut, server.left = 3000, 4000
    assert main(command) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert [(path.name, path.stat().st_size) for path in downloads.iterdir()] == [("CUB_200_2011.tgz.part", 4000)]
    server.cut, server.left, server.starts = 5000, 1 << 30, []
    assert main(command) == 0
    assert server.starts[0] == 4000 and 5000 in server.starts
    assert open_pool(tmp_path / "tfds")[0].scenes.shape[0] == 20
    assert [path.name for path in downloads.iterdir()] == ["unpacked"]
    server.files = {}
    assert main(command) == 0


def test_coco_from_archives(server, tmp_path, monkeypatch):
    root = copy_coco(tmp_path / "coco")
    (root / "annotations/captions_val2017.json").write_text("{}")
    for name, folder in zip("abcd", ("train2017", "val2017", "annotations", "annotations"), strict=True):
        server.files[name] = Path(shutil.make_archive(str(tmp_path / name), "zip", root, folder)).read_bytes()
    server.ranges = False
    archives = zip(coco_cd.ARCHIVES, "abcd", strict=True)
    monkeypatch.setattr(coco_cd, "ARCHIVES", [each._replace(url=server.url(name), md5="") for each, name in archives])
    assert main(["prepare", "coco_cd", "--download", "--split", "free", "--data_dir", str(tmp_path / "tfds")]) == 0
    assert len(open_coco(tmp_path / "tfds")[0].images) == 16
    assert len(list((tmp_path / "tfds/downloads/coco_cd/unpacked/annotations").iterdir())) == 4


def test_an_archive_of_unknown_length(server, tmp_path, capsys):
    server.files, server.lengths = {"a.tgz": packed(TREE, ["metadata.csv"])}, False
    unpacked = fetch([Archive(server.url("a.tgz"))], tmp_path)
    assert (unpacked / "metadata.csv").read_bytes() == (TREE / "metadata.csv").read_bytes()
    assert "a.tgz.part: 0 MB" in capsys.readouterr().err


BAD = {
    "a web page": (b"<html>no archive</html>", ""),
    "another digest": (packed(TREE, ["metadata.csv"]), "0" * 32),
    "empty": (b"", ""),
    "cut off": (packed(TREE, ["metadata.csv"])[:-200], ""),
    "leads outside": (packed(TREE, ["metadata.csv"], "../"), ""),
}


@pytest.mark.parametrize(("content", "md5"), BAD.values(), ids=BAD)
def test_what_is_no_archive_leaves_nothing(server, tmp_path, content, md5):
    server.files = {"a.zip": content}
    with pytest.raises(ConfigError, match="--download"):
        fetch([Archive(server.url("a.zip"), md5=md5)], tmp_path / "downloads")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".zip"]


@pytest.mark.parametrize(("name", "flag"), [("waterbirds_seg", "--cub_dir"), ("coco_cd", "--coco_root")])
def test_folders_or_a_download_are_needed(tmp_path, capsys, name, flag):
    assert main(["prepare", name, "--data_dir", str(tmp_path)]) == 2
    assert flag in capsys.readouterr().err
