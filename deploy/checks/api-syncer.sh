#!/usr/bin/env bash
# API: the running syncer against its own description, with schemathesis
exec "$(dirname "$0")/../../syncer/tests/schemathesis.sh" "${API_EXAMPLES:-20}"
