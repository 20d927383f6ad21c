"""The status page in a real browser: what is seen, heard and clicked, with JavaScript or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from flask import Flask
from tests.browser.conftest import TOKEN, Look
from tests.serving import serving_asgi, serving_wsgi
from tests.waiting import wait_until

import failstop.fastapi
import failstop.flask
from failstop import FailSafe, Recovery, State
from failstop.errors import DatabaseUnavailableError
from failstop.events import InDoubt

Make = Callable[..., FailSafe]
Serve = Callable[..., str]
Open = Callable[..., Look]

LIGHT, DARK = "rgb(244, 246, 248)", "rgb(16, 21, 27)"
NEVER = Recovery(probe_interval=0.05, consecutive=1_000_000)


def trip(failsafe: FailSafe) -> None:
    failsafe.trip(DatabaseUnavailableError("the database refused the connection", kind="refused"))


def live_through(failsafe: FailSafe) -> None:
    """Have three incidents behind it, one ended by force."""
    for number in range(3):
        trip(failsafe)
        failsafe.reset(actor="ann", reason="it was restarted", force=number == 1)


def normal(make: Make) -> FailSafe:
    failsafe = make()
    live_through(failsafe)
    return failsafe


def in_fail_safe_mode(make: Make) -> FailSafe:
    failsafe = normal(make)
    failsafe.report_in_doubt(InDoubt("database", "POST /orders order-4711", datetime.now(UTC)))
    trip(failsafe)
    return failsafe


def recovering(make: Make) -> FailSafe:
    failsafe = make(NEVER)
    trip(failsafe)
    wait_until(lambda: failsafe.state is State.RECOVERING)
    return failsafe


def halted(make: Make) -> FailSafe:
    failsafe = normal(make)
    failsafe.halt(actor="bob (token ops-1)", reason="prices of the venue look wrong")
    return failsafe


STATES = {
    "Operational": normal,
    "Fail-safe mode": in_fail_safe_mode,
    "Recovering": recovering,
    "Halted": halted,
}


@pytest.mark.parametrize("headline", STATES)
def test_each_state_is_seen_by_everybody(
    headline: str, make: Make, serve: Serve, look: Open
) -> None:
    """In dark and light, on a phone, by a screen reader; nothing complains, nothing sticks out."""
    url = serve(STATES[headline](make))
    for scheme, width, ground in (("light", 1280, LIGHT), ("dark", 320, DARK)):
        page = look(url, color_scheme=scheme, viewport={"width": width, "height": 800}).status()
        heading = page.get_by_role("heading", level=1)
        assert heading.inner_text().endswith(headline)
        assert heading.evaluate("h => parseFloat(getComputedStyle(h).fontSize)") >= 32
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_what_a_screen_reader_finds(make: Make, serve: Serve, look: Open) -> None:
    page = look(serve(in_fail_safe_mode(make))).status()
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    heading = page.get_by_role("heading", level=1).inner_text()
    assert heading.split() == ["trading-api:", "Fail-safe", "mode"]
    for name in ("What to do next", "Checks", "Alerts", "In doubt", "Timeline", "Last incidents"):
        assert page.get_by_role("region", name=name, exact=True).count() == 1
    checks = page.get_by_role("region", name="Checks")
    assert checks.get_by_role("columnheader").all_inner_texts() == ["Check", "Result", "Seen"]
    assert checks.get_by_role("rowheader", name="in doubt").count() == 1
    assert page.get_by_role("img", name="How long the last incidents lasted").count() == 1
    assert page.get_by_role("form", name="Halt").get_by_label("Admin token").count() == 1
    assert page.locator("[aria-live=polite]").count() == 1
    assert "4711" not in page.content()


# Live


def test_the_page_follows_the_state(make: Make, serve: Serve, look: Open) -> None:
    """Without a reload, said once to who hears it, and what is typed stays."""
    failsafe = make()
    page = look(serve(failsafe)).status()
    page.evaluate("window.isTheSame = true")
    page.get_by_role("form", name="Halt").get_by_label("Reason").fill("half a sentence")
    failsafe.halt(actor="bob", reason="drill")
    page.wait_for_selector("html[data-tone=bad]")
    assert "Halted" in page.get_by_role("heading", level=1).inner_text()
    assert page.title() == "Halted · trading-api"
    assert "Halted" in page.locator("#announcement").inner_text()
    assert page.locator("input[name=epoch]").input_value() == "1"
    failsafe.reset(actor="bob", reason="over")
    page.wait_for_selector("html[data-tone=good]")
    assert page.get_by_role("form", name="Halt").get_by_label("Reason").input_value()
    assert page.evaluate("window.isTheSame")


def test_a_service_that_does_not_answer_is_not_shown_as_well(make: Make, look: Open) -> None:
    app = FastAPI()
    failstop.fastapi.install(app, failsafe=make())
    with ExitStack() as stack:
        window = look(str(stack.enter_context(serving_asgi(app)).base_url))
        page = window.status()
        stack.close()
        page.wait_for_selector("#lost:not([hidden])")
        assert "does not answer" in page.get_by_role("alert").inner_text()
    window.complaints.clear()  # the browser says that nobody answers


def test_an_open_table_stays_open(make: Make, serve: Serve, look: Open) -> None:
    failsafe = normal(make)
    page = look(serve(failsafe)).status()
    page.get_by_text("The same as a table").click()
    failsafe.halt(actor="bob", reason="drill")
    page.wait_for_selector("html[data-tone=bad]")
    assert page.locator("#past").get_attribute("open") is not None
    assert page.locator("#past tbody tr").count() == 3


# Orders


def fill(page: Any, form: str, token: str) -> Any:
    filled = page.get_by_role("form", name=form, exact=True)
    filled.get_by_label("Your name").fill("Ann")
    filled.get_by_label("Reason").fill("a drill")
    filled.get_by_label("Admin token").fill(token)
    return filled


@pytest.mark.parametrize("has_script", [True, False])
def test_a_person_halts_and_resets(has_script: bool, make: Make, serve: Serve, look: Open) -> None:
    failsafe = make()
    page = look(serve(failsafe, {"ops": TOKEN}), java_script_enabled=has_script).status()
    fill(page, "Halt", "a wrong token").get_by_role("button", name="Halt now").click()
    assert page.get_by_role("heading", level=1).inner_text() == "The token is not right"
    assert failsafe.state is State.NORMAL
    page.get_by_role("link", name="Back to the status").click()
    fill(page, "Halt", TOKEN).get_by_role("button", name="Halt now").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Halted"
    assert failsafe.incident is not None
    assert failsafe.incident.actor == "Ann (token ops)"
    page.get_by_role("link", name="Back to the status").click()
    assert "Halted" in page.title()
    fill(page, "Reset", TOKEN).get_by_role("button", name="Reset", exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text() == "Reset"
    assert failsafe.state is State.NORMAL
    page.get_by_role("link", name="Back to the status").click()
    assert "Operational" in page.title()


def test_a_reset_that_is_not_proven_shows_why_and_can_be_forced(
    make: Make, serve: Serve, look: Open
) -> None:
    failsafe = make()

    @failsafe.check
    def reconciled() -> bool:
        return False

    failsafe.halt(actor="bob", reason="drill")
    window = look(serve(failsafe))
    page = window.status()
    plan = page.get_by_role("form", name="Reset", exact=True)
    plan.get_by_label("Admin token").fill(TOKEN)
    plan.get_by_role("button", name="Only show the plan").click()
    assert "reconciled" in page.get_by_role("region", name="What is missing").inner_text()
    page.go_back()
    fill(page, "Reset", TOKEN).get_by_role("button", name="Reset", exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text() == "Not reset"
    assert "reconciled" in page.get_by_role("region", name="What is missing").inner_text()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert failsafe.state is not State.NORMAL
    page.get_by_role("link", name="Back to the status").click()
    form = fill(page, "Reset", TOKEN)
    box = form.get_by_label("Reset even if checks fail")
    assert not box.is_visible()
    form.get_by_text("Force it although checks fail").click()
    assert "not proven" in form.inner_text()
    box.check()
    form.get_by_role("button", name="Reset", exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text() == "Reset"
    assert failsafe.is_normal


def test_a_reset_names_the_epoch_that_the_person_saw(make: Make, serve: Serve, look: Open) -> None:
    failsafe = make()
    failsafe.halt(actor="bob", reason="drill")
    page = look(serve(failsafe)).status()
    form = fill(page, "Reset", TOKEN)
    failsafe.halt(actor="eve", reason="something new")
    page.wait_for_selector("#reset-changed:not([hidden])")
    assert "epoch 2, not 1" in form.get_by_role("alert").inner_text()
    form.get_by_role("button", name="Reset", exact=True).click()
    assert "has changed" in page.get_by_role("heading", level=1).inner_text()
    assert "it is 2 now" in page.content()
    assert failsafe.state is not State.NORMAL


def test_another_site_orders_nothing(make: Make, serve: Serve, look: Open) -> None:
    """Not even with a right token: this browser says where a form comes from."""
    failsafe = make()
    url = serve(failsafe)
    page = look(url).page
    fields = {"actor": "eve", "reason": "mischief", "token": TOKEN}
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    page.set_content(f'<form method="post" action="{url}/admin/halt">{inputs}<button>Go</button>')
    page.get_by_role("button").click()
    page.wait_for_selector("h1")
    assert "Another site" in page.get_by_role("heading", level=1).inner_text()
    assert failsafe.state is State.NORMAL


def test_no_other_site_frames_the_page(make: Make, serve: Serve, look: Open) -> None:
    url = serve(make())
    window = look(url)
    window.page.set_content(f'<iframe src="{url}/api/system/status"></iframe>')
    wait_for = window.page.frame_locator("iframe")
    wait_until(lambda: bool(window.page.wait_for_timeout(20) or window.complaints))
    assert "frame-ancestors" in window.complaints[0]
    assert wait_for.get_by_role("heading", level=1).count() == 0
    window.complaints.clear()


def test_the_forms_work_below_a_mount_point_on_flask(make: Make, look: Open) -> None:
    """And through WSGI, where a proxy strips a prefix."""
    failsafe = make()
    app = Flask("trading")
    failstop.flask.FailStop(app, failsafe=failsafe, admin_token=TOKEN)

    def mounted(environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/desk")
        return app(environ, start_response)

    with serving_wsgi(mounted) as client:
        page = look(str(client.base_url)).page
        page.goto("/desk/api/system/status")
        fill(page, "Halt", TOKEN).get_by_role("button", name="Halt now").click()
        assert page.url.endswith("/desk/admin/halt")
        page.get_by_role("link", name="Back to the status").click()
        assert page.url.endswith("/desk/api/system/status")
        page.wait_for_selector("html[data-tone=bad]")


# Without JavaScript


def test_without_javascript_the_page_is_whole_and_can_be_watched(
    make: Make, serve: Serve, look: Open
) -> None:
    page = look(serve(halted(make)), java_script_enabled=False).status()
    assert page.get_by_role("region", name="Last incidents").locator("rect.bar").count() >= 4
    page.get_by_role("link", name="Watch it").click()
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
    assert page.get_by_role("form").count() == 0
    assert "Halted" in page.get_by_role("heading", level=1).inner_text()
