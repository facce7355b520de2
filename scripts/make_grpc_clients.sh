#!/usr/bin/env bash
# Makes the clients of others that tests run against Mendel's doors (grpc-go, grpc-js, tritonclient, KServe's) and Seldon
# MLServer, against which the checks of conformance run, in .venv/grpc_clients.
# A client whose sources have not changed is not made again. Needs what scripts/install_test_programs.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."

sources=tests/grpc_clients
made=.venv/grpc_clients
mlserver=benchmarks/serving/requirements-mlserver.txt
mkdir -p "$made"

# make NAME COMMAND FILE...: runs COMMAND unless the files are those of the last run.
make_client() {
  local name=$1 command=$2 stamp
  shift 2
  stamp=$(cat "$@" | sha256sum)
  [ "$(cat "$made/$name.stamp" 2>/dev/null)" = "$stamp" ] && return
  echo "gRPC clients: making $name"
  rm -rf "${made:?}/$name" "$made/$name.stamp"
  "$command"
  echo "$stamp" >"$made/$name.stamp"
}

# Debian's Go packages are sources below a GOPATH; nothing is downloaded.
make_go() {
  GO111MODULE=off GOPATH=/usr/share/gocode go build -o "$made/go" "./$sources/go"
}

make_js() {
  mkdir "$made/js"
  cp "$sources"/js/* "$made/js"
  npm ci --prefix "$made/js" --silent --ignore-scripts --no-audit --no-fund
}

make_python() {
  .venv/bin/uv venv --quiet --python .venv/bin/python "$made/python"
  .venv/bin/uv pip install --quiet --python "$made/python/bin/python" --require-hashes -r requirements/grpc_clients.txt
}

make_mlserver() {
  .venv/bin/uv venv --quiet --python .venv/bin/python "$made/mlserver"
  .venv/bin/uv pip install --quiet --python "$made/mlserver/bin/python" --require-hashes -r "$mlserver"
}

make_client go make_go "$sources"/go/*
make_client js make_js "$sources"/js/*
make_client python make_python requirements/grpc_clients.txt
make_client mlserver make_mlserver "$mlserver"
