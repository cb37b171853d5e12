import json
import os
import sys

inputs = json.load(sys.stdin)
if inputs["who"] == "nobody":
    print("there is nobody to greet", file=sys.stderr)
    sys.exit(10)
with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w") as out:
    json.dump({"greeting": f"Hello, {inputs['who']}!"}, out)
