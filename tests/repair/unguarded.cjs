// Leaves traces stuck with the TypeScript SDK alone: one span that never ends, one call that is killed.
const { initLogger } = require("braintrust");

async function main() {
  const logger = initLogger({ projectName: "support-bot", asyncFlush: true });
  const root = logger.startSpan({ name: "typescript" });
  const first = root.startSpan({ name: "first" });
  first.end();
  root.startSpan({ name: "call" });
  await logger.flush();
  process.kill(process.pid, "SIGKILL");
}

main();
