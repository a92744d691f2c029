// A queue as liteque writes it: node make.mjs FILE. With DIR/node_modules as the working directory's.
// Prints JSON lines; stays until its input closes, so that the file has a living owner.
import { createInterface } from "node:readline";

const { buildDBClient, SqliteQueue } = await import(process.cwd() + "/node_modules/liteque/dist/index.js");
const db = buildDBClient(process.argv[2], { runMigrations: true });
const options = { defaultJobArgs: { numRetries: 2 }, keepFailedJobs: true };
const crawl = new SqliteQueue("crawl", db, options);
const mail = new SqliteQueue("mail", db, { defaultJobArgs: { numRetries: 0 }, keepFailedJobs: true });
for (let i = 0; i < 5; i++) await crawl.enqueue({ i }, { idempotencyKey: "k" + i });
await crawl.enqueue({ later: 1 }, { delayMs: 3600_000 });
await mail.enqueue({ i: 1 });
let job = await crawl.attemptDequeue({ timeoutSecs: 300 });
await crawl.finalize(job.id, job.allocationId, "completed");
job = await crawl.attemptDequeue({ timeoutSecs: 300 });
await crawl.finalize(job.id, job.allocationId, "pending_retry");
job = await mail.attemptDequeue({ timeoutSecs: 300 });
await mail.finalize(job.id, job.allocationId, "failed");
await crawl.attemptDequeue({ timeoutSecs: 300 });
const lost = await crawl.attemptDequeue({ timeoutSecs: -100 }); // its lease ended 100 s ago
console.log(JSON.stringify({ ready: true, lost: lost.id, stats: await crawl.stats() }));

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "late answer") await crawl.finalize(lost.id, lost.allocationId, "completed");
  if (line === "take") {
    const taken = [];
    for (let next; (next = await crawl.attemptDequeue({ timeoutSecs: 60 })); ) taken.push(next.id);
    console.log(JSON.stringify({ taken, stats: await crawl.stats() }));
    continue;
  }
  if (line === "drain") {
    const done = [];
    for (let next; (next = await crawl.attemptDequeue({ timeoutSecs: 60 })); ) {
      done.push(JSON.parse(next.payload).i);
      await crawl.finalize(next.id, next.allocationId, "completed");
    }
    console.log(JSON.stringify({ done, stats: await crawl.stats() }));
    continue;
  }
  console.log(JSON.stringify({ stats: await crawl.stats() }));
}
