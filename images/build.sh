#!/usr/bin/env bash
# Builds both images, tagged with the package's version, and prints their sizes and build times.
#
#   BASE=IMAGE          base image, instead of the published one that the Dockerfiles pin
#   GENERATORS=FOLDER   folder with ghz and vegeta (executables or release files), instead of downloads
#   TOOLS="ghz"         load generators that must be there; default "ghz vegeta"
#   REPOSITORY=NAME     before the images' names; default localhost/model-load-test
#   TENSORFLOW=PACKAGE  put TensorFlow into the embedded server, such as TENSORFLOW=tensorflow-cpu
#   EXTRAS="run mlmd"   the package's extras in the load-test image; default as in its Dockerfile
#   ONLY=load-test      builds one of the two
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' components/version.py)
repository=${REPOSITORY:-localhost/model-load-test}
options=(--network host ${BASE:+--build-arg "BASE=$BASE"})

build() { # NAME FOLDER OPTION...
    local name=$1 folder=$2 image=$repository/$1:$version started=$SECONDS
    shift 2
    [ "${ONLY:-$name}" = "$name" ] || return 0
    docker build --quiet --file "images/$folder/Dockerfile" --tag "$image" "${options[@]}" "$@" . >/dev/null
    printf '%s: %d MB unpacked, built in %d s\n' "$image" \
        "$(($(docker image inspect --format '{{.Size}}' "$image") / 1000000))" $((SECONDS - started))
}

rm -rf build/generators
if [ -n "${GENERATORS:-}" ]; then
    mkdir -p build/generators
    # Links are followed: Docker sees nothing outside the folder it is given.
    find -L "$GENERATORS" -maxdepth 1 -type f \( -name 'ghz*' -o -name 'vegeta*' \) -exec cp -L {} build/generators/ \;
fi
build load-test load_test --build-arg "GENERATORS=${TOOLS:-ghz vegeta}" ${EXTRAS:+--build-arg "EXTRAS=$EXTRAS"}
build embedded-server embedded_server --build-arg "TENSORFLOW=${TENSORFLOW:-}" \
    --build-arg "BACKEND=$([ -n "${TENSORFLOW:-}" ] && echo saved-model || echo numpy)"
