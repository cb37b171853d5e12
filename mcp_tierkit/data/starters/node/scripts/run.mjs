import { openSync, readFileSync, writeSync } from "node:fs";

const inputs = JSON.parse(readFileSync(0, "utf8"));
if (inputs.who === "nobody") {
  console.error("there is nobody to greet");
  process.exit(10);
}
const out = openSync(process.env.PLAYBOOK_RESULT ?? "/dev/stdout", "w");
writeSync(out, JSON.stringify({ greeting: `Hello, ${inputs.who}!` }));
