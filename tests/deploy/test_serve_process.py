"""`tltoolkit serve` as a process, its page in headless Chromium, and what it refuses to begin."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import colours
import httpx
import pytest

from tltoolkit.cli import main
from tltoolkit.deploy.serving import listening

NARROW = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice", "experimental")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.write(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    found = [folder / f"{name}.png" for name in ("red", "blue", "grey", "broken")]
    for path, colour in zip(found, [(200, 30, 30), (20, 20, 190), (90, 90, 90)], strict=False):
        path.write_bytes(colours.file(colour))
    found[3].write_bytes(found[0].read_bytes()[:20])
    return found


@contextlib.contextmanager
def serving(model: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    words = [sys.executable, "-m", "tltoolkit", "serve", str(model), "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as made:
        try:
            assert made.stdout is not None
            line = ""
            while "}" not in line:
                read = made.stdout.readline()
                assert read, made.communicate()[1]
                line += read
            yield made, json.loads(line)["url"]
        finally:
            made.kill()


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with serving(model) as (_, url):
        yield url


def test_it_answers_as_predict_does(
    url: str, model: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), *map(str, photos), "--json"]) == 3
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    form = [("image", (str(path), path.read_bytes())) for path in photos]
    rows = httpx.post(f"{url}/predict", files=form).json()["predictions"]
    assert [row["image"] for row in rows] == [row["image"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        # Of another batch size the last digit of a float may differ.
        for name in ("probability", "probabilities"):
            assert row.pop(name, None) == pytest.approx(other.pop(name, None), abs=1e-6)
        assert row == other


def half_asked(url: str, content: bytes) -> socket.socket:
    """A connection whose request has begun, all but its last byte."""
    host, port = url.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
    made.sendall(head.encode() + content[:-1])
    return made


def queue(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("tltoolkit_queue")).split()[1])


def listens(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_sigterm_lets_it_finish_what_it_has(model: Path, photos: list[Path]) -> None:
    content = photos[0].read_bytes()
    with serving(model) as (process, url), half_asked(url, content) as asked:
        while queue(url) < 1:
            time.sleep(0.05)
        if sys.platform == "linux":
            assert "tensorflow" not in Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGTERM)
        while listens(url):  # it stops as soon as it is scheduled
            time.sleep(0.05)
        assert process.poll() is None
        asked.sendall(content[-1:])
        answer = b"".join(iter(lambda: asked.recv(65536), b""))
        assert b" 200 OK\r\n" in answer
        assert b'"label":"red"' in answer
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


# What is wrong is said before anything is loaded


def refused(words: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> str:
    def load(*args: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("tltoolkit.cli.options.toolkit", load)
    assert main(["serve", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_port_in_use(model: Path, capsys: Any, monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused([model, "--port", port], capsys, monkeypatch)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in said


@pytest.mark.parametrize("host", ["host.invalid", "\0", "a" * 300])
def test_a_host_that_is_none(host: str, model: Path, capsys: Any, monkeypatch: Any) -> None:
    said = refused([model, "--host", host], capsys, monkeypatch)
    assert "--host must be a name or address of this machine" in said


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    assert "no saved classifier in" in refused([tmp_path], capsys, monkeypatch)
    assert "does not exist" in refused([tmp_path / "x.onnx"], capsys, monkeypatch)
    (tmp_path / "model.keras").write_bytes(b"")
    assert "tltoolkit.foreign.load reads" in refused([tmp_path], capsys, monkeypatch)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_a_missing_extra(package: str, model: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = refused([model], capsys, monkeypatch)
    assert "pip install 'tltoolkit[serve]'" in said


# The page


def asked(browser: Any, *paths: Path, by: str = "choose") -> list[Any]:
    """What the page says of files that are chosen, each as heading, text and widths of bars."""
    from selenium.webdriver.support.wait import WebDriverWait

    browser.execute_script("document.getElementById('status').textContent = ''")
    browser.find_element("id", by).send_keys("\n".join(map(str, paths)))
    done = "return /answered|Refused|cannot/.test(document.getElementById('status').textContent)"
    WebDriverWait(browser, 60).until(lambda b: b.execute_script(done))
    return browser.execute_script(
        "return [...document.querySelectorAll('article')].map((a) => ["
        "a.querySelector('h2').textContent, a.textContent,"
        "[...a.querySelectorAll('.bar div')].map((b) => b.style.width)])"
    )


def violations(browser: Any) -> list[Any]:
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is missing")
    found = axe.Axe().run(browser, options={"runOnly": {"type": "tag", "values": list(RULES)}})
    assert len(found["passes"]) > 20
    return [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found["violations"]]


def status(browser: Any) -> str:
    return browser.execute_script("return document.getElementById('status').textContent")


def test_the_page(browser: Any, url: str, photos: list[Path]) -> None:
    browser.get(url)
    assert violations(browser) == []
    form = [("image", path.read_bytes()) for path in photos]
    rows = httpx.post(f"{url}/predict", files=form).json()["predictions"]
    said = asked(browser, *photos)
    assert status(browser) == "4 images answered."
    assert [heading for heading, *_ in said] == ["red", colours.NAMES[2], "Not sure", "Not read"]
    for (_, text, widths), row in zip(said[:3], rows, strict=False):
        shares = sorted(row["probabilities"].values(), reverse=True)
        assert [float(w.rstrip("%")) for w in widths] == pytest.approx(
            [100 * share for share in shares], abs=1e-3
        )
        assert f"{100 * row['probability']:.1f}\u00a0%" in text
    assert rows[3]["error"] in said[3][1]
    # The pictures are shown, and a broken one is named.
    shown = "return [...document.querySelectorAll('article img')].map((i) => i.naturalWidth)"
    assert browser.execute_script(shown) == [30, 30, 30]
    assert "broken.png" in said[3][1]
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert violations(browser) == []
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROW)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    assert violations(browser) == []
    ((heading, *_),) = asked(browser, photos[0], by="photo")
    assert (heading, status(browser)) == ("red", "1 image answered: red.")
    from_elsewhere = browser.execute_script(
        "return performance.getEntriesByType('resource').map((e) => e.name)"
        ".filter((name) => !name.startsWith(location.origin) && !/^(blob|data):/.test(name))"
    )
    assert from_elsewhere == []
    # The broken image has a status of its own only where it is alone; axe draws on a canvas.
    noise = ("Canvas2D", "422")
    assert [
        e for e in browser.get_log("browser") if not any(n in e["message"] for n in noise)
    ] == []


def test_the_page_says_what_was_refused_and_works_by_keyboard(
    browser: Any, url: str, photos: list[Path], tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.get(url)
    asked(browser, *[photos[0]] * 40)
    assert status(browser).startswith("Refused: Too many files.")
    # An answer that was there stays until the next.
    assert [heading for heading, *_ in asked(browser, photos[3])] == ["Not read"]
    browser.execute_script("document.activeElement.blur()")
    stops = []
    for _ in range(3):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        stops.append(browser.switch_to.active_element.get_attribute("id"))
    assert "choose" in stops
    assert browser.execute_script(
        "const f = new DataTransfer();"
        "f.items.add(new File(['x'], 'x.png', { type: 'image/png' }));"
        "return !document.body.dispatchEvent(new DragEvent('drop',"
        "{ dataTransfer: f, bubbles: true, cancelable: true }))"
    )
    for _ in range(600):
        if "x.png" in browser.execute_script("return document.body.textContent"):
            break
        time.sleep(0.05)
    else:
        pytest.fail("a dropped image is not asked about")


def test_ended_and_killed_at_once_it_can_be_started_again(model: Path) -> None:
    with serving(model) as (process, url):
        # Before its event loop runs, maybe.
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with serving(model) as (process, url), httpx.Client(base_url=url) as client:
        assert client.get("/health").status_code == 200
        process.kill()
        process.wait(60)
        # The connection that was open does not keep the port.
        listening(model, port=int(url.rsplit(":", 1)[1]))[0].close()
