"""The documentation's agent, with a scripted stand-in for its model: it calls the ERP, and answers."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .estates import Project
from .test_steps import rehearse

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "tool_calling_agent.py"
KEY = "the model's own key"


def calls(method: str, path: str, body: object = None) -> dict[str, Any]:
    """What a model says when it wants to call the ERP."""
    arguments = json.dumps({"method": method, "path": path, **({"body": body} if body else {})})
    function = {"name": "call", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


@contextmanager
def model(script: Sequence[dict[str, Any]], asked: list[dict[str, Any]]) -> Iterator[str]:
    """An endpoint that says what the script has, in turn, then its last again; it keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Authorization"] == f"Bearer {KEY}"
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            said = script[min(len(asked), len(script)) - 1]
            content = json.dumps({"choices": [{"message": said}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()


@pytest.fixture(autouse=True)
def settings(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", KEY)
    settings = project.estate.settings(strategy="rewind")
    command = [sys.executable, str(EXAMPLE), "a-model"]
    settings["agent"].update(command=command, environment=["MODEL_URL", "MODEL_KEY"])
    project.configure(settings)


def test_it_calls_the_erp_as_the_model_says_and_answers(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    script = [
        calls("GET", "/thirdparties/1"),
        calls("POST", "thirdparties", {"name": "Acme", "client": "1"}),
        {"role": "assistant", "content": "Acme is a customer now."},
    ]
    with model(script, asked) as url:
        monkeypatch.setenv("MODEL_URL", url)
        rehearse(
            project,
            'When the agent is asked "Make Acme a customer."\nThen the agent answered "Acme is a customer now."\n'
            "And one third party was created with:\n| nom | Acme |\nAnd nothing else changed",
            arguments=(),
        ).expect(0, passed=1)
    assert [each["messages"][0]["content"] for each in asked] == ["Make Acme a customer."] * 3
    answers = [each["content"] for each in asked[-1]["messages"] if each["role"] == "tool"]
    assert answers[0].startswith("200 {")
    assert "Café de la Gare" in json.loads(answers[0].removeprefix("200 "))["name"]
    assert answers[1].startswith("200 ")


def test_a_model_leads_it_to_no_other_host(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    elsewhere: list[dict[str, Any]] = []
    with model([], elsewhere) as other:
        host = other.removeprefix("http:").removesuffix("/v1/chat/completions")
        script = [
            calls("GET", f"http:{host}/x"),
            calls("GET", f"{host}/x"),
            calls("GET", f"@{host.strip('/')}/x"),
            {"role": "assistant", "content": "done"},
        ]
        with model(script, asked) as url:
            monkeypatch.setenv("MODEL_URL", url)
            rehearse(project, 'When the agent is asked "?"\nThen the agent answered "done"', arguments=()).expect(
                0, passed=1
            )
    assert elsewhere == []
    assert [each["content"][:3] for each in asked[-1]["messages"] if each["role"] == "tool"] == ["404"] * 3


def test_it_does_not_go_on_for_ever(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    with model([calls("GET", "thirdparties/1")], asked) as url:
        monkeypatch.setenv("MODEL_URL", url)
        run = rehearse(project, 'When the agent is asked "?"', arguments=())
    run.expect_error("the agent ended with exit code 1", "no answer in 20 turns", failed=1)
    assert len(asked) == 20
