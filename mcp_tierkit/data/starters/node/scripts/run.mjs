import { readFileSync, writeFileSync } from "node:fs";

const inputs = JSON.parse(readFileSync(0, "utf8"));
if (inputs.who === "nobody") {
  console.error("there is nobody to greet");
  process.exit(10);
}
writeFileSync(process.env.PLAYBOOK_RESULT ?? "/dev/stdout", JSON.stringify({ greeting: `Hello, ${inputs.who}!` }));
