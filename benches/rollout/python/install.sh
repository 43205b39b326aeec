#!/usr/bin/env bash
# Installs the Azure SDK for Python, which the benchmark measures beside Permafresh, into the folder that is named.
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet --disable-pip-version-check 'azure-mgmt-managedapplications==1.0.0b2' 'requests>=2.32,<3'
