"""`gp-jax outpaint` from file to file, around a pipeline that paints unknown pixels in one colour."""

import copy
import signal
import sys
from argparse import ArgumentTypeError
from fractions import Fraction
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from gp_jax.cli.arguments import aspect, pads, size
from gp_jax.cli.main import main
from gp_jax.errors import UserError
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.method import Estimate, Method
from gp_jax.video import VideoReader, VideoWriter


class FlatMethod:
    """Stands in for the model: fast, and every wish it was given can be looked up."""

    wishes = lora = outputs = None

    Options = Options
    estimate = Estimate()
    side_by_side = Method.side_by_side

    @classmethod
    def load(cls, checkpoint, mesh, attention, dtype, lora=()):
        FlatMethod.lora = lora
        if checkpoint not in (None, "tiny", "other"):
            raise UserError(f"there is no checkpoint {checkpoint}")
        return cls()

    def prepare(self, clip, canvas, options, work=None):
        FlatMethod.wishes = options, canvas
        job = copy.copy(self)
        job.clip, job.canvas, job.options = clip, canvas, options
        return job

    def frames(self, progress):
        for index, frame in enumerate(self.clip.frames_at(range(len(self.clip)))):
            progress(index + 1, len(self.clip), "key frames")
            out = np.full((self.canvas.height, self.canvas.width, 3), (10, 120, 200), np.uint8)
            out[self.canvas.observed] = frame
            yield out
            if self.options.prompt == "fail":
                raise RuntimeError("out of memory")


@pytest.fixture(autouse=True)
def flat_method(monkeypatch):
    module = ModuleType("gp_jax.methods.globalpaint.method")
    module.GlobalPaint = lambda *arguments, **options: FlatMethod.load(*arguments, **options)
    monkeypatch.setitem(sys.modules, "gp_jax.methods.globalpaint.method", module)


@pytest.fixture
def source(tmp_path):
    """source("a.mp4", 3) -> path of a clip of 3 frames, 64x48, 12.5 a second."""

    def write(name: str, count: int = 3):
        rng = np.random.default_rng(0)
        with VideoWriter(tmp_path / name, 12.5) as writer:
            for index in range(count):
                small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8) // 2 + index)
                writer.write(np.array(small.resize((64, 48))))
        return writer.path

    return write


@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "frames"])
def test_a_clip_comes_out_wider_and_otherwise_the_same(tmp_path, source, name, count, capsys):
    out = tmp_path / "out.mp4"
    path = source(name, count)
    rate = ["--frame-rate", "12.5"] * (name == "frames")
    assert main(["outpaint", str(path), str(out), "--aspect", "16:9", *rate]) == 0
    before, after = VideoReader(path, 12.5), VideoReader(out)
    assert (after.info.width, after.info.height, len(after)) == (86, 48, count)
    assert after.info.times == before.info.times
    for old, new in zip(before, after):
        assert abs(new[:, 11:75].astype(int) - old).mean() < 6
    said = capsys.readouterr()
    assert said.err.endswith(f"key frames (1/{count})\n")  # one line per label where no bar can move
    summary = said.out
    assert summary.startswith(f"{out}: {count} frame") and "86x48" in summary and summary.endswith("checkpoint tiny\n")


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "out.gif", "out"])
def test_every_target_works_and_frames_are_exact_before_encoding(tmp_path, source, name):
    path = source("frames")
    assert main(["outpaint", str(path), str(tmp_path / name), "--pad", "3,4,5,6"]) == 0
    reader = VideoReader(tmp_path / name)
    assert (reader.info.width, reader.info.height, len(reader)) == (71, 59, 3)
    if name == "out":
        for old, new in zip(VideoReader(path), reader):
            np.testing.assert_array_equal(new[5:53, 3:67], old)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--mask", "m.png"], (64, 48)),
        (["--stabilize"], (64, 48)),
        (["--stabilize", "--pad", "1,2,3,4"], (67, 55)),
        (["--path", "p.csv", "--size", "100x60"], (100, 60)),
    ],
)
def test_what_is_made_within_the_frame_needs_no_new_one(tmp_path, source, options, size):
    assert main(["outpaint", str(source("a.mp4")), str(tmp_path / "out"), *options]) == 0
    wishes, canvas = FlatMethod.wishes
    assert (canvas.width, canvas.height) == size and (wishes.mask or wishes.path or wishes.stabilize)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing says what the new frame is: give --aspect"),
        (["--path", "p.csv"], "nothing says what the new frame is"),
        (["--mask", "m.png", "--method", "mirror"], "--mask is no option of mirror"),
        (["--stabilize", "--method", "m3ddm"], "--stabilize is no option of m3ddm"),
    ],
)
def test_a_frame_that_nobody_asked_for_is_told(tmp_path, source, options, told, capsys):
    assert main(["outpaint", str(source("a.mp4")), str(tmp_path / "out"), *options]) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_wishes_reach_the_pipeline(tmp_path, source):
    options = ["--size", "100x60", "--anchor", "top-left", "--seed", "7", "--steps", "4", "--sampler", "tcd"]
    options += ["--lora", "ink.safetensors:0.8", "--lora", "gold.safetensors"]
    options += [
        "--guidance",
        "2.5",
        "--text-guidance",
        "3",
        "--prompt",
        "a cat",
        "--plan",
        "sequential",
        "--eta",
        "0.5",
    ]
    assert main(["outpaint", str(source("a.mp4")), str(tmp_path / "out.mp4"), *options]) == 0
    wishes, canvas = FlatMethod.wishes
    assert FlatMethod.lora == [("ink.safetensors", 0.8), ("gold.safetensors", 1.0)]
    assert (canvas.height, canvas.width, canvas.top, canvas.left) == (60, 100, 0, 0)
    assert wishes == Options(7, 4, "tcd", 2.5, "a cat", text_guidance=3.0, plan="sequential", eta=0.5)


def test_a_method_without_networks(tmp_path, source, capsys):
    path, out = source("a.mp4"), tmp_path / "out"
    assert main(["outpaint", str(path), str(out), "--pad", "9,0,0,0", "--method", "mirror"]) == 0
    assert "method mirror" in capsys.readouterr().out
    for before, after in zip(VideoReader(path), VideoReader(out)):
        np.testing.assert_array_equal(after[:, :9], before[:, 8::-1])


BAD = {
    "an option of another method": (
        ["a.mp4", "out.mp4", "--aspect", "16:9", "--method", "mirror", "--steps", "2"],
        "--steps is no option of mirror: leave it out",
    ),
    "networks of a method without": (
        ["a.mp4", "out.mp4", "--aspect", "16:9", "--method", "edge", "--attention", "xla"],
        "--attention is for networks, and edge has none",
    ),
    "a LoRA for a method without": (
        ["a.mp4", "out.mp4", "--aspect", "16:9", "--method", "edge", "--lora", "ink.safetensors"],
        "--lora is for networks, and edge has none",
    ),
    "a LoRA for M3DDM": (
        ["a.mp4", "out.mp4", "--aspect", "16:9", "--method", "m3ddm", "--checkpoint", "tiny", "--lora", "text.mp4"],
        "m3ddm takes no LoRA",
    ),
    "no such method": (["a.mp4", "out.mp4", "--aspect", "16:9", "--method", "nothing"], "there is no method nothing"),
    "both aspect and size": (["a.mp4", "out.mp4", "--aspect", "16:9", "--size", "90x90"], "not allowed with"),
    "no frame asked for": (["a.mp4", "out.mp4"], "nothing says what the new frame is"),
    "smaller than the source": (["a.mp4", "out.mp4", "--size", "60x48"], "smaller than the source of 64x48"),
    "nothing to do": (["a.mp4", "out.mp4", "--aspect", "4:3"], "nothing to outpaint"),
    "no aspect": (["a.mp4", "out.mp4", "--aspect", "16:0"], "16:9"),
    "no steps": (["a.mp4", "out.mp4", "--aspect", "16:9", "--steps", "0"], "whole number"),
    **{
        f"{option} {value[:9]}": (["a.mp4", "out.mp4", "--aspect", "16:9", f"{option}={value}"], sentence)
        for option, values, sentence in (
            ("--guidance", ("nan", "inf", "-inf", "1e999", "much"), "not a finite number"),
            ("--text-guidance", ("nan", "-inf"), "not a finite number"),
            ("--seed", ("-1", "1.5", "x", str(2**64), "9" * 5000), "is not a seed"),
            ("--frame-rate", ("nan", "inf", "9" * 400), "frames per second"),
        )
        for value in values
    },
    **{
        f"aspect {value[:9]}": (["a.mp4", "out.mp4", "--aspect", value], "not of the form")
        for value in ("nan", "inf", "16:inf", "9" * 400, "1:" + "9" * 400, "9" * 400 + ":" + "9" * 400)
    },
    "no rate": (["frames", "out.mp4", "--aspect", "16:9", "--frame-rate", "0"], "--frame-rate"),
    "a rate of what has one": (["a.mp4", "out.mp4", "--aspect", "2", "--frame-rate", "9"], "has a rate itself"),
    "no name to compare with": (["a.mp4", ".", "--aspect", "2", "--compare"], "cannot be .: give it a name"),
    "no name to go on with": (["a.mp4", "/", "--aspect", "2", "--resume"], "cannot be /: give it a name"),
    "no name for its work": (["a.mp4", "o" * 250 + ".mp4", "--aspect", "2", "--resume"], "cannot be a work folder"),
    "work in the result's place": (["a.mp4", "out", "--aspect", "2", "--work-folder", "./out"], "the result is to lie"),
    **{
        f"work of {name}": (
            ["a.mp4", "out.mp4", "--aspect", "2", "--method", method, *options],
            f"{method} keeps nothing",
        )
        for name, method, options in (
            ("another method", "edge", ["--work-folder", "begun", "--resume"]),
            ("a method that keeps none", "flow", ["--resume"]),
            ("one in a folder", "mirror", ["--work-folder", "own"]),
            ("nobody", "folder:wider", ["--resume"]),
        )
    },
    "a checkpoint of a folder": (
        ["a.mp4", "out.mp4", "--aspect", "2", "--method", "folder:a.mp4", "--checkpoint", "tiny"],
        "folder:a.mp4 is made of no checkpoint",
    ),
    "no such anchor": (["a.mp4", "out.mp4", "--aspect", "16:9", "--anchor", "middle"], "middle"),
    "missing checkpoint": (["a.mp4", "out.mp4", "--aspect", "16:9", "--checkpoint", "nowhere"], "checkpoint nowhere"),
    "not a video": (["text.mp4", "out.mp4", "--aspect", "16:9"], "text.mp4 is not a video"),
    "empty": (["empty.mp4", "out.mp4", "--aspect", "16:9"], "empty.mp4 is an empty file"),
    "missing": (["nowhere.mp4", "out.mp4", "--aspect", "16:9"], "no video or folder"),
    "truncated at its index": (["cut.mp4", "out.mp4", "--aspect", "16:9"], "truncated"),
    "unwritable": (["a.mp4", "/proc/out.mp4", "--aspect", "16:9"], "cannot write"),
    "no folder for it": (["a.mp4", "nowhere/out.mp4", "--aspect", "16:9"], "no folder nowhere"),
    "unknown format": (["a.mp4", "out.xyz", "--aspect", "16:9"], "no format that can be written"),
    "already there": (["a.mp4", "empty.mp4", "--aspect", "16:9"], "there already"),
    "onto itself": (["a.mp4", "a.mp4", "--aspect", "16:9", "--overwrite"], "the source itself"),
    "already there, and the way": (["a.mp4", "empty.mp4", "--aspect", "16:9"], "--overwrite"),
    "larger than the codec takes": (["a.mp4", "out.mp4", "--size", "20000x144"], "do not go into .mp4"),
    "larger than anything takes": (["a.mp4", "out.gif", "--size", "70000x48"], "too large"),
    "smaller, and the way": (["a.mp4", "out.mp4", "--size", "60x48"], "--fit"),
    "a strip nobody sees": (["wide.mp4", "out.mp4", "--aspect", "1.99"], "ask for --size 600x302"),
    "fit without a size": (["a.mp4", "out.mp4", "--aspect", "2", "--fit"], "--fit goes with --size"),
    "bound without a ratio": (["a.mp4", "out.mp4", "--size", "90x90", "--max-side", "9"], "--max-side goes with"),
    "fits and fills": (["a.mp4", "out.mp4", "--size", "32x24", "--fit"], "nothing to outpaint"),
    "name too long": (["a.mp4", "o" * 252 + ".mp4", "--aspect", "2"], "File name too long"),
    "source name too long": (["o" * 300, "out.mp4", "--aspect", "2"], "File name too long"),
    "no file at all": (["/dev/null", "out.mp4", "--aspect", "2"], "neither a file nor a folder"),
    "read-only": (["a.mp4", "kept.mp4", "--aspect", "2", "--overwrite"], "read-only"),
    "a part of nothing": (["a.mp4", "out.mp4", "--aspect", "2", "--frames", "3:9"], "which has 3 frames, 0 to 2"),
    "no part": (["a.mp4", "out.mp4", "--aspect", "2", "--frames", "3-9"], "not of the form A:B"),
    "another container": (["a.mp4", "out.webm", "--aspect", "2", "--codec", "h264"], "which takes vp9, av1"),
    "too much lost": (["a.mp4", "out.mp4", "--aspect", "2", "--crf", "52"], "--crf of h264 goes from 0"),
    "a folder of crf": (["a.mp4", "out", "--aspect", "2", "--crf", "5"], "a folder of images has no choice"),
    "no such pixels": (["a.mp4", "out.mp4", "--aspect", "2", "--pix-fmt", "rgb"], "invalid choice: 'rgb'"),
    "compared with what is there": (["a.mp4", "own.mp4", "--aspect", "2", "--compare"], "own-compare.mp4 is there"),
    "unknown mesh": (["a.mp4", "out.mp4", "--aspect", "16:9", "--mesh", "moon=2"], "moon"),
}


@pytest.mark.parametrize("arguments, sentence", BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_no_file(tmp_path, source, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    data = source("a.mp4").read_bytes()
    with VideoWriter(tmp_path / "wide.mp4", 25) as writer:
        writer.write(np.zeros((300, 600, 3), np.uint8))
    with VideoWriter(tmp_path / "wider", 25) as writer:
        for _ in range(3):
            writer.write(np.zeros((48, 96, 3), np.uint8))
    (tmp_path / "kept.mp4").touch(mode=0o444)
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "own-compare.mp4").touch()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "work.json").write_text('{"method": "globalpaint"}')
    (tmp_path / "cut.mp4").write_bytes(data[:300])
    before = sorted(tmp_path.iterdir())
    assert main(["outpaint", *arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "a.mp4").read_bytes() == data


def size_of(path):
    info = VideoReader(path).info
    return info.width, info.height


@pytest.mark.parametrize(
    "wishes, shape, seen",
    [
        (["--size", "96x32", "--fit"], (96, 32), "43x32"),
        (["--size", "90x60", "--fit"], (90, 60), None),  # it fits as it is
        (["--aspect", "16:9", "--max-side", "64"], (64, 36), "48x36"),
        (["--aspect", "9:16", "--max-side", "65"], (36, 64), "36x27"),
        (["--aspect", "16:9", "--max-side", "500"], (86, 48), None),
    ],
)
def test_a_source_is_scaled_down_where_that_is_asked_for_and_it_is_said(tmp_path, source, capsys, wishes, shape, seen):
    path = source("a.mp4")
    assert main(["outpaint", str(path), str(tmp_path / "out.mp4"), *wishes]) == 0
    assert size_of(tmp_path / "out.mp4") == shape
    said = capsys.readouterr().out
    assert (f"source scaled to {seen}" in said) if seen else ("source scaled" not in said)
    _, canvas = FlatMethod.wishes
    small = cv2.resize(next(iter(VideoReader(path))), (canvas.source_width, canvas.source_height), None, 0, 0, 3)
    assert abs(next(iter(VideoReader(tmp_path / "out.mp4")))[canvas.observed].astype(int) - small).mean() < 6


@pytest.mark.parametrize("wish, kept", [("1:3", (1, 3)), (":2", (0, 2)), ("-2:", (1, 3)), ("0:9", (0, 3))])
def test_a_part_of_the_clip(tmp_path, source, wish, kept):
    path = source("a.mp4")
    assert main(["outpaint", str(path), str(tmp_path / "out"), "--pad", "4,0,0,0", f"--frames={wish}"]) == 0
    made = np.stack(list(VideoReader(tmp_path / "out")))
    np.testing.assert_array_equal(made[:, :, 4:], np.stack(list(VideoReader(path)))[slice(*kept)])


def test_shots_are_made_one_by_one_and_that_is_said(tmp_path, source, capsys):
    frames = np.concatenate([np.full((6, 48, 64, 3), level, np.uint8) for level in (40, 200, 90)])
    with VideoWriter(tmp_path / "film", 25) as writer:
        for frame in frames:
            writer.write(frame)
    assert main(["outpaint", str(tmp_path / "film"), str(tmp_path / "out"), "--aspect", "2"]) == 0
    assert "3 shots, which begin at the frames 0, 6, 12: each is made by itself" in capsys.readouterr().err
    assert main(["outpaint", str(tmp_path / "film"), str(tmp_path / "one"), "--aspect", "2", "--no-shots"]) == 0
    assert "shots, which" not in capsys.readouterr().err
    made, one = (np.stack(list(VideoReader(tmp_path / name))) for name in ("out", "one"))
    np.testing.assert_array_equal(made, one)
    np.testing.assert_array_equal(made[:, *FlatMethod.wishes[1].observed], frames)


def test_a_preview_is_small_and_soon_unless_told(tmp_path, source, monkeypatch):
    path = source("a.mp4")
    assert main(["outpaint", str(path), str(tmp_path / "one.mp4"), "--aspect", "2", "--preview"]) == 0
    assert FlatMethod.wishes[0].steps is None  # tiny takes fewer by itself
    monkeypatch.setattr("gp_jax.cli.outpaint._own_steps", lambda arguments: 25)
    assert main(["outpaint", str(path), str(tmp_path / "out.mp4"), "--size", "960x600", "--preview"]) == 0
    options, canvas = FlatMethod.wishes
    assert size_of(tmp_path / "out.mp4") == (480, 300) and (canvas.source_height, canvas.source_width) == (24, 32)
    assert (options.steps, options.adapt) == (4, 0)
    wishes = ["--aspect", "2", "--preview", "--steps", "9"]
    assert main(["outpaint", str(path), str(tmp_path / "same.mp4"), *wishes]) == 0
    assert size_of(tmp_path / "same.mp4") == (96, 48) and FlatMethod.wishes[0].steps == 9
    assert main(["outpaint", str(path), str(tmp_path / "m.mp4"), "--aspect", "2", "--preview", "--method", "edge"]) == 0


def test_a_comparison_lies_beside_the_result(tmp_path, source):
    path = source("a.mp4")
    assert (
        main(["outpaint", str(path), str(tmp_path / "out.mkv"), "--aspect", "2", "--compare", "--codec", "ffv1"]) == 0
    )
    plain, beside = (np.stack(list(VideoReader(tmp_path / f"out{name}.mkv"))) for name in ("", "-compare"))
    there, result, difference = np.split(beside, 3, axis=2)
    np.testing.assert_array_equal(result, plain)
    canvas = FlatMethod.wishes[1]
    np.testing.assert_array_equal(there[:, *canvas.observed], np.stack(list(VideoReader(path))))
    assert (difference[:, *canvas.observed] == 0).all() and (difference[:, :, 0] == 40).all()


def test_what_reading_changes_and_writing_loses_is_one_line(tmp_path, source, capsys):
    assert main(["outpaint", str(source("a.gif")), str(tmp_path / "out.mp4"), "--aspect", "2"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gp-jax")]
    assert told == [f"gp-jax: {tmp_path / 'a.gif'}: not carried over: how often it plays"]


def test_a_file_that_appears_meanwhile_stays(tmp_path, source, monkeypatch, capsys):
    path, out = source("a.mp4"), tmp_path / "out.mp4"
    monkeypatch.setattr(FlatMethod, "load", lambda name, **_: out.write_text("new") and FlatMethod())
    assert main(["outpaint", str(path), str(out), "--aspect", "2"]) == 2
    assert "exists already" in capsys.readouterr().err and out.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [path, out]


def test_links_and_modes_stay_when_a_file_is_replaced(tmp_path, source):
    path, out, link = source("a.mp4"), tmp_path / "out.mp4", tmp_path / "link.mp4"
    out.write_text("old")
    out.chmod(0o640)
    link.symlink_to(out)
    assert main(["outpaint", str(path), str(link), "--aspect", "2", "--overwrite"]) == 0
    assert link.is_symlink() and size_of(out) == (96, 48) and out.stat().st_mode & 0o777 == 0o640


def test_the_longest_legal_name_works(tmp_path, source):
    out = tmp_path / ("o" * 251 + ".mp4")
    assert main(["outpaint", str(source("a.mp4")), str(out), "--aspect", "2"]) == 0
    assert size_of(out) == (96, 48)


def test_being_ended_by_a_signal_leaves_nothing(tmp_path, source, monkeypatch):
    path = source("a.mp4")

    def frames(self, progress):
        yield np.zeros((self.canvas.height, self.canvas.width, 3), np.uint8)
        signal.raise_signal(signal.SIGTERM)
        yield np.zeros((self.canvas.height, self.canvas.width, 3), np.uint8)

    monkeypatch.setattr(FlatMethod, "frames", frames)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit) as caught:
            main(["outpaint", str(path), str(tmp_path / "out.mp4"), "--aspect", "2"])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.code == 128 + signal.SIGTERM and list(tmp_path.iterdir()) == [path]


def test_a_truncated_clip_is_outpainted_as_far_as_it_goes_and_that_is_said(tmp_path, source, capsys):
    path = source("long.mp4", 80)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])
    assert main(["outpaint", str(path), str(tmp_path / "out.mp4"), "--aspect", "2"]) == 0
    assert "truncated or damaged" in capsys.readouterr().err
    assert 10 < len(VideoReader(tmp_path / "out.mp4")) == len(VideoReader(path)) < 80


def test_a_failure_on_the_way_leaves_nothing(tmp_path, source):
    path = source("a.mp4")
    with pytest.raises(RuntimeError, match="out of memory"):
        main(["outpaint", str(path), str(tmp_path / "out.mp4"), "--aspect", "2", "--prompt", "fail"])
    with pytest.raises(RuntimeError, match="out of memory"):
        main(["outpaint", str(path), str(tmp_path / "out.mp4"), "--aspect", "2", "--prompt", "fail", "--compare"])
    assert list(tmp_path.iterdir()) == [path]


def test_arguments_read_as_people_write_them():
    assert aspect("16:9") == 16 / 9 and aspect("2.39") == 2.39 and aspect("2.39:1") == 2.39
    assert size("1920x1080") == (1080, 1920)
    assert pads("1,2,3,4") == (1, 2, 3, 4)
    for parse, text in (
        (aspect, "wide"),
        (aspect, "0:1"),
        (aspect, "-1"),
        (size, "1920"),
        (pads, "1,2,3"),
        (pads, "-1,0,0,0"),
    ):
        with pytest.raises(ArgumentTypeError, match="form"):
            parse(text)


def test_the_rate_of_a_folder_is_asked_for(tmp_path, source):
    assert (
        main(["outpaint", str(source("frames")), str(tmp_path / "o.mp4"), "--aspect", "2", "--frame-rate", "29.97"])
        == 0
    )
    assert VideoReader(tmp_path / "o.mp4").info.frame_rate == Fraction(2997, 100)
