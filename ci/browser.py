"""What ci/browser does in Chromium: see there."""

import json
import pathlib
import shutil
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

AXE = next(
    path
    for directory in sys.path
    for path in pathlib.Path(directory).glob("axe_selenium_python/node_modules/axe-core/axe.min.js")
)


def driver(chromium, dark, width):
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},1400"]:
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def findings(browser):
    # The page's own policy would keep axe out; the debugger's scripts are exempt.
    browser.execute_script(AXE.read_text())
    result = browser.execute_async_script(
        "const done = arguments[0]; axe.run({exclude: [['details.one:not([open])']]}, {resultTypes: ['violations']}).then("
        "(r) => done(r.violations.map((v) => [v.id, v.help, v.nodes.length, v.nodes[0].html])))"
    )
    return [f"axe: {name}: {text} ({count}), first: {node[:200]}" for name, text, count, node in result]


def requests(browser):
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]


def look(browser, report, name, shots):
    wrong = []
    browser.set_script_timeout(300)
    browser.get(report)
    paint = browser.execute_script(
        "return performance.getEntriesByType('paint').map((p) => [p.name, p.startTime])"
    )
    wrong += [f"it loads {url[:80]}" for url in requests(browser) if not url.startswith(("file:", "data:"))]
    browser.save_screenshot(str(shots / f"{name}.png"))
    links = browser.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.getAttribute('href'))"
        ".filter((to) => !document.getElementById(to.slice(1)))"
    )
    wrong += [f"a link leads nowhere: {link}" for link in links]
    results = browser.find_elements(By.CSS_SELECTOR, "details.one")
    if results:
        browser.execute_script("location.hash = arguments[0]", results[0].get_attribute("id"))
        browser.execute_script("return new Promise((done) => setTimeout(done, 200))")
        if not results[0].get_attribute("open"):
            wrong.append("a link to a scenario does not open it")
        body = browser.find_element(By.TAG_NAME, "body")
        body.send_keys("/")
        search = browser.find_element(By.ID, "search")
        if browser.switch_to.active_element != search:
            wrong.append("/ does not lead to the search")
        search.send_keys("no scenario has this text")
        browser.execute_script("return new Promise((done) => setTimeout(done, 400))")
        if any(result.is_displayed() for result in results[:20]):
            wrong.append("the search hides nothing")
        search.send_keys(Keys.ESCAPE)
        if not results[0].is_displayed():
            wrong.append("Esc does not clear the search")
    browser.save_screenshot(str(shots / f"{name}-open.png"))
    wrong += findings(browser)
    wrong += [f"console: {entry['message']}" for entry in browser.get_log("browser")]
    return wrong, dict(paint)


def main():
    chromium, report, shots = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    bad = False
    for name, dark, width in [("light", False, 1400), ("dark", True, 1400), ("narrow", False, 500)]:
        browser = driver(chromium, dark, width)
        try:
            wrong, paint = look(browser, report.as_uri(), name, shots)
        finally:
            browser.quit()
        first = paint.get("first-contentful-paint", 0)
        print(f"{name}: {len(wrong)} findings, first paint after {first:.0f} ms")
        for line in wrong:
            print(f"  {line}")
        bad |= bool(wrong)
    print(f"{report.stat().st_size / 1e6:.1f} MB; screenshots in {shots}")
    return int(bad)


sys.exit(main())
