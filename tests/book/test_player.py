"""What `write_mp4` writes, and what the reader returns of others' films, is what headless Chromium shows."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from mmlearn.media import write_mp4
from mmlearn.preprocessing.video.sampling import read_video
from tools import chromium

# No strong yellow or blue: without a GPU, Chromium (libyuv) takes 2.0 for BT.709's factor 2.112 of U, 11 levels off.
COLORS = [(200, 40, 90), (255, 255, 255), (128, 128, 128), (64, 64, 64), (0, 0, 0), (60, 160, 90), (210, 180, 165)]
FRAME = """
async (data) => {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  await new Promise((shown, failed) => {
    video.requestVideoFrameCallback(shown);
    video.onerror = () => failed(video.error.message);
    video.src = data;
    video.play();
  });
  video.pause();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const paint = canvas.getContext("2d", {colorSpace: "srgb"});
  paint.drawImage(video, 0, 0);
  const pixels = paint.getImageData(0, 0, canvas.width, canvas.height).data;
  let text = "";
  for (let k = 0; k < pixels.length; k += 8192) text += String.fromCharCode(...pixels.subarray(k, k + 8192));
  return [canvas.height, canvas.width, btoa(text)];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = chromium.find()
    if path is None:
        pytest.skip("no Chromium; `python -m tools.chromium` installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--mute-audio"])
        yield browser
        browser.close()


def first_frame(browser: Browser, path: Path) -> np.ndarray:
    """Return the first frame as the browser paints it, uint8 (H, W, 3)."""
    page = browser.new_page()
    kind = "webm" if path.suffix == ".webm" else "mp4"
    height, width, data = page.evaluate(
        FRAME, f"data:video/{kind};base64," + base64.b64encode(path.read_bytes()).decode()
    )
    page.close()
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]


def patches(height: int, width: int) -> np.ndarray:
    """Stripes of flat colors, (H, W, 3)."""
    stripes = np.array(COLORS, np.uint8)[np.arange(width) * len(COLORS) // width]
    return np.broadcast_to(stripes, (height, width, 3))


def middles(picture: np.ndarray) -> np.ndarray:
    """Return the mean color of each stripe's middle, (colors, 3)."""
    height, width = picture.shape[:2]
    places = ((np.arange(len(COLORS)) + 0.5) * width / len(COLORS)).astype(int)
    return np.stack([picture[height // 4 : height * 3 // 4, x - 4 : x + 4].reshape(-1, 3).mean(0) for x in places])


@pytest.mark.parametrize(("height", "width"), [(480, 854), (719, 641), (720, 1280)])
def test_colors_that_go_in_come_out(browser: Browser, tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "x.mp4"
    write_mp4(path, video=np.stack([patches(height, width)] * 3), fps=10, crf=10)
    ours = read_video(path, num_frames=1)[0][0]
    theirs = first_frame(browser, path)
    assert theirs.shape == ours.shape or height % 2 or width % 2  # a browser shows the padding of odd sizes
    assert np.abs(middles(theirs) - COLORS).max() <= 2
    assert np.abs(middles(ours) - middles(theirs)).max() <= 2


UNLABELLED, HD, SD, FULL = (2, 2, 2, 0), (1, 1, 1, 1), (6, 6, 6, 1), (6, 1, 1, 2)  # matrix, primaries, transfer, range


@pytest.mark.parametrize(
    ("height", "matrix", "labels"),
    [(480, "ITU601", UNLABELLED), (720, "ITU709", UNLABELLED), (480, "ITU709", HD), (720, "ITU601", SD),
     (480, "ITU601", FULL)],
)  # fmt: skip
def test_films_of_others(
    browser: Browser, tmp_path: Path, height: int, matrix: str, labels: tuple[int, int, int, int]
) -> None:
    """Labelled or not, in limited or full range: our frame is the browser's, and both are what was meant."""
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = height, 640, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(patches(height, 640)), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix,
                                   dst_color_range="JPEG" if labels[3] == 2 else "MPEG")  # fmt: skip
            for thing in (stream.codec_context, frame):
                thing.colorspace, thing.color_primaries, thing.color_trc, thing.color_range = labels
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    theirs, ours = middles(first_frame(browser, path)), middles(read_video(path, num_frames=1)[0][0])
    assert np.abs(ours - theirs).max() <= 2
    assert np.abs(ours - COLORS).max() <= 3


@pytest.mark.parametrize("ratio", [Fraction(3, 2), Fraction(4, 3), Fraction(8, 9)])
def test_pixels_that_are_not_square(browser: Browser, tmp_path: Path, ratio: Fraction) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 96, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = ratio
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 96, 3), 99, np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    assert read_video(path, num_frames=1)[0].shape[1:] == first_frame(browser, path).shape
