"""A real JupyterLab and a real Chromium, for the browser tests of every room.

`running_lab` starts a server with directories of its own; `open_page` opens it in the system's Chromium.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from playwright.sync_api import Page

_CHROMIUMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_CHROMIUM_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
_START_SECONDS = 90


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: Its address, without a slash at the end.
        token: What it asks for.
        root: The directory that it shows.
        log: What the server printed.
    """

    url: str
    token: str
    root: Path
    log: Path

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """Call the server's REST interface; `path` starts with a slash."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            content: bytes = response.read()
        return content

    def end_kernels(self) -> None:
        """Shut every kernel down, with the sessions of the notebooks."""
        for session in json.loads(self.request("GET", "/api/sessions")):
            self.request("DELETE", f"/api/sessions/{session['id']}")


def find_chromium() -> str | None:
    """The system's Chromium or Chrome, or None."""
    return next((found for name in _CHROMIUMS if (found := shutil.which(name))), None)


@contextmanager
def running_lab(root: Path, env: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """A JupyterLab on this machine only, with a token, and gone at the end with its kernels.

    Args:
        root: The directory that it shows.
        env: Variables for the server and its kernels, over a scrubbed environment.
    """
    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        own = Path(name)
        token = secrets.token_hex(16)
        port = _free_port()
        log = own / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
                    "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}", "--allow-root",
                    "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
                    "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                ],
                env=_environment(own, token, env or {}),
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        try:
            lab = Lab(f"http://127.0.0.1:{port}", token, root, log)
            _wait_until_up(lab, process)
            _settings(lab, "@jupyterlab/apputils-extension:notification", {"fetchNews": "false"})
            yield lab
        finally:
            _end(process)


@contextmanager
def open_page(lab: Lab, theme: Literal["light", "dark"] = "light", path: str = "") -> Iterator[Page]:
    """A fresh browser with JupyterLab in it, loaded.

    Args:
        lab: From `running_lab`.
        theme: Of JupyterLab; it stands for the server until it is set again.
        path: A notebook or file to open, relative to the root.
    """
    from playwright.sync_api import sync_playwright

    _settings(lab, "@jupyterlab/apputils-extension:themes", {"theme": _THEMES[theme]})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, args=list(_CHROMIUM_ARGUMENTS)
        )
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=theme)
            page.set_default_timeout(60_000)
            tree = f"/tree/{path}" if path else ""
            page.goto(f"{lab.url}/lab{tree}?token={lab.token}&reset")
            page.wait_for_selector("#jupyterlab-splash", state="detached")
            page.wait_for_function("() => window.jupyterapp !== undefined")
            page.evaluate("() => window.jupyterapp.restored.then(() => null)")
            page.wait_for_selector(f"body[data-jp-theme-name='{_THEMES[theme]}']", state="attached")
            yield page
        finally:
            browser.close()


def run_command(page: Page, name: str, arguments: Mapping[str, object] | None = None) -> None:
    """A command of JupyterLab, as its menus and shortcuts call it; does not wait for its end."""
    page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, arguments or {}])


def wait_for_kernel(page: Page) -> None:
    """Wait until the open notebook has a kernel that is idle."""
    page.wait_for_function(
        "() => { const context = window.jupyterapp.shell.currentWidget?.context;"
        " return context?.isReady && context?.sessionContext?.isReady"
        " && context.sessionContext.session?.kernel?.status === 'idle'; }"
    )


def _environment(own: Path, token: str, env: Mapping[str, str]) -> dict[str, str]:
    for name in ("home", "runtime", "data", "config", "ipython", "settings", "workspaces"):
        (own / name).mkdir()
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(own / "home"),
        "JUPYTER_TOKEN": token,
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_MLOPS_WARM_SECONDS": "0",
        **env,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_up(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            lab.request("GET", "/api/status")
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"JupyterLab did not start:\n{lab.log.read_text(errors='replace')[-4000:]}")


def _settings(lab: Lab, plugin: str, values: Mapping[str, object]) -> None:
    lab.request("PUT", f"/lab/api/settings/{plugin}", {"raw": json.dumps(values)})


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
