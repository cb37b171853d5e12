set -Eeuo pipefail
# A program's own 10 must not be taken for "not for me".
trap 'exit 1' ERR

# Inputs are JSON and stay data: a JSON parser takes them apart, and they are never words of a command.
inputs=$(cat)
field() {
  python3 -c '
import json, sys
name = sys.argv[1]
sys.stdout.write(json.load(sys.stdin)[name])' "$1" <<<"$inputs"
}
# The x keeps line feeds at the end, which $( ) would drop.
who=$(field who; printf x)
who=${who%x}

if [ "$who" = "nobody" ]; then
  echo "there is nobody to greet" >&2
  exit 10
fi

printf 'Hello, %s!' "$who" | python3 -c '
import json, sys
json.dump({"greeting": sys.stdin.read()}, sys.stdout)' >"${PLAYBOOK_RESULT:-/dev/stdout}"
