#!/bin/sh
# Starts Ray with a fixed metrics port, then the service, and waits for it.
#
# `serve run` alone would start Ray too, but with a random metrics port. RAY_START_OPTIONS, such as `--num-cpus=4`, is
# added to the options of `ray start`; the arguments of this script are passed to `serve run`.
set -eu

# Every client that reaches Ray can run code in it, so a token is required; if none is given, a random one is generated.
if [ -z "${RAY_AUTH_MODE:-}" ]; then
    export RAY_AUTH_MODE=token
    [ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ] || ray get-auth-token --generate > /dev/null
fi

# shellcheck disable=SC2086 # options are words
ray start --head --disable-usage-stats --metrics-export-port=8080 ${RAY_START_OPTIONS:-}
exec serve run --address=auto "$@"
