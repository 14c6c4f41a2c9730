#!/bin/sh
# Starts Ray with a port for metrics that Prometheus can be told of, then the service, and waits for the service.
#
# `serve run` alone would start Ray too, but on a port for metrics that is another one each time. RAY_START_OPTIONS is
# added to `ray start`, such as `--num-cpus=4`; the arguments are those of `serve run`.
set -eu

# Whoever reaches Ray can run code in it, so it asks for a token; of this container's own where none is given.
if [ -z "${RAY_AUTH_MODE:-}" ]; then
    export RAY_AUTH_MODE=token
    [ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ] || ray get-auth-token --generate > /dev/null
fi

# shellcheck disable=SC2086 # options are words
ray start --head --disable-usage-stats --metrics-export-port=8080 ${RAY_START_OPTIONS:-}
exec serve run --address=auto "$@"
