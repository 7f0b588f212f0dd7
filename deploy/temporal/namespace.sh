#!/bin/sh
# Makes the namespace TEMPORAL_NAMESPACE at TEMPORAL_ADDRESS and the search attributes that workflows set. A worker only
# checks for them, and does not start without. Safe to repeat: what there is already is left alone, a retention that
# somebody has changed included.
# Both variables are read by `temporal` itself, but for a namespace that it is to create.
set -eu

# Each wait has an end: a person who looks at 3 a.m. finds a sentence, not a container that still tries.
patiently() {
  tries=30
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ]; then
      echo "still fails after a minute: $*" >&2
      "$@"
      exit 1
    fi
    sleep 2
  done
}

# An open port is not enough: for a moment the server answers "not healthy yet" to each call.
patiently temporal operator cluster health

# Closed workflows explain an incident: 30 days, as embedded, instead of the server's 3.
if ! temporal operator namespace describe >/dev/null 2>&1; then
  temporal operator namespace create -n "$TEMPORAL_NAMESPACE" --retention 30d
fi
# The caches of the server learn of a new namespace after some seconds.
patiently temporal operator search-attribute list

# The registry of integrations/temporal.py; tests/deploy/test_compose.py keeps the two alike.
while read -r name type; do
  temporal operator search-attribute create --name "$name" --type "$type"
  # Not only known but usable, or the worker that starts next would refuse to.
  patiently temporal workflow count --query "$name IS NULL"
done <<'ATTRIBUTES'
FailureMode Keyword
Step Keyword
Provider Keyword
ConnectionId Keyword
Tenant Keyword
Cause Keyword
Deadline Datetime
ATTRIBUTES

echo "The namespace $TEMPORAL_NAMESPACE is ready."
