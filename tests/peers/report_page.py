#!/usr/bin/env python3
"""Opens report.html (and, with --inspect, the page of `cairn inspect --html`) in a headless Chromium as a person would.

On a desktop and on a phone, light and dark: no console error, nothing fetched, every chart drawn, no sideways scrolling,
the matrix' cells open their images, ticks become a fixes.csv. With --shots FOLDER it keeps screenshots.

Needs selenium==4.*, Pillow and Debian's chromium, chromium-driver.

    python tests/peers/report_page.py --report runs/first/report.html [--inspect page.html] [--shots docs/screenshots]
"""
import argparse
import os
import time

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

SIZES = {"desktop": (1200, 900), "phone": (390, 844)}


def open_browser(folder: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_experimental_option("prefs", {"download.default_directory": folder})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    browser.set_page_load_timeout(120)
    browser.set_script_timeout(120)
    return browser


def save_small(browser: webdriver.Chrome, path: str) -> None:
    """A screenshot for the docs: 128 colours, and no larger than 150 KB."""
    browser.save_screenshot(path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    assert os.path.getsize(path) <= 150_000, f"{path}: {os.path.getsize(path)} bytes"


def dress(browser: webdriver.Chrome, size: tuple[int, int], dark: bool) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})


def check_whole(browser: webdriver.Chrome, name: str) -> None:
    errors = [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert not errors, (name, errors)
    fetched = browser.execute_script(
        "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !/^(data|blob):/.test(n))")
    assert not fetched, (name, fetched)
    wide, room = browser.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room, f"{name}: scrolls sideways: {wide} px in {room}"
    broken = browser.execute_script(
        "const all = [...document.images]; all.forEach(i => i.loading = 'eager');"
        "return Promise.all(all.map(i => i.decode().then(() => 0, () => 1))).then(r => r.reduce((a, b) => a + b, 0))")
    assert broken == 0, f"{name}: {broken} pictures cannot be shown"


def check_charts(browser: webdriver.Chrome, name: str) -> int:
    blank = browser.execute_script("""
      return [...document.querySelectorAll('canvas')].filter(c => {
        const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, colors = new Set();
        for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 200) colors.add(pixels.slice(i, i + 3).join());
        return colors.size < 3;
      }).map(c => c.getAttribute('aria-label'))""")
    assert not blank, f"{name}: not drawn: {blank}"
    return len(browser.find_elements(By.TAG_NAME, "canvas"))


def check_cells(browser: webdriver.Chrome) -> int:
    cells = browser.find_elements(By.CSS_SELECTOR, ".confusion button")
    for cell in cells:
        browser.execute_script("arguments[0].click()", cell)
        shown = browser.execute_script("return document.querySelectorAll('#cell figure img').length")
        said = int(cell.text or "0")
        assert 0 < shown <= max(said, 1), (shown, said)
    return len(cells)


def check_ticks(browser: webdriver.Chrome) -> str:
    """Ticks the first box of the first figure and returns the fixes.csv that the link would save."""
    script = """
      const f = document.querySelector('figure[data-path]'), box = f && f.querySelector('input[type=checkbox]:not(:checked)');
      if (!box) return null;
      box.click();
      return fetch(document.getElementById('save').href).then(r => r.text()).then(t => [f.dataset.path, t, document.getElementById('count').textContent]);"""
    found = browser.execute_script(script)
    if not found:
        return "nothing to tick"
    path, text, count = found
    lines = text.splitlines()
    assert lines[0] == "path,action,label" and len(lines) == int(count) + 1, text
    assert any(path in line for line in lines[1:]), (path, text)
    return f"{count} fixes"


def shoot(browser: webdriver.Chrome, folder: str, name: str) -> None:
    browser.execute_script("scrollTo(0, 0)")
    time.sleep(0.3)
    save_small(browser, os.path.join(folder, name + ".png"))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--report", required=True)
    p.add_argument("--inspect")
    p.add_argument("--shots", help="folder for screenshots")
    p.add_argument("--all-shots", action="store_true", help="also of the whole page, section by section")
    a = p.parse_args()
    if a.shots:
        os.makedirs(a.shots, exist_ok=True)
    pages = {"report": a.report} | ({"inspect": a.inspect} if a.inspect else {})
    browser = open_browser(os.getcwd())
    try:
        for page, file in pages.items():
            for device, size in SIZES.items():
                for dark in (False, True):
                    name = f"{page}-{device}-{'dark' if dark else 'light'}"
                    dress(browser, size, dark)
                    browser.get("file://" + os.path.abspath(file))
                    check_whole(browser, name)
                    if a.shots and (a.all_shots or name in ("report-desktop-light", "report-phone-dark", "inspect-desktop-light")):
                        shoot(browser, a.shots, name)
                    done = ""
                    if page == "report":
                        done = f", {check_charts(browser, name)} charts, {check_cells(browser)} cells"
                    print(f"{name}: no error, nothing fetched{done}, {check_ticks(browser)}")
                    if a.shots and a.all_shots:
                        for i, _ in enumerate(browser.find_elements(By.TAG_NAME, "h2")):
                            browser.execute_script("document.querySelectorAll('h2')[arguments[0]].scrollIntoView()", i)
                            time.sleep(0.2)
                            browser.save_screenshot(os.path.join(a.shots, f"{name}-{i}.png"))
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
