"""The parts of the WebDriver protocol (W3C) that browser.py needs: a session, tabs, elements, keys and scripts."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

# The key under which the protocol passes a reference to an element.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

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
    "--window-size=1200,900",
]


class WebDriverError(Exception):
    pass


class Browser:
    """A headless Chromium with its own profile; ends with the `with` block."""

    def __init__(self, driver, chromium):
        self._profile = tempfile.mkdtemp(prefix="longwire-chromium-")
        self._driver = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        self._session = None
        self._base = f"http://127.0.0.1:{self._port()}"
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={self._profile}"]}
        try:
            # No browser knows the authority that signs the certificates of these checks.
            capabilities = {"browserName": "chrome", "acceptInsecureCerts": True, "goog:chromeOptions": options}
            created = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        except BaseException:
            self.close()
            raise
        self._session = f"/session/{created['sessionId']}"
        self.version = created["capabilities"]["browserVersion"]
        self._call("POST", self._session + "/timeouts", {"script": 90_000, "pageLoad": 30_000})

    def _port(self):
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                return int(found[1])
        raise WebDriverError(f"chromedriver ended with status {self._driver.wait()} before it was ready")

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            # No proxy: the driver is on this machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise WebDriverError(f"{value['error']}: {value['message'].splitlines()[0]}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            if self._session:
                self._call("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait()
            shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url):
        self._call("POST", self._session + "/url", {"url": url})

    def tab(self):
        return self._call("GET", self._session + "/window")

    def new_tab(self):
        tab = self._call("POST", self._session + "/window/new", {"type": "tab"})["handle"]
        self.switch(tab)
        return tab

    def switch(self, tab):
        self._call("POST", self._session + "/window", {"handle": tab})

    def _element(self, selector):
        found = self._call("POST", self._session + "/element", {"using": "css selector", "value": selector})
        return f"{self._session}/element/{found[ELEMENT]}"

    def text(self, selector):
        return self._call("GET", self._element(selector) + "/text")

    def type(self, selector, text):
        """Replaces the contents of an input with `text`, key by key."""
        element = self._element(selector)
        self._call("POST", element + "/clear", {})
        self._call("POST", element + "/value", {"text": text})

    def click(self, selector):
        self._call("POST", self._element(selector) + "/click", {})

    def run(self, script, *args):
        """Runs a script that calls its last argument with the result."""
        return self._call("POST", self._session + "/execute/async", {"script": script, "args": list(args)})

    def screenshot(self):
        return base64.b64decode(self._call("GET", self._session + "/screenshot"))

    def wait(self, what, selector, accept, limit=15):
        """Waits until `accept` is true for an element's text, and returns the text."""
        deadline = time.monotonic() + limit
        text = None
        while time.monotonic() < deadline:
            try:
                text = self.text(selector)
                if accept(text):
                    return text
            except WebDriverError as error:
                text = error
            time.sleep(0.05)
        raise WebDriverError(f"{what}: not within {limit} s; {selector} shows {text!r}")
