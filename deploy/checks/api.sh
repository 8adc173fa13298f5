#!/usr/bin/env bash
# API: the running backend against its own description, with schemathesis
exec "$(dirname "$0")/../../backend/tests/schemathesis.sh" "${API_EXAMPLES:-20}"
