"""The annotation page as people use it: in a headless Chromium, by its keys and buttons."""

import shutil
import threading

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="the package selenium is missing")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from classifiers import annotate  # noqa: E402
from classifiers.annotation_page import server  # noqa: E402
from classifiers.candidates import Candidate  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on the PATH (Debian: apt install chromium-driver)",
)
TEXTS = (
    Candidate("hits/gambling/web/many", "1", "one", "来赌.场玩，赌场有你\n第二行", "gambling",
              "zh", "web", "赌.场 | 赌场"),
    Candidate("random/web", "2", "two", "<img src=x onerror='window.bad=1'><b>bold</b> &amp; 赌",
              "", "zh", "web", "赌"),
    Candidate("random/web", "3", "three", "calm", "", "en", "web", ""),
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(tmp_path):
    """Starts the server, again and again on one file of answers; yields a function to do so."""
    out = tmp_path / "annotations.jsonl"
    running = []

    def start():
        def read():
            return annotate.read_annotations([out]) if out.exists() else []

        own = server(
            TEXTS, ["normal", "gambling", "sexual"], out, 0, read, annotate.annotation_line
        )
        # A short poll, since shutdown waits for it.
        threading.Thread(target=own.serve_forever, args=(0.01,), daemon=True).start()
        running.append(own)
        return f"http://127.0.0.1:{own.server_address[1]}/", out

    yield start
    for own in running:
        own.shutdown()
        own.server_close()


class Annotator:
    """A person before the page."""

    def __init__(self, browser, address, name):
        self.browser = browser
        browser.get(address)
        self.find("#name").send_keys(name, Keys.ENTER)
        self.wait(lambda: self.find("#count").text != "")

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return [item.text for item in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def wait(self, claim):
        WebDriverWait(self.browser, 10, poll_frequency=0.02).until(lambda _: claim())

    def press(self, keys):
        webdriver.ActionChains(self.browser).send_keys(keys).perform()

    def press_until(self, keys, count):
        self.press(keys)
        self.wait(lambda: self.find("#count").text.startswith(count))

    @property
    def hidden(self):
        return "hidden" in self.find("#text").get_attribute("class").split()

    @property
    def shown(self):
        return self.find("#text").get_attribute("textContent")


def test_a_text_is_hidden_until_it_is_asked_for_and_its_hits_are_marked(browser, page):
    address, out = page()
    ann = Annotator(browser, address, "Ann")
    assert ann.find("#count").text == "0 of 3"
    assert ann.hidden
    assert "blur" in ann.find("#text").value_of_css_property("filter")
    ann.press("2")  # the first press only shows the text: nobody labels what they have not seen
    ann.wait(lambda: not ann.hidden)
    assert not out.exists()
    assert ann.texts("#text mark") == ["赌.场", "赌场"]
    assert ann.shown == TEXTS[0].text
    assert "suggested: gambling" in ann.find("#about").text
    assert ann.texts("#labels button") == ["1: normal", "2: gambling", "3: sexual"]
    ann.press(Keys.SPACE)
    ann.wait(lambda: ann.hidden)
    ann.find("#text").click()
    ann.wait(lambda: not ann.hidden)


def test_nothing_of_a_text_becomes_markup(browser, page):
    address, _ = page()
    ann = Annotator(browser, address, "Ann")
    ann.press(" ")
    ann.press_until("2", "1 of 3")
    assert ann.shown == TEXTS[1].text
    assert ann.texts("#text img, #text b") == []
    ann.press(" ")
    ann.wait(lambda: not ann.hidden)
    assert ann.texts("#text mark") == ["赌"]
    assert browser.execute_script("return window.bad") is None


def test_keys_label_undo_and_resume_and_annotators_do_not_share_their_progress(browser, page):
    address, out = page()
    ann = Annotator(browser, address, "Ann")
    ann.press(" ")
    ann.press_until("2", "1 of 3")
    assert float(ann.find("#bar").get_attribute("value")) == 1
    assert ann.hidden  # the next one is hidden again
    ann.press_until("u", "0 of 3")
    assert ann.shown == TEXTS[0].text
    ann.press(" ")
    ann.press_until("1", "1 of 3")
    ann.find("#many").click()
    ann.press(" ")
    ann.press("2")
    ann.press("3")
    assert ann.texts("#labels .chosen") == ["2: gambling", "3: sexual"]
    ann.press_until(Keys.ENTER, "2 of 3")

    bo = Annotator(browser, address, "Bo")
    assert bo.find("#count").text == "0 of 3"
    bo.find("#text").click()
    bo.find("#labels button").click()
    bo.wait(lambda: bo.find("#count").text == "1 of 3")

    address, _ = page()  # the server was stopped and is started again
    ann = Annotator(browser, address, "Ann")
    assert (ann.find("#count").text, ann.shown) == ("2 of 3", "calm")
    ann.press(" ")
    ann.press_until("1", "3 of 3")
    assert ann.shown == "All done. Thank you."
    answers = {(e.annotator, e.doc_id): e.labels for e in annotate.read_annotations([out])}
    assert answers == {
        ("Ann", "one"): ("normal",),
        ("Ann", "two"): ("gambling", "sexual"),
        ("Ann", "three"): ("normal",),
        ("Bo", "one"): ("normal",),
    }


def test_an_answer_that_cannot_be_saved_is_said(browser, page):
    address, out = page()
    ann = Annotator(browser, address, "Ann")
    out.mkdir()  # in the way of the answers
    ann.press(" ")
    ann.press("1")
    ann.wait(lambda: "Not saved: [Errno 21]" in ann.find("#error").text)
    assert ann.find("#count").text == "0 of 3"
    out.rmdir()
    ann.press_until("1", "1 of 3")
    assert ann.find("#error").text == ""
