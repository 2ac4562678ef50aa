"""An agent: a model behind an HTTP endpoint (chat completions, with tools), which may call the ERP's API."""

import json
import os
import sys

import httpx

TURNS = 20
METHODS = {"type": "string", "enum": ["GET", "POST", "PUT", "DELETE"]}
FIELDS = {"method": METHODS, "path": {"type": "string"}, "body": {"type": "object"}}
PARAMETERS = {"type": "object", "properties": FIELDS, "required": ["method", "path"]}
CALL = {"name": "call", "description": "Calls Dolibarr's REST API: GET thirdparties?limit=5", "parameters": PARAMETERS}

# Both addresses are ours: what the model says is only ever a path below them.
api = f"{os.environ['DOLIBARR_URL']}/api/index.php/"
erp = httpx.Client(headers={"DOLAPIKEY": os.environ["DOLAPIKEY"]}, timeout=60)
model = httpx.Client(headers={"Authorization": f"Bearer {os.environ['MODEL_KEY']}"}, timeout=120)
messages = [{"role": "user", "content": sys.stdin.read()}]

for _ in range(TURNS):
    question = {"model": sys.argv[1], "messages": messages, "tools": [{"type": "function", "function": CALL}]}
    answer = model.post(os.environ["MODEL_URL"], json=question).raise_for_status().json()
    message = answer["choices"][0]["message"]
    messages.append(message)
    if not message.get("tool_calls"):
        print(message["content"])
        break
    for tool_call in message["tool_calls"]:
        wanted = json.loads(tool_call["function"]["arguments"])
        if ".." in wanted["path"]:
            sys.exit(f"the model wants to leave the API: {wanted['path']}")
        said = erp.request(wanted["method"], api + wanted["path"].lstrip("/"), json=wanted.get("body"))
        result = f"{said.status_code} {said.text}"
        messages.append({"role": "tool", "tool_call_id": tool_call["id"], "content": result})
else:
    sys.exit(f"no answer in {TURNS} turns")
