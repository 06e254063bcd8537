#!/usr/bin/env python3
"""Uses the page of `cairn serve` in a headless Chromium as a person would.

Starts the service, chooses a photo, drops one and pastes one, reads the classes from the page and holds them against
`cairn predict`; sends what is no image; kills the service and asks again. On a desktop and on a phone, light and dark: no
console error but that of the refusal, nothing fetched from elsewhere, no sideways scrolling. --shot keeps a screenshot.

Needs selenium==4.*, Pillow and Debian's chromium, chromium-driver.

    python tests/peers/serve_page.py --run runs/first --shot docs/screenshots/serve.png photo.jpg another.png
"""
import argparse
import base64
import json
import os
import signal
import subprocess
import tempfile
import time

from report_page import SIZES, dress, open_browser, save_small
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

# Hands a file to the page as the mouse or the clipboard would.
HAND_OVER = """
const [name, base64, kind] = arguments, bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], name));
document.dispatchEvent(kind === "drop" ? new DragEvent("drop", {dataTransfer: data, cancelable: true})
                                       : new ClipboardEvent("paste", {clipboardData: data}));"""


def shown(browser, count: int) -> list:
    """Name, best class and rows of each answer, newest first, once all of them are there."""
    def ready(_):
        return len(browser.find_elements(By.CSS_SELECTOR, "article .best, article .error")) == count
    WebDriverWait(browser, 60).until(ready)
    return browser.execute_script("""
      const text = e => e ? e.textContent : null;
      return [...document.querySelectorAll("article")].map(a => ({
        name: text(a.querySelector(".name")), best: text(a.querySelector(".best")), error: text(a.querySelector(".error")),
        picture: a.querySelector("img").naturalWidth,
        rows: [...a.querySelectorAll(".row")].map(r => [...r.querySelectorAll("span")].map(text)),
        widths: [...a.querySelectorAll(".fill")].map(f => f.getBoundingClientRect().width)}));""")


def check_answer(answer: dict, path: str, predicted: dict) -> None:
    assert answer["name"] == os.path.basename(path), answer
    assert answer["best"] == predicted["class"], (answer, predicted)
    want = [[t["class"], f"{100 * t['confidence']:.1f} %"] for t in predicted["top"]]
    assert answer["rows"] == want, (answer["rows"], want)
    assert answer["picture"] > 0, answer
    assert answer["widths"] == sorted(answer["widths"], reverse=True), answer


def check_page(browser, refused: bool) -> None:
    severe = [e["message"] for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert all("400 (Bad Request)" in e for e in severe) and bool(severe) == refused, severe
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(r => new URL(r.name))"
                                     ".filter(u => u.host !== location.host && !/^(data|blob):/.test(u.protocol)).map(String)")
    assert not fetched, fetched
    wide, room = browser.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room, f"scrolls sideways: {wide} px in {room}"


def visit(browser, url: str, images: list, predicted: dict, junk: str) -> None:
    browser.get(url)
    WebDriverWait(browser, 30).until(lambda b: "classes" in b.find_element(By.ID, "about").text)
    count = 0
    for path in images:
        with open(path, "rb") as file:
            content = base64.b64encode(file.read()).decode()
        browser.find_element(By.ID, "file").send_keys(os.path.abspath(path))
        count += 1
        check_answer(shown(browser, count)[0], path, predicted[path])
        for kind in ("drop", "paste"):
            browser.execute_script(HAND_OVER, os.path.basename(path), content, kind)
            count += 1
            check_answer(shown(browser, count)[0], path, predicted[path])
    check_page(browser, refused=False)
    browser.find_element(By.ID, "file").send_keys(junk)
    first = shown(browser, count + 1)[0]
    assert first["best"] is None and first["error"], first
    check_page(browser, refused=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", default="build/release/bin/cairn")
    p.add_argument("--run")
    p.add_argument("--weights")
    p.add_argument("--shot", help="screenshot of the page with the answers, light; must be no larger than 150 KB")
    p.add_argument("--all-shots", help="folder for screenshots of every size, light and dark")
    p.add_argument("images", nargs="+")
    a = p.parse_args()
    source = ["--run", a.run] if a.run else ["--weights", a.weights]
    common = ["--device", "cpu", "--json", *source]
    lines = subprocess.run([a.cairn, "predict", "--top", "5", *common, *a.images], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    predicted = {answer["path"]: answer for answer in map(json.loads, lines)}
    service = subprocess.Popen([a.cairn, "serve", "--port", "0", *common], stdout=subprocess.PIPE, text=True)
    url = json.loads(service.stdout.readline())["url"]
    browser = open_browser(os.getcwd())
    try:
        with tempfile.NamedTemporaryFile(suffix=".jpg") as junk:
            junk.write(b"no photo at all")
            junk.flush()
            for device, size in SIZES.items():
                for dark in (False, True):
                    name = f"serve-{device}-{'dark' if dark else 'light'}"
                    dress(browser, size, dark)
                    visit(browser, url, a.images, predicted, junk.name)
                    print(f"{name}: the classes of {len(a.images)} images as predict names them, chosen, dropped and pasted")
                    if a.all_shots:
                        time.sleep(0.3)
                        browser.save_screenshot(os.path.join(a.all_shots, name + ".png"))
        dress(browser, (900, 760), False)
        browser.get(url)
        for i, path in enumerate(a.images[:2]):
            browser.find_element(By.ID, "file").send_keys(os.path.abspath(path))
            shown(browser, i + 1)
        if a.shot:
            os.makedirs(os.path.dirname(a.shot) or ".", exist_ok=True)
            time.sleep(0.3)
            save_small(browser, a.shot)
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
        browser.find_element(By.ID, "file").send_keys(os.path.abspath(a.images[0]))
        gone = shown(browser, min(2, len(a.images)) + 1)[0]
        assert gone["error"] == "The service does not answer.", gone
        print("without the service the page says so")
    finally:
        browser.quit()
        service.kill()


if __name__ == "__main__":
    main()
