#!/usr/bin/env bash
# Runs `kubectl-pgscale lint` with the inputs of the action, and ends as it does.
set -euo pipefail

words=()
add_lines() { # FLAG TEXT: the flag with each line of the text
  local line
  while IFS= read -r line; do
    line="${line%$'\r'}"
    if [ -n "$line" ]; then words+=("$1=$line"); fi
  done <<<"$2"
}
add_lines --filename "${INPUT_PATH:-}"
add_lines --policy "${INPUT_POLICY:-}"
if [ -n "${INPUT_BASE:-}" ]; then words+=("--diff=$INPUT_BASE"); fi
if [ -n "${INPUT_CURRENT:-}" ]; then words+=("--current=$INPUT_CURRENT"); fi
if [ -n "${INPUT_OPERATOR_CONFIG:-}" ]; then words+=("--operator-config=$INPUT_OPERATOR_CONFIG"); fi
if [ -n "${INPUT_NAMESPACE:-}" ]; then words+=("--namespace=$INPUT_NAMESPACE"); fi

program="${INPUT_PROGRAM:-kubectl-pgscale}"
if [ -n "${INPUT_SARIF:-}" ]; then
  # The annotations below decide about the end.
  "$program" lint "${words[@]}" --output=sarif >"$INPUT_SARIF" || true
fi
exec "$program" lint "${words[@]}" --output=github
