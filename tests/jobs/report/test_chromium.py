"""The page in a real browser: no message on its console, no request, and no serious finding of axe-core."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from jobs.report.page import render
from tests.reports import night_facts

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

#: Judges the page and sends what it found, the requests and the width to the frame around it.
JUDGE = """<script>%s</script><script>
axe.run(document).then(found => parent.postMessage(JSON.stringify({
  violations: found.violations.map(v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]),
  requests: performance.getEntriesByType('resource').map(r => r.name), width: innerWidth,
  wide: document.documentElement.scrollWidth > innerWidth}), '*'));
</script>"""
#: Chromium makes no window narrower than 500 pixels, so the page is shown in a frame of a telephone's width.
FRAME = """<!doctype html><title>frame</title>
<iframe src="index.html" width="390" height="800" style="border:0"></iframe>
<pre id="found"></pre><script>onmessage = said => { found.textContent = said.data; };</script>"""


def judged(folder: Path, html: str, scheme: int) -> tuple[dict[str, Any], str]:
    """Show a page at 390 pixels; returns what the judge found and what Chromium said."""
    assert CHROMIUM
    axe = files("axe_core_python").joinpath("axe.min.js").read_text()
    (folder / "index.html").write_text(html.replace("</body>", JUDGE % axe + "</body>"))
    (folder / "frame.html").write_text(FRAME)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=20000", "--dump-dom"]
    command.append((folder / "frame.html").as_uri())
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.+?)</pre>', said.stdout, re.DOTALL)
    assert found, said.stderr[-2000:]
    return json.loads(unescape(found[1])), said.stderr


#: The value of Chromium's setting preferredColorScheme.
DARK, LIGHT = 0, 1


@pytest.mark.parametrize(
    ("outcome", "scheme"),
    [("published", LIGHT), ("carried", DARK), ("kept", LIGHT), ("failed", LIGHT)],
)
def test_the_page_is_silent_needs_no_request_and_is_accessible(tmp_path, outcome, scheme):
    found, said = judged(tmp_path, render(night_facts(outcome), "Europe/London"), scheme)
    assert [fault for fault in found["violations"] if fault[0] in ("serious", "critical", "moderate")] == []
    assert found["requests"] == []
    assert (found["width"], found["wide"]) == (390, False)
    assert "CONSOLE" not in said


def test_the_judge_sees_faults(tmp_path):
    bad = "<title>x</title><img src='http://example.invalid/x.png'><div style='width:3000px'>x</div>"
    html = f"<!doctype html><html><body>{bad}<script>console.error('seen')</script></body></html>"
    found, said = judged(tmp_path, html, LIGHT)
    assert {(fault[0], fault[1]) for fault in found["violations"]} >= {("critical", "image-alt")}
    assert found["requests"] == ["http://example.invalid/x.png"]
    assert found["wide"]
    assert "CONSOLE" in said
