"""Makes the README's picture: the report of this repository's features, as a browser shows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

PROJECT = Path(__file__).parents[1]
PICTURE = PROJECT / "docs" / "report.png"

OPEN = "Several things at once"
"""The scenario that is shown unfolded."""


def main() -> None:
    """Rehearse, open the report, take a picture."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("There is no Chromium on the PATH.")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "report.html"
        options = ["-p", "no:cacheprovider", "--erp-sandbox-strategy=rewind", f"--erp-sandbox-report={report}"]
        subprocess.run([sys.executable, "-m", "pytest", "features", "-q", *options], cwd=PROJECT, check=True)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1320}, color_scheme="light")
        page.goto(report.as_uri())
        scenario = page.locator("details.scenario", has_text=OPEN).first
        scenario.evaluate("each => { each.open = true }")
        box = scenario.bounding_box() or sys.exit("The scenario is not to be seen.")
        page.set_viewport_size({"width": 1200, "height": int(box["y"] + box["height"] + 24)})
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
