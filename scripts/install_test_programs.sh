#!/usr/bin/env bash
# Installs what tests run for real: container engines, a registry, what makes a Debian base, PostgreSQL, and Go and
# Node.js for gRPC clients.
# Only what is absent is installed; a second run does nothing. Needs root and apt-get, else it says what to run.
# Arguments replace this list: scripts/install_test_programs.sh h2load=nghttp2-client wrk=wrk
set -euo pipefail

# program=package, where the program stands for the package
wanted=(
  podman=podman
  /usr/lib/podman/netavark=netavark
  buildah=buildah
  runc=runc
  dockerd=docker.io
  skopeo=skopeo
  umoci=umoci
  docker-registry=docker-registry
  mmdebstrap=mmdebstrap
  setpriv=util-linux
  git=git
  go=golang-go
  node=nodejs
  npm=npm
)
[ $# -eq 0 ] || wanted=("$@")

PATH="$PATH:/usr/sbin:/sbin"
missing=()
for pair in "${wanted[@]}"; do
  command -v "${pair%%=*}" >/dev/null || missing+=("${pair##*=}")
done
if [ $# -eq 0 ]; then
  # Debian keeps the programs of a PostgreSQL server out of the PATH.
  command -v postgres >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing+=(postgresql)
  # Debian's Go packages have no program.
  [ -d /usr/share/gocode/src/google.golang.org/grpc ] && [ -d /usr/share/gocode/src/google.golang.org/protobuf ] ||
    missing+=(golang-google-grpc-dev golang-google-protobuf-dev golang-github-golang-protobuf-1-5-dev)
fi

if [ ${#missing[@]} -eq 0 ]; then
  echo "Test programs: all present."
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  echo "Test programs: this machine has no apt-get; install by its own means: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "Test programs: as root, run: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

echo "Test programs: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
export RUNLEVEL=1  # daemons are installed, not started: tests start their own
install=(apt-get install --quiet --quiet --yes --no-install-recommends -o Dpkg::Use-Pty=0)
# A fresh machine has no package lists; one that has them need not fetch them again.
"${install[@]}" "${missing[@]}" >/dev/null 2>&1 || {
  apt-get update --quiet --quiet
  "${install[@]}" "${missing[@]}" >/dev/null
}
echo "Test programs: installed."
