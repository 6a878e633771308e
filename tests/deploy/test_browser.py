"""examples/browser: a static page that answers as `predict` does, in headless Chromium."""

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import colours
import keras
import numpy as np
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation import Abstention, Decision, Temperature, Thresholds

PAGE = Path(__file__).parents[2] / "examples" / "browser"
RUNTIME = Path("node_modules", "onnxruntime-web", "dist")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the page, and where it is served."""
    folder = tmp_path_factory.mktemp("site")
    for file in PAGE.glob("*.*"):
        if file.is_file():
            shutil.copy(file, folder)
    if (PAGE / RUNTIME).is_dir():
        shutil.copytree(PAGE / RUNTIME, folder / RUNTIME, ignore=shutil.ignore_patterns("*.map"))
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask(browser: Any, script: str, *arguments: Any) -> Any:
    """What an expression of the page's functions gives; pixels go as nested lists."""
    said = browser.execute_async_script(
        "const [script, given, done] = arguments;"
        "import('./classify.mjs').then(async (found) => {"
        "  const of = new Function('m', 'given', `return (async () => (${script}))()`);"
        "  done({ value: await of(found, given) });"
        "}).catch((error) => done({ error: String(error) }));",
        script,
        arguments,
    )
    assert "error" not in said, said["error"]
    return said["value"]


@pytest.fixture
def page(browser: Any, site: tuple[Path, str]) -> Any:
    # Not the page itself, which may lack its runtime: an empty one of the same place.
    (site[0] / "empty.html").write_text("<!doctype html>")
    browser.get(f"{site[1]}/empty.html")
    return browser


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize(
    ("height", "width"), [(40, 30), (31, 50), (5, 9), (10, 40), (16, 16), (1, 20), (33, 32)]
)
def test_images_become_square_as_in_python(page: Any, height: int, width: int, fit: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image = {"width": width, "height": height, "data": pixels.ravel().tolist()}
    script = (
        "Array.from(m.prepared({ ...given[0], data: Float32Array.from(given[0].data) },"
        " 16, given[1]).data)"
    )
    found = np.reshape(ask(page, script, image, fit), (16, 16, 3))
    expected = tl.augment.resize(pixels, 16, fit).astype(float)
    # OpenCV computes in whole numbers, a half may go the other way.
    assert np.abs(found - expected).max() <= 1
    grows = min(height, width) < 16 if fit != "pad" else max(height, width) < 16
    assert np.abs(found - expected).mean() < (0.2 if grows else 0.05)


def decisions() -> list[tuple[str, Decision, int]]:
    hot, sharp = Temperature(value=1.7), Temperature(value=0.4, multi_label=True)
    three = Thresholds(values=(0.2, 0.5, 0.3), metric="f1")
    two = Thresholds(values=(0.3, 0.7), metric="f1")
    several = Thresholds(values=(0.2, 0.5, 0.8), metric="f1", multi_label=True)
    unsure = Abstention(threshold=0.6, coverage=0.9, accuracy=0.9)
    return [
        ("plain", Decision(), 3),
        ("temperature", Decision(temperature=hot, abstention=unsure), 3),
        ("thresholds", Decision(thresholds=three), 3),
        ("two", Decision(temperature=hot, thresholds=two, abstention=unsure), 2),
        ("several", Decision(multi_label=True, abstention=unsure), 3),
        ("all", Decision(temperature=sharp, thresholds=several, multi_label=True), 3),
    ]


@pytest.mark.parametrize(("name", "decision", "classes"), decisions())
def test_answers_are_decided_as_in_python(
    page: Any, name: str, decision: Decision, classes: int
) -> None:
    rng = np.random.default_rng(1)
    prob = rng.dirichlet(np.full(classes, 0.7), 50).astype(np.float32)
    prob[0] = np.eye(classes)[0]
    if decision.multi_label:
        prob = rng.random((50, classes), np.float32)
        prob[0] = 0, 1, 0.5
    names = [f"c{c}" for c in range(classes)]
    card = {"decision": decision.to_dict(), "class_names": names}
    script = "given[0].map((row) => m.decided(row, given[1]))"
    found = ask(page, script, prob.astype(float).tolist(), card)
    answers = decision.decide(prob)
    for row, label, shown, sure, abstained in zip(found, *answers, strict=True):
        if decision.multi_label:
            assert row["label"] == [n for n, given in zip(names, label, strict=True) if given]
        else:
            assert row["label"] == names[label]
        assert row["probabilities"] == pytest.approx(shown.tolist(), abs=1e-6)
        assert row["probability"] == pytest.approx(sure, abs=1e-6)
        assert row["abstained"] == abstained


def test_the_card_is_read_out_of_the_file(page: Any, site: tuple[Path, str]) -> None:
    colours.write(site[0] / "card.onnx")
    script = "m.cardOf(new Uint8Array(await (await fetch(given[0])).arrayBuffer()))"
    card = ask(page, script, "card.onnx")
    assert (card["class_names"], card["image_size"]) == (list(colours.NAMES), colours.SIZE)
    for i, (content, reason) in enumerate(
        (
            (b"", "not written by tltoolkit export"),
            (b"\x08\x07", "not written by tltoolkit export"),
            (b"<html></html>", "no ONNX model"),
            (b"\xff\xff", "cut off"),
        )
    ):
        # Of a name of its own, as a browser keeps what it has read.
        (site[0] / f"{i}.onnx").write_bytes(content)
        with pytest.raises(AssertionError, match=reason):
            ask(page, script, f"{i}.onnx")


def answers_of(browser: Any, paths: list[Path]) -> list[tuple[str, str]]:
    """Heading and text of each answer."""
    from selenium.webdriver.support.wait import WebDriverWait

    wait = WebDriverWait(browser, 60)
    status = "return document.getElementById('status').textContent"
    wait.until(lambda b: "Loading" not in b.execute_script(status))
    assert "It knows" in browser.execute_script(status)
    browser.find_element("id", "choose").send_keys("\n".join(map(str, paths)))
    count = "return document.querySelectorAll('article').length"
    wait.until(lambda b: b.execute_script(count) == len(paths))
    return browser.execute_script(
        "return [...document.querySelectorAll('article')].map("
        "(a) => [a.querySelector('h2').textContent, a.textContent])"
    )


needs_runtime = pytest.mark.skipif(
    not (PAGE / RUNTIME).is_dir(), reason="onnxruntime-web is missing: npm install in its folder"
)


@needs_runtime
def test_the_page_gives_the_labels_of_predict(
    browser: Any, site: tuple[Path, str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for i in range(5):
        small = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(small.repeat(20, axis=0).repeat(17, axis=1)).save(paths[-1])
    model = tl.build_classifier(
        class_names=("ant", "bee", "wasp"), image_size=64, trunk="block3", fit="pad"
    )
    # So that images differ in what is said of them.
    head = model.get_layer("logits")
    pixels = [tl.augment.resize(tl.data.decode(str(path)), 64, "pad") for path in paths]
    features = keras.Model(model.input, head.input).predict_on_batch(np.stack(pixels))
    kernel = rng.normal(size=head.kernel.shape)
    kernel = 2 * kernel / (features @ kernel).std(axis=0)
    head.kernel.assign(kernel)
    head.bias.assign(-(features @ kernel).mean(axis=0))
    classifier = Predictor(model=model, class_names=("ant", "bee", "wasp"))
    tl.export(classifier, site[0] / "model.onnx")
    browser.get(f"{site[1]}/index.html")
    expected = tl.load(site[0] / "model.onnx").predict(paths)
    assert len({said.label for said in expected}) > 1
    for (heading, text), said in zip(answers_of(browser, paths), expected, strict=True):
        assert heading == said.label
        shown = [
            float(part.split()[-1]) for part in text.replace("\u00a0%", "\u00a0\n").split("\n")[:3]
        ]
        assert shown == pytest.approx(
            sorted((100 * p for p in said.probabilities.values()), reverse=True), abs=0.11
        )


@needs_runtime
def test_the_page_says_what_is_wrong_and_axe_finds_nothing(
    browser: Any, site: tuple[Path, str], tmp_path: Path
) -> None:
    colours.write(site[0] / "model.onnx")
    browser.get(f"{site[1]}/index.html")
    paths = [tmp_path / name for name in ("red.png", "blue.png", "grey.png", "broken.png")]
    for path, colour in zip(paths, [(200, 30, 30), (20, 20, 190), (90, 90, 90)], strict=False):
        path.write_bytes(colours.file(colour))
    paths[3].write_bytes(b"no image")
    headings = [heading for heading, _ in answers_of(browser, paths)]
    assert headings[:2] == ["red", colours.NAMES[2]]
    assert headings[2].startswith("Not sure")
    assert headings[3] == "Not read"
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is missing")
    assert axe.Axe().run(browser)["violations"] == []
    names = "return performance.getEntriesByType('resource').map((e) => e.name)"
    others = [n for n in browser.execute_script(names) if not n.startswith((site[1], "blob:"))]
    assert others == []
    (site[0] / "model.onnx").unlink()
    browser.refresh()
    assert "status 404" in json.dumps(wait_for(browser, "could not be loaded"))


def wait_for(browser: Any, words: str) -> str:
    from selenium.webdriver.support.wait import WebDriverWait

    said = "return document.body.textContent"
    WebDriverWait(browser, 60).until(lambda b: words in b.execute_script(said))
    return browser.execute_script(said)
