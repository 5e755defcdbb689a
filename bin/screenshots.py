#!/usr/bin/env python3
"""Make the pictures of docs/img: parts of a report at 1,400 and 390 pixels, light and dark.

    bin/screenshots.py data/report.html docs/img

Needs Chromium on the PATH, and Pillow, which comes with matplotlib.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

REPO = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PARTS = {"flow": "header.top, #flow", "scores": "#scores", "trust": "#trust", "windows": "#windows"}
WIDTHS = (1400, 390)
THEMES = ("light", "dark")
TALLEST = {1400: 2600, 390: 3200}
LONGEST = {1400: 1500, 390: 1900}  # pixels of a picture; what is below is left out
NARROWEST = 500  # of Chromium's windows; a narrower page stands in a frame


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    html = source.read_text("utf-8").replace(f"file:{REPO}/", "")
    for part, width, theme in _wanted():
        target = out / f"report-{part}-{width}-{theme}.png"
        with tempfile.TemporaryDirectory() as folder:
            picture = shoot(only(html, PARTS[part], theme), width, Path(folder))
        picture.save(target, optimize=True)
        print(f"{target}: {picture.width} x {picture.height}, {target.stat().st_size:,} bytes")


def _wanted() -> list[tuple[str, int, str]]:
    """Every part is shown once in each width, the first in both themes."""
    first, *others = PARTS
    both = [(first, width, theme) for width in WIDTHS for theme in THEMES]
    return both + [
        (part, width, THEMES[(i + j) % 2])
        for i, part in enumerate(others)
        for j, width in enumerate(WIDTHS)
    ]


def only(html: str, selector: str, theme: str) -> str:
    """The page with one part of it shown, in a theme."""
    style = "section, header.top { display: none } section { padding-top: 24px !important }"
    style += f" {selector} {{ display: block !important }} .wrap {{ padding-bottom: 24px }}"
    themed = re.sub(r"<html ", f'<html data-theme="{theme}" ', html, count=1)
    return themed.replace("</head>", f"<style>{style}</style></head>", 1)


def shoot(html: str, width: int, folder: Path) -> Image.Image:
    """A picture of the page, as wide as asked, without the empty rest below it."""
    page, height = folder / "page.html", TALLEST[width]
    page.write_text(html, encoding="utf-8")
    shown = page
    if width < NARROWEST:
        shown = folder / "frame.html"
        frame = f'<iframe src="page.html" width="{width}" height="{height}" frameborder="0">'
        shown.write_text(f'<body style="margin: 0">{frame}</iframe>')
    picture = folder / "page.png"
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += ["--virtual-time-budget=20000", f"--user-data-dir={folder / 'profile'}"]
    flags += [f"--window-size={max(width, NARROWEST)},{height}", f"--screenshot={picture}"]
    subprocess.run([browser, *flags, shown.as_uri()], check=True, capture_output=True, timeout=300)
    with Image.open(picture) as whole:
        return _trimmed(whole.convert("RGB").crop((0, 0, width, height)), LONGEST[width])


def _trimmed(image: Image.Image, longest: int) -> Image.Image:
    """Without the rows of background at its end, in 160 colours, which keeps the file small."""
    ground = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, ground).getbbox() or (0, 0, *image.size)
    return image.crop((0, 0, image.width, min(box[3] + 24, longest))).quantize(160)


if __name__ == "__main__":
    main()
