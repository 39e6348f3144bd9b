#!/usr/bin/env bash
# Builds the images from the working tree and puts them into the nodes of the test cluster.
#
# With the cluster of ../shared/cluster: on its own base image, loaded into its nodes. With kind
# (KIND=name of the cluster): on the published base image, loaded by kind. What is built is tagged
# localhost/model-load-test/NAME:VERSION, which the tests use by default.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' components/version.py)
images=(localhost/model-load-test/load-test:"$version" localhost/model-load-test/embedded-server:"$version")
cluster=../shared/cluster/cluster
export GENERATORS=${GENERATORS:-.tools/bin}
if [ -z "${TOOLS:-}" ] && [ ! -e "$GENERATORS/vegeta" ]; then
    echo "vegeta is not in $GENERATORS (\`make tools\` says why): the image goes without"
    export TOOLS=ghz
fi

if [ -n "${KIND:-}" ]; then
    images/build.sh
    kind load docker-image --name "$KIND" "${images[@]}"
elif [ -x "$cluster" ]; then
    "$cluster" dockerd-up
    export BASE=${BASE:-localhost/debian:trixie}
    docker image inspect "$BASE" >/dev/null 2>&1 || "$cluster" base-image "$BASE"
    images/build.sh
    "$cluster" load "${images[@]}"
else
    echo "neither KIND nor ../shared/cluster: push the images to a registry that the cluster reaches" >&2
    exit 1
fi
