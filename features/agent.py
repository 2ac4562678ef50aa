"""An agent that keeps the address book: a stand-in for yours, so that its rehearsals run anywhere.

It is asked on its standard input, finds the ERP and its key in its environment, and answers on its standard output.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from typing import Any


def call(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Call the ERP's API: the status, and what it answers."""
    request = urllib.request.Request(
        f"{os.environ['DOLIBARR_URL']}/api/index.php/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"DOLAPIKEY": os.environ["DOLAPIKEY"], "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def find(records: str, name: str) -> Any:
    """The record of that name, or label; None where there is none."""
    _, found = call("GET", f"{records}?limit=1000")
    return next((each for each in found if name in (each.get("name"), each.get("label"))), None)


def new_customer(name: str, town: str) -> str:
    """Make a customer, unless it is one."""
    if find("thirdparties", name):
        return f"{name} is in the address book already."
    call("POST", "thirdparties", {"name": name, "town": town, "client": "1", "code_client": "auto"})
    return f"{name} in {town} is a customer now."


def moved(name: str, town: str) -> str:
    """Change a customer's address."""
    call("PUT", f"thirdparties/{find('thirdparties', name)['id']}", {"town": town})
    return f"{name} is in {town} now."


def new_price(label: str, price: str) -> str:
    """Change a product's price, or say why that cannot be."""
    status, answer = call("PUT", f"products/{find('products', label)['id']}", {"price": price})
    if status != 200:
        return f"I may not do that: {answer['error']['message']}"
    return f"{label} costs {price} now."


SKILLS = {
    r"(.+) in (.+) wants to buy from us\.": new_customer,
    r"(.+) has moved to (.+)\.": moved,
    r"From now on, (.+) costs (.+) euros\.": new_price,
}


def main() -> None:
    """Answer line by line; what it does not understand is a failure."""
    for line in filter(None, map(str.strip, sys.stdin)):
        for pattern, skill in SKILLS.items():
            if match := re.fullmatch(pattern, line):
                print(skill(*match.groups()))
                break
        else:
            sys.exit(f"I do not understand: {line}")


main()
