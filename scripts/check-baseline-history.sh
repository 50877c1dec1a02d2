#!/usr/bin/env bash
# The baseline image of the contract may change only together with a line in CHANGELOG.md: every commit that changes it,
# except the one that adds it, must also change the changelog.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly IMAGE=proto/baseline.binpb

if ! git ls-files --error-unmatch "$IMAGE" >/dev/null 2>&1; then
  echo "$IMAGE is not in the repository"
  exit 1
fi
if [[ "$(git rev-parse --is-shallow-repository)" == true ]]; then
  echo "the history is shallow; only the available commits are checked"
fi

first=true
silent=0
while read -r commit; do
  if $first; then
    first=false
  elif [[ -z "$(git diff-tree -r --no-commit-id --name-only "$commit" -- CHANGELOG.md)" ]]; then
    echo "changed without CHANGELOG.md: $(git log -1 --format='%h %s' "$commit")"
    silent=$((silent + 1))
  fi
done < <(git log --reverse --no-merges --format=%H -- "$IMAGE")
[[ $silent == 0 ]]
