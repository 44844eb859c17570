"""Run on the real bindings, in a process of its own: which names are there, with which parameters?

    probe.py MODULE < '["Builder.create_network", ...]'

Writes JSON: the version, the names that are missing, and for every other name the parameters of
each of its overloads, as its own documentation lists them.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from functools import reduce

bindings = importlib.import_module(sys.argv[1])
missing = []
parameters = {}
for name in json.load(sys.stdin):
    try:
        found = reduce(getattr, name.split("."), bindings)
    except AttributeError:
        missing.append(name)
        continue
    call = re.compile(rf"^(?:\d+\. )?{name.rpartition('.')[2]}\((.*)\)", re.MULTILINE)
    said = [inside for inside in call.findall(found.__doc__ or "") if "*args" not in inside]
    parameters[name] = [re.findall(r"(?:^|, )(?:[\w ]+ )?(\w+)(?=[:,=]|$)", one) for one in said]
version = getattr(bindings, "__version__", "")
json.dump({"version": version, "missing": missing, "parameters": parameters}, sys.stdout)
