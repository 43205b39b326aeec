#!/usr/bin/env python3
"""Makes src/lighthouse/builtin-roles.txt from Azure's own list.

    az role definition list --query "[?roleType=='BuiltInRole']" --output json | scripts/builtin-roles.py > src/lighthouse/builtin-roles.txt

One line per role: id, what follows from its permissions (see src/lighthouse/role.rs), name.
"""
import json
import re
import sys

MANAGED = ["roleAssignments", "roleDefinitions", "classicAdministrators", "locks", "denyAssignments"]
GRANTS = [f"Microsoft.Authorization/{what}/{verb}" for what in MANAGED for verb in ("write", "delete")]


def matches(pattern, operation):
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), operation, re.IGNORECASE)


def allows(role, operation):
    return any(
        any(matches(pattern, operation) for pattern in part["actions"])
        and not any(matches(pattern, operation) for pattern in part["notActions"])
        for part in role["permissions"]
    )


def marks(role):
    yield "d" if any(part["dataActions"] for part in role["permissions"]) else "-"
    yield "g" if any(allows(role, operation) for operation in GRANTS) else "-"
    yield "r" if allows(role, "Any.Provider/things/read") else "-"
    yield "f" if allows(role, "Microsoft.Solutions/applications/refreshPermissions/action") else "-"
    yield "s" if allows(role, "Microsoft.Solutions/locations/operationStatuses/read") else "-"


for role in sorted(json.load(sys.stdin), key=lambda role: role["name"]):
    if role["roleType"] == "BuiltInRole":
        print(role["name"].lower(), "".join(marks(role)), " ".join(role["roleName"].split()))
