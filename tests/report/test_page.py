"""The page, in a browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_erp_sandbox.plain import plain_changes
from pytest_erp_sandbox.postgres.changes import Change, ChangeSet

from .conftest import Opens
from .contents import change_set, content, result, trials, unseen

if TYPE_CHECKING:
    from playwright.sync_api import Page

SEVERAL = [
    result("A customer moves"),
    result("A customer stays", changes=plain_changes(ChangeSet(()))),
    result("An invoice is drafted", "failed", feature="Invoices", changes=plain_changes(change_set(99, "Le Phare"))),
]


def shown(page: Page) -> list[str]:
    """The scenarios that are to be seen."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('details.scenario > summary > .name')]"
        ".filter((each) => each.checkVisibility()).map((each) => each.textContent.trim())"
    )
    return found


def luminance(page: Page, selector: str) -> float:
    color = page.locator(selector).first.evaluate("each => getComputedStyle(each).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 765


class TestFinding:
    def test_filters_leave_what_they_name(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        assert len(shown(page)) == 3
        page.get_by_role("button", name="Failed 1").click()
        assert shown(page) == ["An invoice is drafted"]
        assert not page.get_by_role("heading", name="Third parties").is_visible()
        page.get_by_role("button", name="Changed something").click()
        assert shown(page) == ["A customer moves", "An invoice is drafted"]
        page.get_by_role("button", name="All 3").click()
        assert len(shown(page)) == 3

    def test_search_looks_into_what_is_folded(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        page.keyboard.press("/")
        page.keyboard.type("le phare")
        assert shown(page) == ["An invoice is drafted"]
        page.keyboard.type(" nonsense")
        assert shown(page) == []
        assert page.get_by_role("status").inner_text() == "No scenario matches."
        page.keyboard.press("Escape")
        assert len(shown(page)) == 3

    def test_filter_and_search_hold_together(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        page.get_by_role("searchbox").fill("customer")
        page.get_by_role("button", name="Passed 2").click()
        assert shown(page) == ["A customer moves", "A customer stays"]
        page.get_by_role("button", name="Failed 1").click()
        assert shown(page) == []


class TestFolding:
    def test_what_failed_is_open_and_the_rest_by_keyboard(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        assert page.get_by_text("AssertionError: this scenario fails").is_visible()
        first = page.locator("details.scenario").first
        assert not first.get_by_text("What changed").is_visible()
        first.locator("> summary").focus()
        page.keyboard.press("Enter")
        assert first.get_by_text("What changed").is_visible()
        assert first.get_by_text("Fougères").is_visible()

    def test_all_at_once(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        page.get_by_role("button", name="Unfold all").click()
        assert page.locator("details.scenario:not([open])").count() == 0
        page.get_by_role("button", name="Fold all").click()
        assert page.locator("details.scenario[open]").count() == 0

    def test_a_long_value_is_folded(self, opens: Opens) -> None:
        page = opens(content(SEVERAL[:1]))
        page.get_by_role("button", name="Unfold all").click()
        text = page.get_by_text("x" * 3000)
        assert not text.is_visible()
        page.get_by_text("3,000 characters").click()
        assert text.is_visible()

    def test_a_link_unfolds_what_it_leads_to(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        page.get_by_role("button", name="Failed 1").click()
        page.evaluate("location.hash = '#s2'")
        page.locator("#s2[open]").wait_for()
        assert page.locator("#s2").is_visible()


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script>",
    "</style><style>* { display: none }</style>",
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnirts desrever",
    "a\x00b\x1b[31mc\x7f",
    "\ud800 alone",
    "javascript:alert(5)",
    "W" * 400,
]


class TestHostileValues:
    @pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
    def test_they_are_text_wherever_they_stand(self, opens: Opens, value: str) -> None:
        rows = ChangeSet(
            (
                Change(value, {value: value}, None, {value: value, "other": value}),
                Change("llx_const", {"name": "a"}, {"name": "a", "value": "b"}, {"name": "a", "value": value}),
            )
        )
        asked = {"prompt": value, "answer": value, "errors": value, "ending": value, "exit_code": 1, "seconds": 1.0}
        hostile = result(
            value,
            "failed",
            feature=value,
            scenario={"tags": [value], "about": value, "example": value},
            asked=[asked],
            changes=plain_changes(rows),
        )
        hostile.failure = value
        finding = {"invariant": value, "status": "warning", "detail": value, "remedy": value, "subject": value}
        page = opens(content([hostile, *SEVERAL], preflight=[finding], sandboxes={value: value}))
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        # Everything is still there, within the page's width, and nothing was added to it.
        assert page.locator("details.scenario").count() == 4
        assert page.locator("img, iframe, object").count() == 0
        assert page.locator("script").count() == 1
        assert page.locator("style").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator(".failure").first.is_visible()
        if value.isprintable():
            assert page.locator(".failure").first.inner_text() == value

    def test_what_would_not_be_seen_is_named(self, opens: Opens) -> None:
        page = opens(content([result("a\x00b \u202ec")]))
        assert shown(page) == ["a␀b ⟨U+202E⟩c"]

    def test_the_policy_lets_nothing_else_run(self, opens: Opens, wrong: list[str]) -> None:
        page = opens(content(SEVERAL))
        policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content") or ""
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        page.evaluate("document.body.append(Object.assign(document.createElement('div'), {id: 'ours'}))")
        page.evaluate("document.querySelector('#ours').setAttribute('onclick', 'this.title = 1')")
        page.locator("#ours").dispatch_event("click")
        assert page.locator("#ours").get_attribute("title") is None
        assert "violates the following Content Security Policy" in wrong.pop()


class TestReading:
    def test_what_changed_is_told_by_column(self, opens: Opens) -> None:
        page = opens(content([result("One", "failed")]))
        line = page.locator(".diff tbody tr").first
        assert [cell.inner_text().strip() for cell in line.locator("th, td").all()] == ["town", "Rennes", "Fougères"]
        assert page.get_by_text("Crêperie du Port").is_visible()

    def test_what_is_not_known_is_said(self, opens: Opens) -> None:
        page = opens(content([result("One", "failed", changes=plain_changes(unseen()))]))
        assert page.get_by_text("it is not known how: something was defined anew").is_visible()

    def test_trials_stand_together_and_side_by_side_where_they_differ(self, opens: Opens) -> None:
        page = opens(content([*trials([True, True, False, True]), result("Another")]))
        assert shown(page) == ["It makes the customer", "Another"]
        assert page.get_by_text("3 of 4 trials passed").is_visible()
        assert page.get_by_role("img", name="pass^1 0.75, pass^2 0.50, pass^3 0.25, pass^4 0.00").is_visible()
        most, least = page.locator(".set").all()
        assert "trials 1, 2, 4" in most.inner_text()
        assert "Nothing else." in most.inner_text()
        assert "trial 3" in least.inner_text()
        assert "nom: 'Chez Gwenaelle'" in least.inner_text()
        assert "And 1 change that all have." in least.inner_text()

    def test_dark_where_people_like_it_dark(self, opens: Opens) -> None:
        assert luminance(opens(content(SEVERAL), color_scheme="light"), "body") > 0.9
        assert luminance(opens(content(SEVERAL), color_scheme="dark"), "body") < 0.15

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_text_has_contrast(self, opens: Opens, scheme: str) -> None:
        page = opens(content([*SEVERAL, *trials([True, False])]), color_scheme=scheme)
        page.get_by_role("button", name="Unfold all").click()
        assert page.evaluate(CONTRASTS) == []

    def test_a_phones_width_is_enough(self, opens: Opens) -> None:
        page = opens(content([*SEVERAL, *trials([True, False])]), viewport={"width": 360, "height": 740})
        page.get_by_role("button", name="Unfold all").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360

    def test_printed_it_is_all_unfolded_and_without_buttons(self, opens: Opens) -> None:
        page = opens(content(SEVERAL))
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        assert not page.get_by_role("searchbox").is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.scenario[open]").count() == 1
        assert page.pdf().startswith(b"%PDF")

    def test_without_scripts_it_is_all_there(self, opens: Opens) -> None:
        page = opens(content(SEVERAL), java_script_enabled=False)
        assert len(shown(page)) == 3
        page.locator("details.scenario > summary").first.click()
        assert page.get_by_text("Fougères").first.is_visible()


def test_a_thousand_scenarios_are_usable_within_two_seconds(opens: Opens) -> None:
    many = [result(f"Scenario {number}", feature=f"Feature {number // 20}") for number in range(1000)]
    page = opens(content(many))
    # Until there is a first picture of a page that can be used; the best of three, as others use this machine, too.
    took = []
    for _ in range(3):
        page.reload()
        took.append(page.evaluate(USABLE))
    assert min(took) < 2000, took
    page.get_by_role("searchbox").fill("scenario 999")
    assert shown(page) == ["Scenario 999"]


USABLE = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
    document.querySelector('[data-show=passed]').click();
    document.querySelector('details.scenario').open = true;
    document.querySelector('details.scenario').getBoundingClientRect();
    done(performance.now());
})))"""

# WCAG 2: text against what is behind it, at least 4.5 to 1.
CONTRASTS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (each) => {
        for (; each; each = each.parentElement) {
            const color = rgb(getComputedStyle(each).backgroundColor);
            if (color[3] === 255) return color;
        }
        return [255, 255, 255, 255];
    };
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const each = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !each.checkVisibility() || each.closest('svg, script, style')) continue;
        const [a, b] = [light(rgb(getComputedStyle(each).color)), light(behind(each))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.add(`${each.tagName}.${each.className}: ${ratio.toFixed(2)}`);
    }
    return [...found];
}"""
