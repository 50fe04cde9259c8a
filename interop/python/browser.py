"""Drives headless Chromium: the pages of examples as a visitor would, and the exchange with echo servers.

usage: browser.py --driver PROGRAM --chromium PROGRAM --demo URL --echo URL --secure URL --session URL
    --statistics URL --admin URL --screenshot FILE --readme URL URL URL

The secure server speaks HTTP/2. It must close its clients when this program prints `ready`.
"""

import argparse
import contextlib
import http.server
import os
import pathlib
import re
import signal
import sys
import threading

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

LIMIT = 180

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--window-size=1200,900",
]

EXCHANGE = pathlib.Path(__file__).parents[1] / "exchange.js"

RUN_EXCHANGE = """
const [url, done] = arguments;
exchange(WebSocket, url).then((what) => done({ what }), (error) => done({ error: String(error) }));
"""

RUN_README = """
const [urls, done] = arguments;
readme(WebSocket, urls).then((what) => done({ what }), (error) => done({ error: String(error) }));
"""

# The socket stays in the page for the script that runs after the server's close.
AWAIT_FAREWELL = """
const [url, done] = arguments;
window.goodbye = farewell(WebSocket, url, () => done({ what: "ready" }));
window.goodbye.catch((error) => done({ error: String(error) }));
"""

HEAR_FAREWELL = """
const [done] = arguments;
window.goodbye.then((what) => done({ what }), (error) => done({ error: String(error) }));
"""

# The widths of phones in CSS pixels.
WIDTHS = [320, 375, 390]


class Failure(Exception):
    """A page did not do what it should."""


@contextlib.contextmanager
def chromium(driver, binary):
    """A headless Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # No browser knows the authority that signs the certificates of these checks.
    options.accept_insecure_certs = True
    for flag in FLAGS:
        options.add_argument(flag)
    # The driver is on this machine, whatever proxy its environment names.
    os.environ["no_proxy"] = "localhost,127.0.0.1"
    browser = webdriver.Chrome(options, Service(driver))
    try:
        browser.set_script_timeout(90)
        browser.set_page_load_timeout(30)
        yield browser
    finally:
        browser.quit()


def text(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def fill(browser, selector, text):
    """Replaces the contents of an input with `text`, key by key."""
    element = browser.find_element(By.CSS_SELECTOR, selector)
    element.clear()
    element.send_keys(text)


def click(browser, selector):
    browser.find_element(By.CSS_SELECTOR, selector).click()


def wait(browser, what, selector, accept, limit=15):
    """Waits until `accept` is true for an element's text, and returns the text."""
    shown = None

    def accepted(browser):
        nonlocal shown
        shown = text(browser, selector)
        return accept(shown)

    waiting = WebDriverWait(browser, limit, poll_frequency=0.05, ignored_exceptions=[WebDriverException])
    try:
        waiting.until(accepted)
    except WebDriverException as error:
        raise Failure(f"{what}: not within {limit} s; {selector} shows {shown!r}") from error
    return shown


def result_of(browser, what, script, *args):
    """Runs a script that calls its last argument with the result."""
    result = browser.execute_async_script(script, *args)
    if "error" in result:
        raise Failure(f"{what}: {result['error']}")
    return result["what"]


def connected(browser, url):
    browser.get(url)
    wait(browser, "the page connects", "#status", lambda text: text.strip() == "connected")


def echo(browser):
    # chromedriver types only characters of the basic multilingual plane.
    typed = "hello, lóng wire ♪"
    fill(browser, "#echo-input", typed)
    click(browser, "#echo-send")
    log = wait(browser, "the echo comes back", "#echo-log", lambda text: typed in text)
    if not re.search(r"\d\s*(ms|µs|μs)", log):
        raise Failure(f"the echo has no round-trip time: {log!r}")
    return re.search(r"[\d.,]+\s*(ms|µs|μs)", log)[0]


def chat(browser, tabs):
    """Sends a message from each tab; both must show it with the sender's name."""
    for tab, name in zip(tabs, ["Ada", "Grace"]):
        browser.switch_to.window(tab)
        fill(browser, "#chat-name", name)
        fill(browser, "#chat-input", f"{name} says hello")
        click(browser, "#chat-send")
        for reader in tabs:
            browser.switch_to.window(reader)
            wait(
                browser,
                f"the tab number {tabs.index(reader) + 1} shows what {name} said",
                "#chat-log",
                lambda text: f"{name} says hello" in text and text.count(name) >= 2,
            )


def number(text):
    """Returns the first number of a statistic, such as `1,024 messages`."""
    found = re.search(r"\d[\d,.\u202f\u00a0 ]*", text)
    return float(re.sub(r"[^\d.]", "", found[0]).rstrip(".") or 0) if found else None


def statistics(browser, tabs):
    browser.switch_to.window(tabs[0])
    wait(browser, "two clients are counted", "#stats-clients", lambda text: (number(text) or 0) >= len(tabs))
    before = {name: text(browser, f"#stats-{name}") for name in ["in", "out", "uptime"]}
    fill(browser, "#echo-input", "one more")
    click(browser, "#echo-send")
    wait(browser, "a compression ratio is shown", "#stats-ratio", lambda text: 0 < (number(text) or 0) < 100)
    for name, old in before.items():
        wait(browser, f"the statistic moves on from {old!r}", f"#stats-{name}", lambda text: text != old)


def plots(browser):
    """Checks that the demo plots round trips and rates."""
    for name in ["trip", "rate"]:
        points = f"return (document.querySelector('#{name}-plot polyline')?.getAttribute('points') ?? '').split(' ').length"
        waiting = WebDriverWait(browser, 15, poll_frequency=0.05)
        try:
            waiting.until(lambda browser: browser.execute_script(points) >= 2)
        except WebDriverException as error:
            raise Failure(f"the plot #{name}-plot has no line") from error


def phone(browser, name):
    """Checks that the page that is shown fits phones without scrolling sideways."""
    for width in WIDTHS:
        # A page that does not declare its viewport is laid out 980 pixels wide on phones.
        metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        needed = browser.execute_script("return Math.max(document.scrollingElement.scrollWidth, innerWidth)")
        if needed > width:
            raise Failure(f"the page of {name} takes {needed} pixels on a phone that is {width} wide")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    print(f"{name}: it fits on a phone", flush=True)


def figures(browser, url):
    """Checks the page of `statistics`."""
    browser.get(url)
    wait(browser, "figures are shown", "#numbers", lambda shown: '"clients": 1' in shown)
    phone(browser, "statistics")


def admin(browser, url):
    """Checks the page of `admin`, which shows a client once one has connected."""
    browser.get(url)
    wait(browser, "the page has data", "#status", lambda shown: shown == "connected")
    wait(browser, "no client is shown", "#clients", lambda shown: shown == "0")
    phone(browser, "admin")


def elsewhere(browser, what, script, argument):
    """Runs a function of exchange.js in a page from a server of another origin, as in practice."""
    page = f"<!doctype html><title>exchange</title><script>{EXCHANGE.read_text()}</script>".encode()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_address[1]}/")
        result = result_of(browser, what, script, argument)
        server.shutdown()
    return result


def exchange(browser, url):
    return elsewhere(browser, f"exchange with {url}", RUN_EXCHANGE, url)


def http2(browser, url):
    """Runs exchange.js in the server's own page, whose connection the sockets share, and waits for the close."""
    browser.get(url.replace("wss://", "https://"))
    script = EXCHANGE.read_text()
    print("secure, its own page:", result_of(browser, f"exchange with {url}", script + RUN_EXCHANGE, url))
    result_of(browser, f"farewell of {url}", script + AWAIT_FAREWELL, url)
    print("ready", flush=True)
    print("secure: closed with", result_of(browser, f"farewell of {url}", HEAR_FAREWELL))


def session(browser, url):
    """Checks a refusal before the login, a message after it, and the close of the socket on logout."""

    def status(what, text):
        wait(browser, what, "#status", lambda shown: shown == text)

    def log(what, *lines):
        wait(browser, what, "#log", lambda shown: all(line in shown.splitlines() for line in lines))

    browser.get(url)
    click(browser, "#connect")
    status("nobody is let in without a session", "closed 1006")
    click(browser, "#login")
    log("the login is welcomed", "/login: 200 welcome")
    click(browser, "#connect")
    status("the socket opens after the login", "open")
    fill(browser, "#text", "hello, session")
    click(browser, "#send")
    log("the session is named and the message echoed", "received: session 1", "received: hello, session")
    click(browser, "#logout")
    status("the logout closes the socket", "closed 1008 logged out")
    click(browser, "#connect")
    status("nobody is let in after the logout", "closed 1006")
    print("session: login, echo, closed with 1008 by the logout", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ["driver", "chromium", "demo", "echo", "secure", "session", "statistics", "admin", "screenshot"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--readme", nargs=3, required=True)
    args = parser.parse_args()

    # Exits in an orderly way, which ends the browser as well, before the caller would kill this program.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"browser.py: not done within {LIMIT} s"))
    signal.alarm(LIMIT)
    with chromium(args.driver, args.chromium) as browser:
        print(f"Chromium {browser.capabilities['browserVersion']}")
        tabs = [browser.current_window_handle]
        connected(browser, args.demo)
        print("demo: echoed in", echo(browser), flush=True)
        browser.switch_to.new_window("tab")
        tabs.append(browser.current_window_handle)
        connected(browser, args.demo)
        chat(browser, tabs)
        print("demo: two tabs chat", flush=True)
        statistics(browser, tabs)
        print("demo: the statistics move", flush=True)
        plots(browser)
        print("demo: round trips and rates are plotted", flush=True)
        phone(browser, "demo")
        browser.save_screenshot(args.screenshot)
        print("demo: screenshot in", args.screenshot)
        print("echo:", exchange(browser, args.echo), flush=True)
        what = elsewhere(browser, "the README's servers", RUN_README, args.readme)
        print("the README's servers:", what, flush=True)
        session(browser, args.session)
        phone(browser, "session")
        figures(browser, args.statistics)
        admin(browser, args.admin)
        print("secure, another's page:", exchange(browser, args.secure))
        http2(browser, args.secure)


try:
    main()
except (Failure, WebDriverException, OSError) as error:
    sys.exit(f"browser.py: {str(error).strip()}")
