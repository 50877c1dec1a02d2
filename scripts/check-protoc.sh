#!/usr/bin/env bash
# Checks that plain protoc, with only proto/, generates Go, Python and Java from the contract: generates all three into
# a temporary directory, builds the Go package, imports the Python modules, and parses the Java files.
#
# It uses two versions of protoc, a new and an old one: grpcio-tools for Python generates Go and Python, and the
# machine's or Debian's protoc generates Java, which grpcio-tools lacks. Missing tools are installed into
# ${XDG_CACHE_HOME:-$HOME/.cache}/memory-service/protoc, which you may delete at any time; nothing else on the machine
# changes. Requires Python 3 with pip, and Go; uses javac if it is available. Exits with 1 if anything fails.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GRPCIO_TOOLS=1.85.1
readonly PROTOC_GEN_GO=v1.36.12
readonly PROTOC_GEN_GO_GRPC=v1.6.2
readonly GO_GRPC=v1.85.0
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/memory-service/protoc"
readonly PYTHON_PACKAGES="$CACHE/python-$GRPCIO_TOOLS"
readonly GO_PLUGINS="$CACHE/go-$PROTOC_GEN_GO-$PROTOC_GEN_GO_GRPC"

say() { echo "check-protoc: $*"; }
fail() { say "$*" >&2; exit 1; }

command -v python3 >/dev/null || fail "python3 is missing"
command -v go >/dev/null || fail "go is missing"

if [[ ! -e "$PYTHON_PACKAGES/.complete" ]]; then
  say "installing grpcio-tools $GRPCIO_TOOLS"
  rm -rf "$PYTHON_PACKAGES"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --target "$PYTHON_PACKAGES" "grpcio-tools==$GRPCIO_TOOLS"
  touch "$PYTHON_PACKAGES/.complete"
fi
if [[ ! -x "$GO_PLUGINS/protoc-gen-go" || ! -x "$GO_PLUGINS/protoc-gen-go-grpc" ]]; then
  say "installing protoc-gen-go $PROTOC_GEN_GO, protoc-gen-go-grpc $PROTOC_GEN_GO_GRPC"
  GOBIN="$GO_PLUGINS" go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
  GOBIN="$GO_PLUGINS" go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"
fi
if command -v protoc >/dev/null; then
  java_protoc=(protoc)
else
  if [[ ! -x "$CACHE/debian/usr/bin/protoc" ]]; then
    command -v apt-get >/dev/null || fail "protoc is missing, and apt-get is not available to install it"
    say "fetching Debian's protoc"
    rm -rf "$CACHE/debian" && mkdir -p "$CACHE/debian/packages"
    # A fresh machine may have no package lists yet.
    apt-cache show protobuf-compiler >/dev/null 2>&1 || apt-get -qq update
    packages="$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
      --no-enhances protobuf-compiler 2>/dev/null | grep -E '^(protobuf-compiler|lib(protoc|protobuf)[0-9].*)$' || true)"
    [[ -n "$packages" ]] || fail "apt has no package protobuf-compiler"
    # Unpacking needs no root, unlike installing.
    (cd "$CACHE/debian/packages" && apt-get -qq download $packages 2>/dev/null) || fail "apt-get could not download $packages"
    for package in "$CACHE"/debian/packages/*.deb; do dpkg-deb -x "$package" "$CACHE/debian"; done
  fi
  libraries="$(dirname "$(find "$CACHE/debian" -name 'libprotoc.so.*' | head -1)")"
  java_protoc=(env "LD_LIBRARY_PATH=$libraries" "$CACHE/debian/usr/bin/protoc")
fi

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
mkdir "$out/go" "$out/python" "$out/java" "$out/pycache"
export PYTHONPATH="$PYTHON_PACKAGES" PYTHONPYCACHEPREFIX="$out/pycache"
readonly GO_MODULE=github.com/memory-service/memory-service/gen/go

mapfile -t files < <(cd proto && find . -name '*.proto' | sed 's|^\./||' | sort)
[[ ${#files[@]} -gt 0 ]] || fail "no .proto files"

say "$(python3 -m grpc_tools.protoc --version) for Go and Python, ${#files[@]} files"
# --fatal_warnings also fails on unused imports, which protoc only warns about.
python3 -m grpc_tools.protoc -I proto --fatal_warnings \
  --python_out="$out/python" --pyi_out="$out/python" --grpc_python_out="$out/python" \
  --plugin="$GO_PLUGINS/protoc-gen-go" --go_out="$out/go" --go_opt="module=$GO_MODULE" \
  --plugin="$GO_PLUGINS/protoc-gen-go-grpc" --go-grpc_out="$out/go" --go-grpc_opt="module=$GO_MODULE" \
  "${files[@]}"
say "$("${java_protoc[@]}" --version) for Java"
# Its own copy of google/protobuf may be in another package; grpcio-tools always has one.
"${java_protoc[@]}" -I proto -I "$PYTHON_PACKAGES/grpc_tools/_proto" --fatal_warnings --java_out="$out/java" "${files[@]}"

say "python: importing"
modules="$(printf '%s\n' "${files[@]}" | sed 's|/|.|g; s|\.proto$|_pb2|')"
(cd "$out/python" && python3 - $modules <<'PYTHON'
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    importlib.import_module(name + "_grpc")
PYTHON
)

say "go: building"
(
  cd "$out/go"
  go mod init "$GO_MODULE" 2>/dev/null
  go mod edit -require="google.golang.org/protobuf@$PROTOC_GEN_GO" -require="google.golang.org/grpc@$GO_GRPC"
  go mod tidy 2>/dev/null || go mod tidy
  go build ./...
)

java_files="$(find "$out/java" -name '*.java' | wc -l)"
[[ $java_files -gt 0 ]] || fail "no Java was generated"
if command -v javac >/dev/null; then
  say "java: parsing $java_files files"
  # Only parse the files, because resolving types would need protobuf's jar.
  find "$out/java" -name '*.java' >"$out/java/files"
  javac -proc:only -implicit:none -d "$out/java" "@$out/java/files" >"$out/java/log" 2>&1 || true
  if grep -E 'error: (.*expected|illegal|unclosed|reached end|code too large|duplicate class)' "$out/java/log"; then
    fail "the Java files do not parse"
  fi
else
  say "java: $java_files files, not parsed: no javac"
fi
say "passed"
